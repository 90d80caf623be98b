"""The table of evaluation protocols: the parameters of each, and the class that scores by it."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Literal

from vljepa_jax.config.parsing import ConfigError


def _check_k(k: tuple[int, ...]) -> None:
    if not k or min(k) < 1 or len(set(k)) < len(k):
        raise ConfigError(f"k = {k} must be different numbers of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChooseConfig:
    """A text among candidates: open-vocabulary classification, discriminative VQA."""

    name: Literal["choose"] = "choose"
    k: tuple[int, ...] = (1,)  # metrics "_top1", ...: the correct one is among the first k

    def __post_init__(self) -> None:
        _check_k(self.k)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """A clip among all clips, by a caption: text-to-video retrieval."""

    name: Literal["retrieve"] = "retrieve"
    k: tuple[int, ...] = (1, 5)  # metrics "_r1", "_r5", ...: recall at k

    def __post_init__(self) -> None:
        _check_k(self.k)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """A clip among candidate clips, by the states before and after it (WorldPrediction-WM)."""

    name: Literal["match"] = "match"
    candidate_query: str  # asked of the candidate clips
    k: tuple[int, ...] = (1,)  # metrics "_top1", ...

    def __post_init__(self) -> None:
        _check_k(self.k)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TripletsConfig:
    """Two paraphrases and a hard negative, texts alone (SugarCrepe++, VISLA)."""

    name: Literal["triplets"] = "triplets"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """Captions that the model writes, and the nearest of a bank, scored by CIDEr-D."""

    name: Literal["caption"] = "caption"
    bank_split: str  # of the benchmark's dataset, whose captions are the bank


@dataclasses.dataclass(frozen=True)
class ProtocolEntry:
    """A row of the table.

    Attributes:
        parameters: class of ``config.benchmarks[...].protocol``; its ``name`` is the row's.
        protocol: "module:class" of an ``evals.protocols.base.Protocol``, written as entry points
            of packages are: the table belongs to the config, on which evaluation stands.
    """

    parameters: type
    protocol: str


PROTOCOLS = {
    "choose": ProtocolEntry(ChooseConfig, "vljepa_jax.evals.protocols.choose:Choose"),
    "retrieve": ProtocolEntry(RetrieveConfig, "vljepa_jax.evals.protocols.retrieve:Retrieve"),
    "match": ProtocolEntry(MatchConfig, "vljepa_jax.evals.protocols.match:Match"),
    "triplets": ProtocolEntry(TripletsConfig, "vljepa_jax.evals.protocols.triplets:Triplets"),
    "caption": ProtocolEntry(CaptionConfig, "vljepa_jax.evals.protocols.caption:Caption"),
}

# The type of the field; which of them is meant, its ``name`` says.
AnyProtocol = functools.reduce(operator.or_, (entry.parameters for entry in PROTOCOLS.values()))

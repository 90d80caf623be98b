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
    # Metrics "_r1", ...: the same as a mean over the classes that are correct somewhere, which is
    # mean-class accuracy for 1 and EPIC-KITCHENS' recall for 5.
    recall: tuple[int, ...] = ()
    # The first n of the candidates alone, without the examples whose answer is beyond; 0 for all.
    candidates: int = 0

    def __post_init__(self) -> None:
        _check_k(self.k)
        if self.recall:
            _check_k(self.recall)


@dataclasses.dataclass(frozen=True, kw_only=True)
class YesNoConfig:
    """Yes or no (POPE): accuracy, precision and recall of "yes", F1, and the share of "yes"."""

    name: Literal["yes_no"] = "yes_no"
    macro: str = ""  # a tag: figures are means of those of each of its values; "" for all at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """A clip among all clips, by a caption: text-to-video retrieval, and the other way."""

    name: Literal["retrieve"] = "retrieve"
    k: tuple[int, ...] = (1, 5)  # metrics "_r1", "_r5", ...: recall at k
    video_to_text: bool = False  # metrics "_v2t_r1", ...: a caption among all, by its clip
    median_rank: bool = False  # metric "_median_rank", and "_v2t_median_rank"

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
    macro: str = ""  # a tag: metric "_macro" is the mean of its values' shares; "" for none


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """Captions that the model writes, and the nearest of a bank, scored by CIDEr-D."""

    name: Literal["caption"] = "caption"
    bank_split: str  # of the benchmark's dataset, whose captions are the bank; "" for no bank
    tokens: Literal["words", "ptb"] = "words"  # evals/captions.py; published figures are of "ptb"


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
    "yes_no": ProtocolEntry(YesNoConfig, "vljepa_jax.evals.protocols.yes_no:YesNo"),
}

# The type of the field; which of them is meant, its ``name`` says.
AnyProtocol = functools.reduce(operator.or_, (entry.parameters for entry in PROTOCOLS.values()))

"""The interface of an objective: one way to train, as data for the one step (``train_step.py``).

An objective is split into ``represent`` (rows -> embeddings, each row on its own) and ``loss``
(embeddings of the whole batch -> number), so that a batch too large for the memory can be
represented piece by piece and still have the loss, and the gradient, of the whole.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import TrainConfig

PyTree = Any
Arrays = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the parameters, as the summary counts them.

    Attributes:
        name: for people.
        pattern: regex, searched in the paths of the parameters; the first match counts.
        paper: what the paper says of its own size (3.1), or "".
    """

    name: str
    pattern: str
    paper: str = ""


class Objective(abc.ABC):
    """One way to train. Implementations hold modules and settings, never arrays."""

    parts: ClassVar[tuple[Part, ...]]  # of the parameters, all of which some pattern matches

    @abc.abstractmethod
    def __init__(self, config: TrainConfig) -> None:
        """Builds the modules; raises ConfigError where settings cannot be."""

    @staticmethod
    @abc.abstractmethod
    def seen(config: TrainConfig, visual: int) -> str:
        """Describes the input of a row, for the summary: "8 visual tokens are seen".

        Args:
            visual: tokens that a clip becomes; 0 where the config has no video.
        """

    @abc.abstractmethod
    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns random (params, extra); ``extra`` is state without gradient, or ``{}``."""

    @abc.abstractmethod
    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> PyTree:
        """Returns what the loss compares: floating-point arrays [rows, ...].

        No row may depend on another one.

        Args:
            arrays: rows of a batch, or some of them, as ``data.pipeline`` names them.
            rng: the key of these rows and this step, for objectives that draw at random.
        """

    @abc.abstractmethod
    def loss(
        self,
        params: PyTree,
        representations: PyTree,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        """Returns the loss of the whole batch and metrics without gradient.

        Args:
            rng: the key of this step.
            mesh: over which the rows are divided; ``None`` where they are not.
        """

    def init_extra(self, params: PyTree) -> PyTree:
        """Returns the ``extra`` that belongs to parameters of another origin than ``init``."""
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        """Returns ``extra`` after an update that gave ``params``, e.g. an averaged teacher."""
        del params
        return extra

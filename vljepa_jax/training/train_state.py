"""The training state, apart from what makes it, so that checkpoints are read without a trainer."""

from __future__ import annotations

from typing import Any

from flax import struct
from jaxtyping import Array, Int

PyTree = Any


@struct.dataclass
class TrainState:
    """Everything that a step changes. Random numbers are not among it: see ``train_step.step_rng``.

    Attributes:
        step: made so far, with those whose update was left out: the one count that the schedule,
            the log, the random numbers and the position in the data go by.
        params: all parameters, frozen ones included.
        opt_state: of the trained parameters.
        extra: the objective's state without gradient.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    extra: PyTree

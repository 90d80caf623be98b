"""How an array of a published checkpoint lies as a parameter, and back."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np


class Misfit(ValueError):
    """An array that is not what is expected; the message continues "KEY: "."""


class Transform(Protocol):
    """``to_source(to_parameter(a))`` is ``a``.

    Attributes:
        rank: dimensions that an array of the source must have; None for any.
    """

    rank: int | None

    def to_parameter(self, array: np.ndarray) -> np.ndarray: ...

    def to_source(self, array: np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Same:
    """Norms, biases and embedding tables."""

    rank: int | None = None

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        return array

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array


@dataclasses.dataclass(frozen=True)
class Linear:
    """torch's [out, in] <-> [in, out]."""

    rank: int = 2

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        return array.T

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array.T


@dataclasses.dataclass(frozen=True)
class Convolution:
    """torch's [out, c, *window] <-> [window * c, out], a convolution of patches as a matrix.

    Attributes:
        window: (h, w) or (t, h, w).
    """

    window: tuple[int, ...]

    @property
    def rank(self) -> int:
        return 2 + len(self.window)

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        if array.shape[2:] != self.window:
            raise Misfit(f"has a window of {array.shape[2:]}; the model's is {self.window}")
        return np.moveaxis(array, (0, 1), (-1, -2)).reshape(-1, array.shape[0])

    def to_source(self, array: np.ndarray) -> np.ndarray:
        whole = array.reshape(*self.window, -1, array.shape[1])
        return np.moveaxis(whole, (-1, -2), (0, 1))


@dataclasses.dataclass(frozen=True)
class Leading:
    """What is the same for all rows of a batch: leading axes of 1 that a parameter lacks.

    Attributes:
        rank: of the source: 3 for a vector [1, 1, d] or a table [1, n, d].
        axes: how many of these axes there are.
    """

    axes: int
    rank: int = 3

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        leading = array.shape[: self.axes]
        return array.reshape(array.shape[self.axes :]) if set(leading) == {1} else array

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array.reshape((1,) * self.axes + array.shape)


SAME = Same()
LINEAR = Linear()
VECTOR = Leading(axes=2)  # [1, 1, d] <-> [d]
POSITIONS = Leading(axes=1)  # [1, n, d] <-> [n, d]

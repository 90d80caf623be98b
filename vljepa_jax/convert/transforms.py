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
class Convolution3D:
    """torch's [out, c, t, h, w] <-> [t * h * w * c, out], the convolution as a matrix.

    Attributes:
        window: (t, h, w).
    """

    window: tuple[int, int, int]
    rank: int = 5

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        if array.shape[2:] != self.window:
            raise Misfit(f"has a window of {array.shape[2:]}; the model's is {self.window}")
        return array.transpose(2, 3, 4, 1, 0).reshape(-1, array.shape[0])

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(*self.window, -1, array.shape[1]).transpose(4, 3, 0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Broadcast:
    """A vector that is added to all tokens: [1, 1, d] <-> [d]."""

    rank: int = 3

    def to_parameter(self, array: np.ndarray) -> np.ndarray:
        return array[0, 0] if array.shape[:2] == (1, 1) else array

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return array[None, None]


SAME = Same()
LINEAR = Linear()
BROADCAST = Broadcast()

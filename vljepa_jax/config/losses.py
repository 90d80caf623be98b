"""The loss of a VL-JEPA, with its alternatives."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class VICRegConfig:
    """Weights of the three parts."""

    invariance: float
    variance: float
    covariance: float


@dataclasses.dataclass(frozen=True)
class SIGRegConfig:
    weight: float  # of the regularisation, 0 .. 1; the distance of pairs has the rest
    directions: int  # random ones, on which the embeddings shall be Gaussian


@dataclasses.dataclass(frozen=True)
class LossConfig:
    name: Literal["info_nce", "cosine", "l1", "l2", "vic_reg", "sig_reg"]
    # "info_nce": rows with the same target text are not each other's negatives
    mask_equal_targets: bool
    vic_reg: VICRegConfig
    sig_reg: SIGRegConfig

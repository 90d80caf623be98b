"""Losses between what is predicted and what is right, and what shows that embeddings collapse.

Rows are those of the global batch: under ``jax.jit`` with rows divided over devices the formulas
see all of them.
"""

from vljepa_jax.losses.contrastive import info_nce
from vljepa_jax.losses.metrics import (
    Histogram,
    Metrics,
    embedding_metrics,
    group_losses,
    teacher_metrics,
)
from vljepa_jax.losses.regression import cosine, draw_directions, l1, l2, sig_reg, vic_reg
from vljepa_jax.losses.soft_maxsim import soft_maxsim
from vljepa_jax.losses.supervised import cross_entropy, masked_prediction
from vljepa_jax.losses.vocabulary import token_cross_entropy

__all__ = [
    "Histogram",
    "Metrics",
    "cosine",
    "cross_entropy",
    "draw_directions",
    "embedding_metrics",
    "group_losses",
    "info_nce",
    "l1",
    "l2",
    "soft_maxsim",
    "masked_prediction",
    "sig_reg",
    "teacher_metrics",
    "token_cross_entropy",
    "vic_reg",
]

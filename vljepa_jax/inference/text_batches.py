"""Texts of many lengths -> batches of few shapes, for which a model compiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh

from vljepa_jax.models.placement import bucket_rows, pad_rows, power_of_two

_SHORTEST = 16  # tokens of the smallest bucket


def text_batches(
    tokens: np.ndarray, mask: np.ndarray, batch_size: int, mesh: Mesh
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (rows, tokens, mask): batches of texts of similar length.

    Args:
        tokens: [n, t], padded on the right.
        mask: [n, t].
        batch_size: texts at once.
        mesh: over which they are divided.
    """
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    # The last of several batches is filled up: cheaper than a program of its own.
    size = bucket_rows(len(order), batch_size, mesh)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = max(_SHORTEST, power_of_two(int(lengths[rows].max())))
        # Right-padded, so that a prefix holds all tokens; it is no longer than the config's.
        yield rows, pad_rows(tokens[rows, :longest], size), pad_rows(mask[rows, :longest], size)

"""Exact search among many embeddings: blocks of scores on the device, none of them kept.

A million embeddings of 1,536 dimensions are six gigabytes, and their scores with as many queries
four terabytes: what is kept is a few numbers a query. Embeddings may be memory-mapped files.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_QUERIES, _ITEMS = 1 << 10, 1 << 14  # of a block of scores: 64 MB


class Nearest(NamedTuple):
    """The items nearest to each of q queries, best first; of equal ones the earlier.

    Attributes:
        scores: cosines; -inf where there are fewer than k items.
        rows: indices of the items; -1 where there are fewer.
    """

    scores: Float[np.ndarray, "q k"]
    rows: Int[np.ndarray, "q k"]


class Ranking(NamedTuple):
    """Where the correct items of each of q queries stand.

    Attributes:
        ranks: wrong items before the best correct one; an equal score counts as before it.
        correct: the row of that one.
        nearest: see ``Nearest``.
    """

    ranks: Int[np.ndarray, " q"]
    correct: Int[np.ndarray, " q"]
    nearest: Nearest


def nearest(
    queries: Float[np.ndarray, "q e"],
    blocks: Iterable[Float[np.ndarray, "n e"]],
    k: int,
    *,
    block: tuple[int, int] = (_QUERIES, _ITEMS),
) -> Nearest:
    """The k items nearest to each query.

    Args:
        queries: unit vectors.
        blocks: the items, unit vectors, in parts of any size, whose rows are counted through. A
            row of NaN is an item that is never found.
        k: at least 1.
        block: queries and items that are scored at once.
    """
    found = _nothing(len(queries), k)
    first = 0
    for part in blocks:
        for here, scores in _blocks(queries, part, block):
            rows, items = here
            _merge(found, rows, scores, first + items.start)
        first += len(part)
    return found


def rank(
    queries: Float[np.ndarray, "q e"],
    items: Float[np.ndarray, "n e"],
    correct: Sequence[Collection[int]],
    k: int,
    *,
    block: tuple[int, int] = (_QUERIES, _ITEMS),
) -> Ranking:
    """Ranks all items for each query, and keeps where the correct ones stand, and the k nearest.

    Args:
        queries: unit vectors.
        items: unit vectors. A row of NaN is an item that is found after all others.
        correct: [q] rows of the correct items of each query, at least one.
        k: at least 1.
        block: queries and items that are scored at once.
    """
    owner = np.repeat(np.arange(len(queries)), [len(own) for own in correct])
    row = np.fromiter((item for own in correct for item in sorted(own)), np.int64, len(owner))
    scored = np.zeros(len(owner), np.float32)
    across = -(-len(items) // block[1])  # blocks of items
    tiles = owner // block[0] * across + row // block[1]
    order = np.argsort(tiles, kind="stable")
    numbers, starts = np.unique(tiles[order], return_index=True)
    of_tile = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
    # The scores of correct items come from the same program as all others, so that equal
    # embeddings have equal ones.
    wanted = {divmod(number, across) for number in of_tile}
    for (rows, columns), scores in _blocks(queries, items, block, wanted):
        own = of_tile[rows.start // block[0] * across + columns.start // block[1]]
        taken = _padded(owner[own] - rows.start), _padded(row[own] - columns.start)
        scored[own] = np.asarray(_taken(scores, *taken))[: len(own)]
    # The best of each query's own, of equal ones the earlier.
    order = np.lexsort((-scored, owner))
    at = order[np.searchsorted(owner[order], np.arange(len(queries)))]
    best = scored[at]
    # Of the correct items, those that ``_counted`` counts too.
    own = np.bincount(owner, weights=~(scored < best[owner]), minlength=len(queries))
    before = np.zeros(len(queries), np.int64)
    found = _nothing(len(queries), k)
    for (rows, columns), scores in _blocks(queries, items, block):
        size = len(queries[rows]), len(items[columns])
        counted = _counted(scores, _rows(best[rows], block[0]), size[1])
        before[rows] += np.asarray(counted)[: size[0]]
        _merge(found, rows, scores, columns.start)
    return Ranking(before - own.astype(np.int64), row[at], found)


def _nothing(queries: int, k: int) -> Nearest:
    return Nearest(np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64))


def _blocks(
    queries: np.ndarray,
    items: np.ndarray,
    block: tuple[int, int],
    wanted: Collection[tuple[int, int]] | None = None,
) -> Iterator[tuple[tuple[slice, slice], Float[Array, "Q N"]]]:
    """Yields the place of each block of scores, and the block; rows and columns beyond are padded.

    Args:
        wanted: blocks by their numbers; ``None`` for all.
    """
    for column, start in enumerate(range(0, len(items), block[1])):
        numbers = [
            number
            for number in range(-(-len(queries) // block[0]))
            if wanted is None or (number, column) in wanted
        ]
        if not numbers:
            continue
        columns = slice(start, min(start + block[1], len(items)))
        placed = jax.device_put(_rows(items[columns], block[1]))
        for number in numbers:
            rows = slice(number * block[0], min((number + 1) * block[0], len(queries)))
            scores = _scores(_rows(queries[rows], block[0]), placed, columns.stop - start)
            yield (rows, columns), scores


def _rows(array: np.ndarray, largest: int) -> np.ndarray:
    """Zeros below, up to a power of two of at most ``largest`` rows: few sizes are compiled."""
    size = min(1 << max(0, len(array) - 1).bit_length(), largest)
    return np.pad(
        np.asarray(array, np.float32), [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1)
    )


def _padded(indices: np.ndarray) -> np.ndarray:
    return np.pad(indices, (0, (1 << max(0, len(indices) - 1).bit_length()) - len(indices)))


@jax.jit
def _scores(
    queries: Float[Array, "Q e"], items: Float[Array, "N e"], count: int
) -> Float[Array, "Q N"]:
    """Cosines; -inf for what is NaN or beyond the first ``count`` items."""
    scores = jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST)
    lost = jnp.isnan(items).any(axis=1) | (jnp.arange(len(items)) >= count)
    return jnp.where(lost, -jnp.inf, scores)


@jax.jit
def _taken(scores: Array, rows: Array, columns: Array) -> Array:
    return scores[rows, columns]


@jax.jit
def _counted(scores: Float[Array, "Q N"], best: Float[Array, " Q"], count: int) -> Int[Array, " Q"]:
    """How many of the first ``count`` items do not score below ``best``."""
    inside = jnp.arange(scores.shape[1]) < count
    return jnp.sum(~(scores < best[:, None]) & inside, axis=1)


@functools.partial(jax.jit, static_argnames="k")
def _largest(scores: Float[Array, "Q N"], k: int) -> tuple[Array, Array]:
    return jax.lax.top_k(scores, min(k, scores.shape[1]))


def _merge(found: Nearest, rows: slice, scores: Float[Array, "Q N"], first: int) -> None:
    """Takes a block's best into what was found before; of equal ones the earlier stays."""
    k = found.scores.shape[1]
    size = rows.stop - rows.start
    values, columns = (np.asarray(part)[:size] for part in _largest(scores, k))
    values = np.concatenate([found.scores[rows], values], axis=1)
    places = np.where(np.isneginf(values[:, k:]), -1, columns + first)
    places = np.concatenate([found.rows[rows], places], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    found.scores[rows] = np.take_along_axis(values, order, axis=1)
    found.rows[rows] = np.take_along_axis(places, order, axis=1)

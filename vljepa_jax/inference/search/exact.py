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
from jaxtyping import Array, Bool, Float, Int

_QUERIES, _ITEMS = 1 << 10, 1 << 14  # of a block of scores: 64 MB
_MANY = 1 << 30  # more rows than anyone has


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


class Placed(NamedTuple):
    """Items that lie on the device (``place``).

    Attributes:
        count: how many; the rows below are zeros.
        rows: unit vectors.
    """

    count: int
    rows: Float[Array, "N e"]


def place(blocks: Iterable[Float[np.ndarray, "n e"]], size: int = _ITEMS) -> Iterator[Placed]:
    """Puts items on the device, ``size`` at a time; a list of these serves many searches.

    Args:
        blocks: the items, unit vectors, in parts of any size, whose rows are counted through.
        size: items of a block.
    """
    for items in _regrouped(blocks, size):
        yield Placed(len(items), jax.device_put(_rows(items, size)))


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
    return nearest_placed(queries, place(blocks, block[1]), k, block=block[0])


def nearest_placed(
    queries: Float[np.ndarray, "q e"],
    placed: Iterable[Placed],
    k: int,
    *,
    block: int = _QUERIES,
    allowed: Bool[np.ndarray, " n"] | None = None,
    apart: tuple[Float[np.ndarray, "m e"], float] | None = None,
) -> Nearest:
    """``nearest`` among items that ``place`` gives or gave.

    Args:
        block: queries that are scored at once.
        allowed: items that may be found; ``None`` for all.
        apart: vectors, and the cosine, over 0, to any of these from which on an item is not found.
    """
    found = _nothing(len(queries), k)
    first = 0
    for count, items in placed:
        valid = np.zeros(len(items), bool)
        valid[:count] = True if allowed is None else allowed[first : first + count]
        if valid.any():
            if apart is not None:
                valid = _apart(items, _rows(apart[0], _MANY), apart[1], valid)
            for start in range(0, len(queries), block):
                here = slice(start, min(start + block, len(queries)))
                scores = _scores(_rows(queries[here], block), items, valid)
                _merge(found, here, scores, first)
        first += count
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
        valid = np.arange(len(placed)) < columns.stop - start
        for number in numbers:
            rows = slice(number * block[0], min((number + 1) * block[0], len(queries)))
            scores = _scores(_rows(queries[rows], block[0]), placed, valid)
            yield (rows, columns), scores


def _regrouped(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in arrays of ``size``; the last one is shorter."""
    parts: list[np.ndarray] = []
    missing = size
    for block in blocks:
        while len(block):
            parts.append(block[:missing])
            block = block[missing:]
            missing -= len(parts[-1])
            if not missing:
                yield np.concatenate(parts) if len(parts) > 1 else parts[0]
                parts, missing = [], size
    if parts:
        yield np.concatenate(parts) if len(parts) > 1 else parts[0]


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
    queries: Float[Array, "Q e"], items: Float[Array, "N e"], valid: Bool[Array, " N"]
) -> Float[Array, "Q N"]:
    """Cosines; -inf for what is not valid, and for items or queries with a NaN."""
    scores = _cosines(queries, items)
    # Told by the scores, as a look at the items would be a second pass over them.
    return jnp.where(jnp.isnan(scores) | ~valid, -jnp.inf, scores)


@jax.jit
def _apart(
    items: Float[Array, "N e"], others: Float[Array, "M e"], least: float, valid: Bool[Array, " N"]
) -> Bool[Array, " N"]:
    """The valid items but for those whose cosine to one of the others is ``least`` or more."""
    return valid & ~(_cosines(others, items) >= least).any(axis=0)


def _cosines(one: Float[Array, "M e"], other: Float[Array, "N e"]) -> Float[Array, "M N"]:
    return jnp.matmul(one, other.T, precision=jax.lax.Precision.HIGHEST)


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

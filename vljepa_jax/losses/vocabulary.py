"""Cross-entropy over a vocabulary, in the memory of a few tokens' logits.

Axes: B rows, t places of a row, a tokens that are looked up at one place, d width, v vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from vljepa_jax.parallel.sharding import ROW_AXES, row_shards

PyTree = Any
# (table, features [b, t, d]) -> float32 logits [b, t, v]
LogitsOf = Callable[[PyTree, Array], Array]

# Logits that a device holds at a time: 512 MiB of float32, more than InfoNCE's. Every chunk reads
# the table and adds to its gradient, which small chunks of a large vocabulary would take long with.
_LOGITS_AT_ONCE = 2**27


def token_cross_entropy(
    features: Float[Array, "B t d"],
    logits_of: LogitsOf,
    table: PyTree,
    tokens: Int[Array, "B t a"],
    *,
    mesh: Mesh | None = None,
    logits_at_once: int = _LOGITS_AT_ONCE,
) -> tuple[Float[Array, "B t a"], Int[Array, "B t"]]:
    """Cross-entropy of tokens, in nats, and the likeliest token of each place.

    Where the B x t x v logits are more than ``logits_at_once``, they do not exist: the places of
    all rows are taken a few at a time, whose logits the backward pass computes again. Every device
    takes its own rows, so that the table is gathered, and its gradient summed, once for all chunks.

    Args:
        features: from which the logits are computed.
        logits_of: table, features [b, t, d] -> float32 logits [b, t, v], each place on its own.
        table: parameters, whose gradients are those of all rows.
        tokens: those whose cross-entropy is wanted, under the one distribution of their place.
        mesh: where the rows are divided, as ``sharding.batch_sharding`` lays them; ``None`` where
            they are not.
        logits_at_once: on a device; at least one place's of all its rows are held.
    """
    rows, places = features.shape[:2]
    vocabulary = jax.eval_shape(logits_of, table, features).shape[-1]
    if mesh is not None and rows % row_shards(mesh):
        mesh = None  # rows that do not share out are whole on every device
    held = rows // (1 if mesh is None else row_shards(mesh))
    count = max(1, logits_at_once // (held * vocabulary))
    if count >= places:
        return _compare(logits_of, table, features, tokens)
    compare = functools.partial(_by_chunks, logits_of, count)
    if mesh is None:
        return compare(table, features, tokens)

    def own_rows(table: PyTree, features: Array, tokens: Array) -> tuple[Array, Array]:
        # Or the gradient would be summed over the devices within the loop.
        return compare(jax.lax.pcast(table, ROW_AXES, to="varying"), features, tokens)

    by_rows = PartitionSpec(ROW_AXES)
    return jax.shard_map(
        own_rows,
        mesh=mesh,
        in_specs=(PartitionSpec(), by_rows, by_rows),
        out_specs=by_rows,
        axis_names=set(ROW_AXES),  # a vocabulary that is divided over others may stay so
    )(table, features, tokens)


def _by_chunks(
    logits_of: LogitsOf, count: int, table: PyTree, features: Array, tokens: Array
) -> tuple[Array, Array]:
    """``_compare`` for ``count`` places at a time, and for those that are left."""
    rows, places = features.shape[:2]
    whole = places - places % count

    @jax.checkpoint  # else the backward pass would keep what is not held at once
    def at(chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        return _compare(logits_of, table, *chunk)

    def chunks(x: Array) -> Array:
        return x[:, :whole].reshape(rows, -1, count, *x.shape[2:]).swapaxes(0, 1)

    def joined(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(rows, whole, *x.shape[3:])

    found = jax.tree.map(joined, jax.lax.map(at, (chunks(features), chunks(tokens))))
    if whole == places:
        return found
    rest = at((features[:, whole:], tokens[:, whole:]))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), found, rest)


def _compare(
    logits_of: LogitsOf, table: PyTree, features: Array, tokens: Array
) -> tuple[Float[Array, "B t a"], Int[Array, "B t"]]:
    logits = logits_of(table, features)
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens, axis=-1)
    return nll, jnp.argmax(logits, axis=-1)

"""InfoNCE over the global batch, in the memory of a few rows' logits.

Axes: B rows of the global batch, E embedding, N more wrong targets. Embeddings are unit vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.losses.metrics import Metrics, group_losses
from vljepa_jax.parallel.sharding import ROW_AXES

# Logits that a device holds at a time: 64 MiB of float32. Up to a batch of 4,096 on one device
# that is all of them.
_LOGITS_AT_ONCE = 2**24


def info_nce(
    predicted: Float[Array, "B E"],
    target: Float[Array, "B E"],
    logit_scale: Float[Array, ""],
    target_id: Int[Array, " B"] | None = None,
    negatives: Float[Array, "N E"] | None = None,
    negative_id: Int[Array, " N"] | None = None,
    *,
    group: Int[Array, " B"] | None = None,
    group_names: Mapping[int, str] = MappingProxyType({}),
    mesh: Mesh | None = None,
    logits_at_once: int = _LOGITS_AT_ONCE,
) -> tuple[Float[Array, ""], Metrics]:
    """Bidirectional InfoNCE over the batch (VL-JEPA section 2; van den Oord et al. 2018).

    The mean of two cross-entropies in nats: find a prediction's target among all targets, and a
    target's prediction among all predictions. A model that knows nothing has loss ln B.

    Every device gathers the embeddings of the whole batch and compares its own rows with them, a
    few rows at a time, whose logits the backward pass computes again. So no B x B array exists,
    and the gradient of a row that stands on another device travels back to it.

    Args:
        predicted: unit vectors.
        target: unit vectors, row i belonging to row i of ``predicted``.
        logit_scale: what cosines are multiplied with, 1 / temperature.
        target_id: equal where the target texts are equal; such rows are then not each other's
            negatives. ``None`` takes every other row as a negative.
        negatives: unit vectors of more wrong targets, for every row alike; ``None`` for no more.
        negative_id: theirs, given with ``target_id``: a row is not told apart from its equals.
        group: of each row, the number of the group whose loss is told apart.
        group_names: of the groups that are told, which must have a row in every batch.
        mesh: where the rows are divided, as ``sharding.batch_sharding`` lays them; ``None`` where
            they are not.
        logits_at_once: of each direction, on a device; at least one row's are held.
    """
    rows = predicted.shape[0]
    if negatives is None:
        negatives, negative_id = predicted[:0], jnp.zeros(0, jnp.int32)
    if target_id is None:
        target_id = jnp.arange(rows, dtype=jnp.int32)
        negative_id = jnp.full(negatives.shape[0], -1, jnp.int32)
    compare = functools.partial(_compare, logits_at_once=logits_at_once, gather=None)
    if mesh is not None:
        gather = _gather_by_sum if _uses_gloo(mesh) else _gather
        compare = functools.partial(compare, gather=gather)
        by_rows = PartitionSpec(ROW_AXES)
        compare = jax.shard_map(
            compare,
            mesh=mesh,
            in_specs=(by_rows, by_rows, PartitionSpec(), by_rows, by_rows, by_rows),
            out_specs=by_rows,
        )
    nll, correct = compare(predicted, target, logit_scale, target_id, negatives, negative_id)
    accuracy = jnp.mean(correct, axis=0)
    metrics = {
        "accuracy/to_target": accuracy[0],
        "accuracy/to_prediction": accuracy[1],
        "log_batch_size": jnp.log(jnp.float32(rows)),
        "temperature": 1.0 / logit_scale,
    }
    return jnp.mean(nll), metrics | group_losses(nll, group, group_names)


def _compare(
    predicted: Float[Array, "b E"],
    target: Float[Array, "b E"],
    scale: Float[Array, ""],
    target_id: Int[Array, " b"],
    negatives: Float[Array, "n E"],
    negative_id: Int[Array, " n"],
    *,
    logits_at_once: int,
    gather: Callable[[Array], Array] | None,
) -> tuple[Float[Array, "b 2"], Bool[Array, "b 2"]]:
    """A device's rows against the whole batch: nll and hits, to the target and back.

    Args:
        gather: makes the batch of all devices' rows; ``None`` where they are not divided.
    """

    def whole(local: Array) -> Array:
        if gather and len(local):  # no more negatives: nothing is not to be gathered
            return gather(local)
        return local

    rows = predicted.shape[0]
    first = jax.lax.axis_index(ROW_AXES) * rows if gather else 0
    own = first + jnp.arange(rows)
    ids = whole(target_id)
    find = functools.partial(_find, own=own, ids=target_id, scale=scale, at_once=logits_at_once)
    to_target = find(
        predicted,
        candidates=jnp.concatenate([whole(target), whole(negatives)]),
        candidate_ids=jnp.concatenate([ids, whole(negative_id)]),
    )
    to_prediction = find(target, candidates=whole(predicted), candidate_ids=ids)
    nll, correct = zip(to_target, to_prediction, strict=True)
    return jnp.stack(nll, axis=1), jnp.stack(correct, axis=1)


def _gather(local: Array) -> Array:
    return jax.lax.all_gather(local, ROW_AXES, tiled=True)


def _gather_by_sum(local: Array) -> Array:
    """The same with all-reduces alone, also backwards, where ``_gather`` has a reduce-scatter.

    That of Gloo (jaxlib 0.10 to 0.12) waits for ever now and then: it loses a message that comes
    late. jax issues 40830 and 40831 tell of wrong sums and errors as well.
    """
    whole = jnp.zeros((jax.lax.axis_size(ROW_AXES) * len(local), *local.shape[1:]), local.dtype)
    start = jax.lax.axis_index(ROW_AXES) * len(local)
    return jax.lax.psum(jax.lax.dynamic_update_slice_in_dim(whole, local, start, 0), ROW_AXES)


def _uses_gloo(mesh: Mesh) -> bool:
    """Whether processes on CPUs share the mesh."""
    devices = mesh.devices.flat
    return devices[0].platform == "cpu" and len({device.process_index for device in devices}) > 1


def _find(
    queries: Float[Array, "b E"],
    *,
    own: Int[Array, " b"],
    ids: Int[Array, " b"],
    candidates: Float[Array, "M E"],
    candidate_ids: Int[Array, " M"],
    scale: Float[Array, ""],
    at_once: int,
) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """Cross-entropy of finding each query's own candidate, in nats, and whether it comes first.

    Args:
        own: the place of a query's candidate among all.
        ids: equal to those of candidates that are no negatives of the query.
        at_once: logits held at a time.
    """
    places = jnp.arange(candidates.shape[0])

    @jax.checkpoint  # else the backward pass would keep what is not held at once
    def one(query, own, identity):
        logits = scale * jnp.einsum(
            # In float32 also where the backend would multiply in less.
            *("e,me->m", query, candidates),
            precision="highest",
            preferred_element_type=jnp.float32,
        )
        logits = jnp.where((candidate_ids == identity) & (places != own), -jnp.inf, logits)
        return jax.nn.logsumexp(logits) - logits[own], jnp.argmax(logits) == own

    return jax.lax.map(
        lambda row: one(*row),
        (queries, own, ids),
        batch_size=max(1, at_once // candidates.shape[0]),
    )

"""Metrics that show whether embeddings collapse. None has a gradient.

Axes: B rows of the batch, E embedding, N tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

# Rows that the estimates use: their cost must not grow with the batch.
_SAMPLE = 512
_BINS = 40  # of a histogram


@struct.dataclass
class Histogram:
    """Attributes: counts of values in equal bins between ``low`` and ``high``, int32 [bins]."""

    counts: Int[Array, " bins"]
    low: float = struct.field(pytree_node=False)
    high: float = struct.field(pytree_node=False)


# Scalars and histograms of a step, by the names that logs show.
Metrics = dict[str, Array | Histogram]


def group_losses(
    losses: Float[Array, "B ..."],
    group: Int[Array, " B"] | None,
    names: Mapping[int, str],
    name: str = "loss",
) -> Metrics:
    """The mean loss of the rows of each group, as NAME/GROUP.

    Args:
        losses: of each row, one or several.
        group: of each row, the number of its group; ``None`` where none is told.
        names: of the groups that are told, which must have a row in every batch.
        name: of the losses.
    """
    own = jax.lax.stop_gradient(losses).reshape(losses.shape[0], -1)
    return {
        f"{name}/{told}": jnp.mean(own, where=(group == number)[:, None])
        for number, told in names.items()
    }


def teacher_metrics(
    target: Float[Array, "B N D"],
) -> Metrics:
    """Shows collapse of the teacher; ``target`` is normalised over the features of each token.

    target/std: of a feature over all tokens of the batch, mean over features; near 1 when tokens
        differ in everything, 0 when all are equal.
    target/std_of_clips: the same of the clips' means: what tells one clip from another.
    target/rank: of the clips' means around their own mean, the participation ratio of
        ``embedding_metrics``: how many directions tell clips apart.
    """
    target = jax.lax.stop_gradient(target)
    clips = jnp.mean(target, axis=1)
    sample = clips[:_SAMPLE]
    return {
        "target/std": jnp.mean(jnp.std(target, axis=(0, 1))),
        "target/std_of_clips": jnp.mean(jnp.std(clips, axis=0)),
        "target/rank": _participation_ratio(sample - jnp.mean(sample, axis=0)),
    }


def embedding_metrics(predicted: Float[Array, "B E"], target: Float[Array, "B E"]) -> Metrics:
    """Shows collapse: how near pairs lie, and how the embeddings fill the sphere.

    alignment is the mean squared distance of pairs and uniformity the log mean Gaussian potential
    of different rows (Wang & Isola 2020): 0 when all are equal, about -4 when spread over a
    sphere of many dimensions. rank is the participation ratio tr(M)^2 / tr(M^2) of the second
    moments M: how many dimensions are used about equally, 1 when all embeddings are equal.
    similarity/target: cosines of different rows' targets; they pile up at 1 in a collapse.
    """
    predicted, target = jax.lax.stop_gradient((predicted, target))
    metrics = {"alignment": jnp.mean(jnp.sum((predicted - target) ** 2, axis=-1))}
    for name, embeddings in (("prediction", predicted), ("target", target)):
        sample = embeddings[:_SAMPLE]
        metrics[f"uniformity/{name}"] = _uniformity(sample)
        metrics[f"rank/{name}"] = _participation_ratio(sample)
    metrics["similarity/target"] = _similarities(target[:_SAMPLE])
    return metrics


def _similarities(embeddings: Float[Array, "B E"]) -> Histogram:
    """Of all pairs of different rows, each once."""
    rows = embeddings.shape[0]
    cosines = _inner(embeddings, embeddings)
    pairs = jnp.triu(jnp.ones((rows, rows), bool), 1)
    bins = jnp.clip(jnp.floor((cosines + 1) / 2 * _BINS), 0, _BINS - 1).astype(jnp.int32)
    # Summed bin by bin: a scatter of 512 x 512 values is slow on accelerators.
    each = jax.lax.map(lambda index: jnp.sum(pairs & (bins == index)), jnp.arange(_BINS))
    return Histogram(each.astype(jnp.int32), -1.0, 1.0)


def _uniformity(embeddings: Float[Array, "B E"]) -> Float[Array, ""]:
    rows = embeddings.shape[0]
    squared_distance = 2.0 - 2.0 * _inner(embeddings, embeddings)
    others = ~jnp.eye(rows, dtype=bool)
    return jnp.log(jnp.sum(jnp.exp(-2.0 * squared_distance), where=others) / (rows * (rows - 1)))


def _participation_ratio(embeddings: Float[Array, "B E"]) -> Float[Array, ""]:
    moments = _inner(embeddings.T, embeddings.T) / embeddings.shape[0]
    return jnp.trace(moments) ** 2 / jnp.sum(moments**2)


def _inner(a: Float[Array, "M K"], b: Float[Array, "N K"]) -> Float[Array, "M N"]:
    """All inner products, in float32 also where the backend would multiply in less."""
    return jnp.einsum("mk,nk->mn", a, b, precision="highest", preferred_element_type=jnp.float32)

"""Losses between predicted and target embeddings, and what shows that they collapse.

Axes: B rows of the global batch, E embedding. Embeddings are unit vectors. Under ``jax.jit`` with
rows divided over devices the formulas below still see the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Metrics = dict[str, Array]

# Rows that the uniformity and rank estimates use: their cost must not grow with the batch.
_SAMPLE = 512


def info_nce(
    predicted: Float[Array, "B E"],
    target: Float[Array, "B E"],
    logit_scale: Float[Array, ""],
    target_id: Int[Array, " B"] | None = None,
    negatives: Float[Array, "N E"] | None = None,
    negative_id: Int[Array, " N"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Bidirectional InfoNCE over the batch (VL-JEPA section 2; van den Oord et al. 2018).

    The mean of two cross-entropies in nats: find a prediction's target among all targets, and a
    target's prediction among all predictions. A model that knows nothing has loss ln B.

    Args:
        predicted: unit vectors.
        target: unit vectors, row i belonging to row i of ``predicted``.
        logit_scale: what cosines are multiplied with, 1 / temperature.
        target_id: equal where the target texts are equal; such rows are then not each other's
            negatives. ``None`` takes every other row as a negative.
        negatives: unit vectors of more wrong targets, for every row alike; ``None`` for no more.
        negative_id: theirs, given with ``target_id``: a row is not told apart from its equals.
    """
    logits = logit_scale * _inner(predicted, target)
    diagonal = jnp.eye(logits.shape[0], dtype=bool)
    if target_id is not None:
        equal = target_id[:, None] == target_id[None, :]
        logits = jnp.where(equal & ~diagonal, -jnp.inf, logits)
    positive = jnp.diagonal(logits)
    choices = logits
    if negatives is not None:
        wrong = logit_scale * _inner(predicted, negatives)
        if target_id is not None:
            wrong = jnp.where(target_id[:, None] == negative_id[None, :], -jnp.inf, wrong)
        choices = jnp.concatenate([logits, wrong], axis=1)
    to_target = jnp.mean(jax.nn.logsumexp(choices, axis=1) - positive)
    to_prediction = jnp.mean(jax.nn.logsumexp(logits, axis=0) - positive)
    rows = jnp.arange(logits.shape[0])
    metrics = {
        "accuracy/to_target": jnp.mean(jnp.argmax(choices, axis=1) == rows),
        "accuracy/to_prediction": jnp.mean(jnp.argmax(logits, axis=0) == rows),
        "log_batch_size": jnp.log(jnp.float32(logits.shape[0])),
        "temperature": 1.0 / logit_scale,
    }
    return (to_target + to_prediction) / 2, metrics


def cross_entropy(
    logits: Float[Array, "B Q C"],
    label: Int[Array, "B Q"],
    mask: Bool[Array, "B Q"],
    group: Int[Array, "B Q"],
    names: Sequence[str],
) -> tuple[Float[Array, ""], Metrics]:
    """Mean cross-entropy, in nats, of the questions where the mask is True.

    Args:
        logits: -inf for what a question cannot be answered with.
        label: column of the right answer; that of a masked question is not read.
        group: of each question; the metric "accuracy/NAME" is that of a group's questions, NaN in
            a batch that has none.
        names: of the groups.
    """
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), label[..., None], axis=-1)
    loss = jnp.sum(nats[..., 0], where=mask) / jnp.maximum(jnp.sum(mask), 1)
    right = jnp.argmax(logits, axis=-1) == label
    metrics = {"accuracy": jnp.mean(right, where=mask)}
    for index, name in enumerate(names):
        metrics[f"accuracy/{name}"] = jnp.mean(right, where=mask & (group == index))
    return loss, metrics


def masked_prediction(
    pairs: Sequence[tuple[Float[Array, "B P D"], Float[Array, "B P D"]]],
) -> tuple[Float[Array, ""], Metrics]:
    """V-JEPA 2's loss: the mean absolute error (L1), averaged over the kinds of masks.

    Args:
        pairs: (predicted, target) of each kind of mask.

    Returns:
        The loss, and "loss/mask_i" of each; "loss/constant", what always predicting the mean
        target of the batch would give: a loss that is no less has learned nothing.
    """
    each = [jnp.mean(jnp.abs(predicted - target)) for predicted, target in pairs]
    metrics = {f"loss/mask_{index}": loss for index, loss in enumerate(each)}
    constant = [jnp.mean(jnp.abs(target - jnp.mean(target, axis=(0, 1)))) for _, target in pairs]
    metrics["loss/constant"] = jnp.mean(jnp.stack(constant))
    return jnp.mean(jnp.stack(each)), jax.lax.stop_gradient(metrics)


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
    """
    predicted, target = jax.lax.stop_gradient((predicted, target))
    metrics = {"alignment": jnp.mean(jnp.sum((predicted - target) ** 2, axis=-1))}
    for name, embeddings in (("prediction", predicted), ("target", target)):
        sample = embeddings[:_SAMPLE]
        metrics[f"uniformity/{name}"] = _uniformity(sample)
        metrics[f"rank/{name}"] = _participation_ratio(sample)
    return metrics


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

"""Losses of the objectives whose targets are given: labels, and the teacher's masked tokens.

Axes: B rows of the batch, Q questions of a row, C classes, P predicted tokens, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.losses.metrics import Metrics


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
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), label[..., None], axis=-1)
    loss = jnp.sum(nll[..., 0], where=mask) / jnp.maximum(jnp.sum(mask), 1)
    correct = jnp.argmax(logits, axis=-1) == label
    metrics = {"accuracy": jnp.mean(correct, where=mask)}
    for index, name in enumerate(names):
        metrics[f"accuracy/{name}"] = jnp.mean(correct, where=mask & (group == index))
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

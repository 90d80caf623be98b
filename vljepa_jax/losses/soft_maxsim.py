"""Soft MaxSim, a late interaction: each text is compared with the token of a row nearest to it.

ColBERT's MaxSim (Khattab and Zaharia 2020) and FILIP (Yao et al. 2022, arXiv 2111.07783) take the
maximum over patches for every text token; here a text is one vector, which says all of one part of
a clip, and the maximum is a soft one.

Axes: B rows of the global batch, n tokens of a row, c texts of a row, d embedding.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.losses.metrics import Metrics

# Similarities of tokens and texts that are held at a time: 64 MiB of float32.
_AT_ONCE = 2**24
_NEVER = -1e9  # a logit whose share is zero, and whose gradient is no NaN where all are so


def soft_maxsim(
    tokens: Float[Array, "B n d"],
    texts: Float[Array, "B c d"],
    there: Bool[Array, "B c"],
    text_id: Int[Array, "B c"],
    logit_scale: Float[Array, ""],
    *,
    at_once: int = _AT_ONCE,
) -> tuple[Float[Array, ""], Metrics]:
    """Find each text's row among all rows, and each row's text among the texts of other rows.

    The similarity of a row and a text is the soft maximum over the row's tokens: the log of the
    mean over tokens of exp(logit_scale x cosine). A token that means one part has a cosine of 1
    with what is said of it; a token that means all of the row's parts at once has less with each.
    So what is said together comes to lie in one place. The loss is the mean of the two
    cross-entropies, in nats, over all texts.

    Args:
        tokens: unit vectors.
        texts: unit vectors of what is said of a row.
        there: False at padding.
        text_id: equal where texts are; a row and a text that is said of it too are no negatives.
        logit_scale: what cosines are multiplied with.
        at_once: similarities held at a time; at least one row's are.
    """
    rows, number = tokens.shape[:2]
    count = texts.shape[1]

    @jax.checkpoint  # else the backward pass would keep what is not held at once
    def compare(row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        own_tokens, own_id, own_there = row
        similarity = logit_scale * jnp.einsum(
            # In float32 also where the backend would multiply in less.
            *("nd,bcd->bcn", own_tokens, texts),
            precision="highest",
            preferred_element_type=jnp.float32,
        )
        equal = (text_id[..., None] == own_id) & own_there
        return jax.nn.logsumexp(similarity, axis=-1) - math.log(number), jnp.any(equal, axis=-1)

    scores, said = jax.lax.map(
        compare,
        (tokens, text_id, there),
        batch_size=max(1, at_once // (rows * count * number)),
    )  # [B, B, c] of a row and the texts of each row
    own = jnp.diagonal(scores).T  # [B, c]
    others = jnp.where(there & ~said, scores, _NEVER)
    itself = jnp.eye(rows, dtype=bool)[..., None]
    found_by = jnp.where(said & ~itself, _NEVER, scores)
    to_text = jnp.logaddexp(own, jax.nn.logsumexp(others, axis=(1, 2))[:, None]) - own
    to_row = jax.nn.logsumexp(found_by, axis=0) - own
    texts_there = jnp.maximum(jnp.sum(there), 1)

    def mean(values: Array) -> Array:
        return jnp.sum(values, where=there) / texts_there

    metrics = {
        "clauses/accuracy/to_clause": mean(own > jnp.max(others, axis=(1, 2))[:, None]),
        "clauses/accuracy/to_clip": mean(jnp.argmax(found_by, axis=0) == jnp.arange(rows)[:, None]),
    }
    return mean(to_text + to_row) / 2, jax.lax.stop_gradient(metrics)

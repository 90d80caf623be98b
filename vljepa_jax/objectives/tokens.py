"""What the objectives that predict tokens have in common."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.objectives.base import Arrays, Objective, PyTree


@struct.dataclass
class TokenLosses:
    """Attributes: [B], float32, of the tokens that count in each text: their summed cross-entropy
    in nats, how many are the likeliest ones, and how many there are."""

    nats: Array
    right: Array
    tokens: Array


def token_losses(logits: Array, tokens: Array, counts: Array) -> TokenLosses:
    """Logits [B, t, v] of tokens [B, t]; those where ``counts``."""
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens[..., None], axis=-1)[
        ..., 0
    ]
    right = (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32)
    return TokenLosses(
        jnp.sum(nats, axis=1, where=counts),
        jnp.sum(right, axis=1, where=counts),
        jnp.sum(counts, axis=1, dtype=jnp.float32),
    )


def next_token_losses(logits: Array, tokens: Array, counts: Array) -> TokenLosses:
    """As ``token_losses``, for logits of the token after each one."""
    return token_losses(logits[:, :-1], tokens[:, 1:], counts[:, 1:])


def answer_losses(logits: Array, arrays: Arrays) -> TokenLosses:
    """Logits [B, S, v] of the words of S answers: "target_tokens" and "target_mask" [B, S, A].

    The words are drawn from one distribution, in no order, and an answer counts as one token,
    however long: what is a label must not drown in what is a caption. An answer is right where its
    likeliest word is among its own.
    """
    tokens, counts = arrays["target_tokens"], arrays["target_mask"]
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens, axis=-1)
    length = jnp.sum(counts, axis=-1)
    likeliest = jnp.argmax(logits, axis=-1)[..., None]
    right = jnp.any((likeliest == tokens) & counts, axis=-1)
    return TokenLosses(
        jnp.sum(jnp.sum(nats, axis=-1, where=counts) / jnp.maximum(length, 1), axis=1),
        jnp.sum(right, axis=1, dtype=jnp.float32),
        jnp.sum(length > 0, axis=1, dtype=jnp.float32),
    )


class TokensObjective(Objective):
    """The mean over all tokens that count, whatever the row."""

    def loss(
        self,
        params: PyTree,
        representations: TokenLosses,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, arrays, rng, mesh
        tokens = jnp.maximum(jnp.sum(representations.tokens), 1)
        loss = jnp.sum(representations.nats) / tokens
        right = jnp.sum(representations.right) / tokens
        return loss, {
            "perplexity": jnp.exp(jax.lax.stop_gradient(loss)),
            "accuracy": jax.lax.stop_gradient(right),
        }


class DialogueObjective(TokensObjective):
    """Write or read: what the objectives of a language model and of a VLM share.

    In a share of the steps (``model.reading_share``) the layers work as a VL-JEPA's predictor will:
    without the causal mask, each question by itself, its answer told by the mean over its tokens.
    In the others they predict the next token.
    """

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        if not model.predictor.causal:
            raise ConfigError("model.predictor.causal: a language model must not see what follows")
        if not 0 <= model.reading_share <= 1:
            raise ConfigError(f"model.reading_share: {model.reading_share} is not in 0 .. 1")
        self._config = config

    def _write_or_read(
        self,
        write: Callable[[PyTree], TokenLosses],
        read: Callable[[PyTree], TokenLosses],
        params: PyTree,
        rng: jax.Array,
    ) -> TokenLosses:
        share = self._config.model.reading_share
        if share in (0, 1):  # one program to compile, not two
            return read(params) if share else write(params)
        return jax.lax.cond(jax.random.bernoulli(rng, share), read, write, params)

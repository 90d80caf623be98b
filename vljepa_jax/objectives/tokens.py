"""Parts that the objectives that predict tokens share."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.placement import mesh_here
from vljepa_jax.objectives.base import Arrays, Objective, PyTree


@struct.dataclass
class TokenLosses:
    """Attributes: [B], float32, of the tokens that count in each text: their summed cross-entropy
    in nats, how many of them are the likeliest ones, and how many there are."""

    nll: Array
    correct: Array
    tokens: Array


# Features [B, t, d] and tokens [B, t, a] -> nll [B, t, a] and the likeliest tokens [B, t].
CrossEntropy = Callable[[Array, Array], tuple[Array, Array]]


def cross_entropy_of(
    model: nn.Module, params: PyTree, name: str = "token_embedding"
) -> CrossEntropy:
    """That of tokens by a model's ``logits``, which read the parameters ``name`` alone."""

    def logits_of(table: PyTree, features: Array) -> Array:
        return model.apply({"params": table}, features, method="logits")

    def cross_entropy(features: Array, tokens: Array) -> tuple[Array, Array]:
        return losses.token_cross_entropy(
            features, logits_of, {name: params[name]}, tokens, mesh=mesh_here()
        )

    return cross_entropy


def token_losses(
    cross_entropy: CrossEntropy, features: Array, tokens: Array, counts: Array
) -> TokenLosses:
    """Features [B, t, d] that predict the tokens [B, t] at their places; those where ``counts``."""
    nll, likeliest = cross_entropy(features, tokens[..., None])
    correct = (likeliest == tokens).astype(jnp.float32)
    return TokenLosses(
        jnp.sum(nll[..., 0], axis=1, where=counts),
        jnp.sum(correct, axis=1, where=counts),
        jnp.sum(counts, axis=1, dtype=jnp.float32),
    )


def next_token_losses(
    cross_entropy: CrossEntropy, features: Array, tokens: Array, counts: Array
) -> TokenLosses:
    """As ``token_losses``, for features that predict the token after each one."""
    return token_losses(cross_entropy, features[:, :-1], tokens[:, 1:], counts[:, 1:])


def answer_losses(cross_entropy: CrossEntropy, features: Array, arrays: Arrays) -> TokenLosses:
    """Features [B, S, d] of S answers, whose words are "target_tokens" and "target_mask" [B, S, A].

    A bag of words: they are drawn from one distribution, in no order. An answer counts as one
    token, however long: what is a label must not drown in what is a caption. It is correct where
    the likeliest word is among its own.
    """
    tokens, counts = arrays["target_tokens"], arrays["target_mask"]
    nll, likeliest = cross_entropy(features, tokens)
    length = jnp.sum(counts, axis=-1)
    correct = jnp.any((likeliest[..., None] == tokens) & counts, axis=-1)
    return TokenLosses(
        jnp.sum(jnp.sum(nll, axis=-1, where=counts) / jnp.maximum(length, 1), axis=1),
        jnp.sum(correct, axis=1, dtype=jnp.float32),
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
        loss = jnp.sum(representations.nll) / tokens
        correct = jnp.sum(representations.correct) / tokens
        return loss, {
            "perplexity": jnp.exp(jax.lax.stop_gradient(loss)),
            "accuracy": jax.lax.stop_gradient(correct),
        }


class DialogueObjective(TokensObjective):
    """Predict the next token, or an answer from the mean over its question: pretraining of readers.

    With ``model.bidirectional_probability`` a step is a mean-pooled bidirectional one, in which the
    layers work as a VL-JEPA's predictor will: without the causal mask, each question by itself, its
    answer predicted from the mean over its tokens. Otherwise it is a causal language model's.
    """

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        if not model.predictor.causal:
            raise ConfigError("model.predictor.causal: a language model must not see what follows")
        if not 0 <= (probability := model.bidirectional_probability) <= 1:
            raise ConfigError(f"model.bidirectional_probability: {probability} is not in 0 .. 1")
        self._config = config

    def _causal_or_bidirectional(
        self,
        causal: Callable[[PyTree], TokenLosses],
        bidirectional: Callable[[PyTree], TokenLosses],
        params: PyTree,
        rng: jax.Array,
    ) -> TokenLosses:
        probability = self._config.model.bidirectional_probability
        if probability in (0, 1):  # one program to compile, not two
            return bidirectional(params) if probability else causal(params)
        drawn = jax.random.bernoulli(rng, probability)
        return jax.lax.cond(drawn, bidirectional, causal, params)

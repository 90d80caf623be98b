"""Objectives that pretrain the two text backbones (``objectives.py`` says what an objective is)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.text_pretraining import LanguageModel, TextPairs

PyTree = Any
Arrays = Mapping[str, Array]


@struct.dataclass
class Triplets:
    """Attributes: unit vectors [B, D] of a text, its paraphrase and what is none, float32."""

    text: Array
    paraphrase: Array
    other: Array


class TextPairsObjective:
    """Paraphrases near, other texts far: InfoNCE with hard negatives, as sentence encoders learn.

    EmbeddingGemma's own recipe (arXiv 2509.20354, section 2) has this loss as its main part.
    """

    def __init__(self, config: TrainConfig) -> None:
        if config.batch_size < 2:
            raise ConfigError(
                f"batch_size: {config.batch_size}, but InfoNCE compares a row with the others"
            )
        self._length = config.data.text.length
        self._model = TextPairs(config.model)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        tokens = jnp.zeros((1, self._length), jnp.int32)
        params = self._model.init(rng, tokens, jnp.ones(tokens.shape, bool))["params"]
        scale = self._model.init(rng, method="logit_scale")["params"]
        return params | scale, {}

    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> Triplets:
        del extra, rng
        rows, three, length = arrays["tokens"].shape
        embeddings = self._model.apply(
            {"params": params},
            arrays["tokens"].reshape(rows * three, length),
            arrays["mask"].reshape(rows * three, length),
        ).reshape(rows, three, -1)
        return Triplets(*(embeddings[:, place] for place in range(three)))

    def loss(
        self,
        params: PyTree,
        representations: Triplets,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del rng
        text, paraphrase = representations.text, representations.paraphrase
        # Equal texts have paraphrases that mean the same, though their words may differ.
        text_id, _, other_id = arrays["text_id"].T
        scale = self._model.apply({"params": params}, method="logit_scale")
        loss, metrics = losses.info_nce(
            text, paraphrase, scale, text_id, representations.other, other_id, mesh=mesh
        )
        return loss, metrics | losses.embedding_metrics(text, paraphrase)

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


@struct.dataclass
class TokenLosses:
    """Attributes: nats and tokens [B], float32: a text's summed cross-entropy and its tokens."""

    nats: Array
    tokens: Array


class LanguageModelObjective:
    """Predict the next token, given those before it."""

    def __init__(self, config: TrainConfig) -> None:
        if not config.model.predictor.causal:
            raise ConfigError("model.predictor.causal: a language model must not see what follows")
        self._length = config.data.text.length
        self._model = LanguageModel(config.model)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        tokens = jnp.zeros((1, self._length), jnp.int32)
        return self._model.init(rng, tokens, jnp.ones(tokens.shape, bool))["params"], {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> TokenLosses:
        del extra, rng
        tokens, mask = arrays["tokens"], arrays["mask"]
        logits = self._model.apply({"params": params}, tokens[:, :-1], mask[:, :-1])
        nats = -jnp.take_along_axis(
            jax.nn.log_softmax(logits, axis=-1), tokens[:, 1:, None], axis=-1
        )[..., 0]
        follows = mask[:, 1:]
        return TokenLosses(
            jnp.sum(nats, axis=1, where=follows), jnp.sum(follows, axis=1, dtype=jnp.float32)
        )

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
        return loss, {"perplexity": jnp.exp(jax.lax.stop_gradient(loss))}

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra

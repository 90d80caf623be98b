"""Objectives that write or compare text alone (``objectives.py`` says what an objective is)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.parts import Y_DECODER
from vljepa_jax.models.text_pretraining import LanguageModel, TextPairs
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.models.y_decoder import YDecoder, add_noise
from vljepa_jax.optimizer import make_optimizer

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
        self, params: PyTree, representations: Triplets, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        text, paraphrase = representations.text, representations.paraphrase
        # Equal texts have paraphrases that mean the same, though their words may differ.
        text_id, _, other_id = arrays["text_id"].T
        scale = self._model.apply({"params": params}, method="logit_scale")
        loss, metrics = losses.info_nce(
            text, paraphrase, scale, text_id, representations.other, other_id
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


def _token_losses(
    logits: Float[Array, "B t v"], tokens: Int[Array, "B t"], mask: Bool[Array, "B t"]
) -> TokenLosses:
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens[..., None], axis=-1)
    return TokenLosses(
        jnp.sum(nats[..., 0], axis=1, where=mask), jnp.sum(mask, axis=1, dtype=jnp.float32)
    )


def _mean_token_loss(rows: TokenLosses) -> tuple[Float[Array, ""], losses.Metrics]:
    loss = jnp.sum(rows.nats) / jnp.maximum(jnp.sum(rows.tokens), 1)
    return loss, {"perplexity": jnp.exp(jax.lax.stop_gradient(loss))}


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
        return _token_losses(logits, tokens[:, 1:], mask[:, 1:])

    def loss(
        self, params: PyTree, representations: TokenLosses, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, arrays
        return _mean_token_loss(representations)

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


class YDecoderObjective:
    """Write the text whose embedding is shown, with noise: the inverse of the frozen Y-Encoder.

    Where the data has video, the embedding is the prediction S^_Y of the frozen VL-JEPA instead.
    """

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        if not model.y_decoder.causal:
            raise ConfigError("model.y_decoder.causal: a text must not be written from its end")
        if model.prefix_tokens < 1 or model.noise < 0:
            raise ConfigError("model: prefix_tokens must be at least 1, noise at least 0")
        self._config = config
        self._vljepa = VLJEPA(model.vljepa)
        self._decoder = YDecoder(model)
        params, _ = jax.eval_shape(self.init, jax.random.key(0))
        trained, _ = make_optimizer(config.optimizer, config.steps, params).split(params)
        if wrong := sorted(trained.keys() - set(Y_DECODER)):
            raise ConfigError(
                f"optimizer.rules: {', '.join(wrong)} must be frozen; a Y-Decoder inverts a model "
                "that stays as it is"
            )

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        embedder_rng, decoder_rng = jax.random.split(rng)
        model, text = self._config.embedder
        video = self._config.data.video
        target = jnp.zeros((1, text.target_length), jnp.int32)
        seen = jnp.ones(target.shape, bool)
        if video is None:
            params = self._vljepa.init(embedder_rng, target, seen, method="encode_text")["params"]
        else:
            query = jnp.zeros((1, text.query_length), jnp.int32)
            batch = {
                "video": jnp.zeros((1, video.frames, *[video.image_size] * 2, 3), jnp.uint8),
                "query_tokens": query,
                "query_mask": jnp.ones(query.shape, bool),
                "target_tokens": target,
                "target_mask": seen,
            }
            params = self._vljepa.init(embedder_rng, batch)["params"]
        tokens = jnp.zeros((1, self._config.data.text.length), jnp.int32)
        embedding = jnp.zeros((1, model.embedding_size))
        decoder = self._decoder.init(decoder_rng, embedding, tokens, jnp.ones(tokens.shape, bool))
        return params | decoder["params"], {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> TokenLosses:
        del extra
        embeddings = add_noise(self._embed(params, arrays), self._config.model.noise, rng)
        tokens, mask = arrays["tokens"], arrays["mask"]
        logits = self._decoder.apply({"params": params}, embeddings, tokens, mask)
        return _token_losses(logits, tokens, mask)

    def _embed(self, params: PyTree, arrays: Arrays) -> Float[Array, "B e"]:
        def apply(method: str, *inputs: Array) -> Array:
            return self._vljepa.apply({"params": params}, *inputs, method=method)

        if self._config.data.video is None:
            return apply("encode_text", arrays["target_tokens"], arrays["target_mask"])
        cached = "visual_tokens" in arrays
        visual = arrays["visual_tokens"] if cached else apply("encode_video", arrays["video"])
        return apply("predict", visual, arrays["query_tokens"], arrays["query_mask"])

    def loss(
        self, params: PyTree, representations: TokenLosses, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, arrays
        return _mean_token_loss(representations)

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra

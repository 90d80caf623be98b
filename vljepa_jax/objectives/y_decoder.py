"""Training of the Y-Decoder."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.config.rules import first_match
from vljepa_jax.models.parts import Y_DECODER
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.models.y_decoder import YDecoder, add_noise
from vljepa_jax.objectives.base import Arrays, Part, PyTree
from vljepa_jax.objectives.tokens import (
    TokenLosses,
    TokensObjective,
    cross_entropy_of,
    token_losses,
)


class YDecoderObjective(TokensObjective):
    """Write the text whose embedding is shown, with noise: the inverse of the frozen Y-Encoder.

    The level of the noise is drawn anew for each row, evenly between none and ``model.noise``: what
    is said clearly teaches to read at all, what is nearly drowned to guess well.

    Where the data has video, the embedding is the prediction S^_Y of the frozen VL-JEPA instead.
    """

    parts = (
        Part("Y-Decoder: token table", r"^y_token_embedding/"),
        Part("Y-Decoder: layers, norm", r"^y_decoder/"),
        Part("Y-Decoder: prefix", r"^y_prefix/"),
        Part("The VL-JEPA that is decoded", r""),
    )

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
        rules, trained = config.optimizer.rules, set()
        for path in traverse_util.flatten_dict(params, sep="/"):
            index = first_match(rules, path, "optimizer.rules")
            if index is not None and not rules[index].frozen:
                trained.add(path.split("/")[0])
        if wrong := sorted(trained - set(Y_DECODER)):
            raise ConfigError(
                f"optimizer.rules: {', '.join(wrong)} must be frozen; a Y-Decoder inverts a model "
                "that stays as it is"
            )

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        length = config.data.text.length
        if not visual:
            return f"{length} tokens are seen"
        return f"{length} tokens are written from {visual} visual tokens"

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
        tokens, mask = arrays["tokens"], arrays["mask"]
        embeddings = self._embed(params, arrays)
        level_rng, noise_rng = jax.random.split(rng)
        level = self._config.model.noise * jax.random.uniform(level_rng, (len(embeddings), 1))
        embeddings = add_noise(embeddings, level, noise_rng)
        features = self._decoder.apply(
            {"params": params}, embeddings, tokens, mask, method="features"
        )
        cross_entropy = cross_entropy_of(self._decoder, params, "y_token_embedding")
        return token_losses(cross_entropy, features, tokens, mask)

    def _embed(self, params: PyTree, arrays: Arrays) -> Float[Array, "B e"]:
        def apply(method: str, *inputs: Any) -> Array:
            return self._vljepa.apply({"params": params}, *inputs, method=method)

        if self._config.data.video is None:
            return apply("encode_text", arrays["target_tokens"], arrays["target_mask"])
        visual = apply("visual_tokens", arrays)
        return apply("predict", visual, arrays["query_tokens"], arrays["query_mask"])

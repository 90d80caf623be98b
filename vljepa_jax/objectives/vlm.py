"""A plain VLM: the next token of a target, after a clip and a query."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.vlm import VLM
from vljepa_jax.objectives.base import Arrays, Part, PyTree
from vljepa_jax.objectives.tokens import (
    TokenLosses,
    TokensObjective,
    cross_entropy_of,
    token_losses,
)


class VLMObjective(TokensObjective):
    """Predict each token of the target and its end, given the clip, the query and those before."""

    parts = (
        Part("X-Encoder", r"^x_encoder/"),
        Part("Token table", r"^token_embedding/"),
        Part("Layers, norm, projection", r"^(predictor|vision_projection)/"),
    )

    def __init__(self, config: TrainConfig) -> None:
        if not config.model.predictor.causal:
            raise ConfigError("model.predictor.causal: a language model must not see what follows")
        self._config = config
        self._model = VLM(config.model)

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        text = config.data.text
        return f"{visual} visual and {text.query_length + text.target_length} text tokens are seen"

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        video = self._config.data.video
        # Always from pixels: a run on cached visual tokens needs its X-Encoder for inference.
        size = (1, video.frames, video.image_size, video.image_size, 3)
        example = {
            "video": jnp.zeros(size, jnp.uint8),
            "tokens": jnp.zeros((1, 2), jnp.int32),
            "mask": jnp.ones((1, 2), bool),
        }
        return self._model.init(rng, example)["params"], {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> TokenLosses:
        del extra, rng
        features = self._model.apply({"params": params}, arrays, method="features")
        cross_entropy = cross_entropy_of(self._model, params)
        return token_losses(cross_entropy, features, arrays["tokens"], arrays["target_mask"])

"""What pretrains a language model: text, and captions in the place of clips."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.text_pretraining import LanguageModel
from vljepa_jax.objectives.base import Arrays, Part, PyTree
from vljepa_jax.objectives.tokens import (
    DialogueObjective,
    TokenLosses,
    answer_losses,
    cross_entropy_of,
    next_token_losses,
)


class LanguageModelObjective(DialogueObjective):
    """Predict the next token, given those before it; or read.

    The last half of the layers, from which a predictor starts, reads alone; and in a share of the
    writing steps the first half is left out, so that the last has met bare words there too.
    """

    parts = (
        Part("Token table", r"^token_embedding/"),
        Part("Layers, norm", r"^predictor/"),
    )

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        model = config.model
        if not 0 <= model.skip_share <= 1:
            raise ConfigError(f"model.skip_share: {model.skip_share} is not in 0 .. 1")
        if model.reading_share and config.data.text.context is None:
            raise ConfigError("data.text.context: None; what reads has to be told something")
        if model.told_tokens < 1:
            raise ConfigError(f"model.told_tokens: {model.told_tokens} is less than 1")
        self._model = LanguageModel(model)
        self._kept = model.predictor.num_layers - model.predictor.num_layers // 2
        half = dataclasses.replace(model.predictor, num_layers=self._kept)
        self._half = LanguageModel(dataclasses.replace(model, predictor=half))
        reader = dataclasses.replace(half, causal=False)
        self._reader = LanguageModel(dataclasses.replace(model, predictor=reader))

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        del visual
        return f"{config.data.text.length} tokens are seen"

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        tokens = jnp.zeros((1, self._config.data.text.length), jnp.int32)
        return self._model.init(rng, tokens, jnp.ones(tokens.shape, bool))["params"], {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> TokenLosses:
        del extra
        reading_rng, skipping_rng, places_rng = jax.random.split(rng, 3)

        def next_token(model: LanguageModel, params: PyTree) -> TokenLosses:
            tokens, mask = arrays["tokens"], arrays["mask"]
            features = model.apply({"params": params}, tokens, mask, method="features")
            return next_token_losses(cross_entropy_of(model, params), features, tokens, mask)

        def whole(params: PyTree) -> TokenLosses:
            return next_token(self._model, params)

        def last_half(params: PyTree) -> TokenLosses:
            return next_token(self._half, self._last_half(params))

        def write(params: PyTree) -> TokenLosses:
            if not self._config.model.skip_share:
                return whole(params)
            skipped = jax.random.bernoulli(skipping_rng, self._config.model.skip_share)
            return jax.lax.cond(skipped, last_half, whole, params)

        def read(params: PyTree) -> TokenLosses:
            half = self._last_half(params)
            features = self._reader.apply({"params": half}, arrays, places_rng, method="read")
            return answer_losses(cross_entropy_of(self._reader, half), features, arrays)

        return self._write_or_read(write, read, params, reading_rng)

    def _last_half(self, params: PyTree) -> PyTree:
        predictor = params["predictor"]
        layers = jax.tree.map(lambda x: x[-self._kept :], predictor["layers"])
        return {**params, "predictor": {**predictor, "layers": layers}}

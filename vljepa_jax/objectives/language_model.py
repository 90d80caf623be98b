"""Pretraining of a language model: on text, with captions in the place of clips."""

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
    """Predict the next token, or an answer from the mean over its question.

    Mean-pooled bidirectional steps (``DialogueObjective``) have the last half of the layers alone,
    from which a predictor starts. In causal steps the first half is skipped with
    ``model.skip_probability``, so that the last has met bare words there too. With both
    probabilities 0 this is a plain causal language model.
    """

    parts = (
        Part("Token table", r"^token_embedding/"),
        Part("Layers, norm", r"^predictor/"),
    )

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        model = config.model
        if not 0 <= model.skip_probability <= 1:
            raise ConfigError(f"model.skip_probability: {model.skip_probability} is not in 0 .. 1")
        if model.bidirectional_probability and config.data.text.context is None:
            raise ConfigError(
                "data.text.context: None; questions of bidirectional steps need a context"
            )
        if model.context_length < 1:
            raise ConfigError(f"model.context_length: {model.context_length} is less than 1")
        self._model = LanguageModel(model)
        self._kept = model.predictor.num_layers - model.predictor.num_layers // 2
        half = dataclasses.replace(model.predictor, num_layers=self._kept)
        self._half = LanguageModel(dataclasses.replace(model, predictor=half))
        bidirectional = dataclasses.replace(half, causal=False)
        self._bidirectional = LanguageModel(dataclasses.replace(model, predictor=bidirectional))

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
        choice_rng, skipping_rng, places_rng = jax.random.split(rng, 3)

        def next_token(model: LanguageModel, params: PyTree) -> TokenLosses:
            tokens, mask = arrays["tokens"], arrays["mask"]
            features = model.apply({"params": params}, tokens, mask, method="features")
            return next_token_losses(cross_entropy_of(model, params), features, tokens, mask)

        def whole(params: PyTree) -> TokenLosses:
            return next_token(self._model, params)

        def last_half(params: PyTree) -> TokenLosses:
            return next_token(self._half, self._last_half(params))

        def causal(params: PyTree) -> TokenLosses:
            if not self._config.model.skip_probability:
                return whole(params)
            skipped = jax.random.bernoulli(skipping_rng, self._config.model.skip_probability)
            return jax.lax.cond(skipped, last_half, whole, params)

        def bidirectional(params: PyTree) -> TokenLosses:
            model, half = self._bidirectional, self._last_half(params)
            features = model.apply({"params": half}, arrays, places_rng, method="pooled")
            return answer_losses(cross_entropy_of(model, half), features, arrays)

        return self._causal_or_bidirectional(causal, bidirectional, params, choice_rng)

    def _last_half(self, params: PyTree) -> PyTree:
        predictor = params["predictor"]
        layers = jax.tree.map(lambda x: x[-self._kept :], predictor["layers"])
        return {**params, "predictor": {**predictor, "layers": layers}}

"""Pretraining of an X-Encoder by questions that a language model answers from its tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.visual_reader import VisualReader
from vljepa_jax.objectives.base import Arrays, Part, PyTree
from vljepa_jax.objectives.tokens import (
    DialogueObjective,
    TokenLosses,
    answer_losses,
    cross_entropy_of,
    next_token_losses,
)


@struct.dataclass
class AnswersAndClauses:
    """Attributes: the answers' tokens; and, where MaxSim has weight, float32 unit vectors of the
    visual tokens [B, n, d] and of the clauses [B, c, d] of each clip's captions, else ``None``."""

    answers: TokenLosses
    visual: Array | None
    clauses: Array | None


class VisualReaderObjective(DialogueObjective):
    """Predict answers, given the clip: their tokens, or their words from the question's mean.

    With ``model.maxsim_weight`` there is a second loss, soft MaxSim: each clause of the clip's
    captions is to be found at a single visual token. Answers alone do not bind what moves to how it
    moves; tokens that all tell all of a clip answer most questions about it as well.
    """

    parts = (
        Part("X-Encoder", r"^x_encoder/"),
        Part("Token table", r"^token_embedding/"),
        Part("Layers, norm, projection", r"^(predictor|vision_projection)/"),
        Part("Temperature of clauses", r"^log_logit_scale$"),
    )

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        model = config.model
        if model.maxsim_weight < 0:
            raise ConfigError(f"model.maxsim_weight: {model.maxsim_weight} is less than 0")
        causal_steps = model.bidirectional_probability < 1
        if model.maxsim_weight and (causal_steps or config.data.text.context is None):
            raise ConfigError(
                "model.maxsim_weight: needs bidirectional_probability=1, as causal steps have no "
                "such loss, and data.text.context, which says what clauses are"
            )
        self._causal = VisualReader(model)
        bidirectional = dataclasses.replace(model.predictor, causal=False)
        self._bidirectional = VisualReader(dataclasses.replace(model, predictor=bidirectional))

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        return f"{visual} visual and {config.data.text.length} text tokens are read"

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        video = self._config.data.video
        size = (1, video.frames, video.image_size, video.image_size, 3)
        example = {
            "video": jnp.zeros(size, jnp.uint8),
            "tokens": jnp.zeros((1, 1), jnp.int32),
            "mask": jnp.ones((1, 1), bool),
        }
        params = self._causal.init(rng, example)["params"]
        if self._config.model.maxsim_weight:
            params |= self._causal.init(rng, method="clause_scale")["params"]
        return params, {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> AnswersAndClauses:
        del extra
        visual = self._causal.apply({"params": params}, arrays, method="visual_tokens")
        arrays = {name: array for name, array in arrays.items() if name != "video"}
        arrays |= {"visual_tokens": visual}

        def causal(params: PyTree) -> TokenLosses:
            features = self._causal.apply({"params": params}, arrays, method="features")
            cross_entropy = cross_entropy_of(self._causal, params)
            tokens, counts = arrays["tokens"], arrays["answer_mask"]
            return next_token_losses(cross_entropy, features, tokens, counts)

        def bidirectional(params: PyTree) -> TokenLosses:
            features = self._bidirectional.apply({"params": params}, arrays, method="pooled")
            return answer_losses(cross_entropy_of(self._bidirectional, params), features, arrays)

        answers = self._causal_or_bidirectional(causal, bidirectional, params, rng)
        if not self._config.model.maxsim_weight:
            return AnswersAndClauses(answers, None, None)
        return AnswersAndClauses(
            answers, *self._causal.apply({"params": params}, arrays, method="clauses")
        )

    def loss(
        self,
        params: PyTree,
        representations: AnswersAndClauses,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        loss, metrics = super().loss(params, representations.answers, arrays, rng, mesh)
        if representations.clauses is None:
            return loss, metrics
        there = jnp.any(arrays["context_mask"], axis=-1)
        clauses, more = losses.soft_maxsim(
            representations.visual,
            representations.clauses,
            there,
            arrays["context_id"],
            self._causal.apply({"params": params}, method="clause_scale"),
        )
        metrics |= more | {"clauses/loss": jax.lax.stop_gradient(clauses)}
        return loss + self._config.model.maxsim_weight * clauses, metrics

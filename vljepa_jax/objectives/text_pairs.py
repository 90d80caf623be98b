"""Pretraining of a text encoder on paraphrases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.text_pretraining import TextPairs
from vljepa_jax.objectives.base import Arrays, Objective, Part, PyTree


@struct.dataclass
class Triplets:
    """Attributes: unit vectors [B, D] of a text, its paraphrase and what is none, float32."""

    text: Array
    paraphrase: Array
    other: Array


class TextPairsObjective(Objective):
    """Paraphrases near, other texts far: InfoNCE with hard negatives, as sentence encoders learn.

    EmbeddingGemma's own recipe (arXiv 2509.20354, section 2) has this loss as its main part.
    """

    parts = (
        Part("Y-Encoder", r"^y_encoder/"),
        Part("Temperature", r"^log_logit_scale$"),
    )

    def __init__(self, config: TrainConfig) -> None:
        if config.batch_size < 2:
            raise ConfigError(
                f"batch_size: {config.batch_size}, but InfoNCE compares a row with the others"
            )
        self._length = config.data.text.length
        self._model = TextPairs(config.model)

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        del visual
        return f"{config.data.text.length} tokens are seen"

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

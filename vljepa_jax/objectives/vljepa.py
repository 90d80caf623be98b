"""VL-JEPA's own objective: predict embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.objectives.base import Arrays, Objective, Part, PyTree


@struct.dataclass
class Pairs:
    """Attributes: predicted and target, unit vectors [B, E] in float32."""

    predicted: Array
    target: Array


class VLJEPAObjective(Objective):
    """Predict the embedding of the target text (VL-JEPA section 2)."""

    parts = (
        Part("X-Encoder", r"^x_encoder/", "304M"),
        Part("Predictor: token table", r"^token_embedding/"),
        Part(
            "Predictor: layers, norm, projections",
            r"^(predictor|vision_projection|predictor_head)/",
            "490M",
        ),
        Part("Y-Encoder: dense layers", r"^y_encoder/dense_"),
        Part("Y-Encoder, bare", r"^y_encoder/", "300M"),
        Part("Y-Encoder: head", r"^y_head/"),
        Part("Temperature", r"^log_logit_scale$"),
    )

    def __init__(self, config: TrainConfig) -> None:
        if config.batch_size < 2:
            raise ConfigError(f"batch_size: {config.batch_size}, but the loss compares rows")
        if not 0 <= config.loss.sig_reg.weight <= 1 or config.loss.sig_reg.directions < 1:
            raise ConfigError("loss.sig_reg: weight is a share, 0 .. 1, and directions at least 1")
        self._config = config
        self._model = VLJEPA(config.model)
        self._sources = _told_sources(config)

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        query = config.data.text.query_length
        return f"The predictor sees {visual} visual and {query} query tokens"

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        video, text = self._config.data.video, self._config.data.text
        # Always from pixels: a run on cached visual tokens needs its X-Encoder for inference.
        size = (1, video.frames, video.image_size, video.image_size, 3)
        example = {
            "video": jnp.zeros(size, jnp.uint8),
            "query_tokens": jnp.zeros((1, text.query_length), jnp.int32),
            "query_mask": jnp.ones((1, text.query_length), bool),
            "target_tokens": jnp.zeros((1, text.target_length), jnp.int32),
            "target_mask": jnp.ones((1, text.target_length), bool),
        }
        return self._model.init(rng, example)["params"], {}

    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> Pairs:
        del extra, rng
        output = self._model.apply({"params": params}, arrays)
        return Pairs(output.predicted, output.target)

    def loss(
        self,
        params: PyTree,
        representations: Pairs,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        predicted, target = representations.predicted, representations.target
        config, metrics = self._config.loss, {}
        if config.name == "info_nce":
            scale = self._model.apply({"params": params}, method="logit_scale")
            target_id = arrays["target_id"] if config.mask_equal_targets else None
            loss, metrics = losses.info_nce(
                *(predicted, target, scale, target_id),
                group=arrays.get("source"),
                group_names=self._sources,
                mesh=mesh,
            )
        elif config.name == "vic_reg":
            weights = dataclasses.astuple(config.vic_reg)
            loss, metrics = losses.vic_reg(predicted, target, weights)
            metrics |= self._of_sources(losses.l2, representations, arrays, "loss/invariance")
        elif config.name == "sig_reg":
            settings, size = config.sig_reg, predicted.shape[-1]
            directions = losses.draw_directions(rng, size, settings.directions)
            loss, metrics = losses.sig_reg(predicted, target, settings.weight, directions)
            metrics |= self._of_sources(losses.l2, representations, arrays, "loss/invariance")
        else:
            distance = {"cosine": losses.cosine, "l1": losses.l1, "l2": losses.l2}[config.name]
            loss = distance(predicted, target)
            metrics = self._of_sources(distance, representations, arrays, "loss")
        return loss, metrics | losses.embedding_metrics(predicted, target)

    def _of_sources(
        self,
        distance: Callable[[Array, Array], Array],
        pairs: Pairs,
        arrays: Arrays,
        name: str,
    ) -> losses.Metrics:
        """A distance of pairs, of each source that is told; VICReg's invariance is ``l2``."""
        if not self._sources:
            return {}
        alone = jax.vmap(lambda one, other: distance(one[None], other[None]))
        rows = alone(pairs.predicted, pairs.target)
        return losses.group_losses(rows, arrays["source"], self._sources, name)


def _told_sources(config: TrainConfig) -> dict[int, str]:
    """The sources whose loss is told, where there are several: those with a row in every batch."""
    sources, weights = config.data.sources, [source.weight for source in config.data.sources]
    if len(sources) < 2:
        return {}
    return {
        index: name
        for index, name in enumerate(config.data.source_names)
        if config.batch_size * weights[index] >= sum(weights)
    }

"""What is trained, as data: the one training step (``train_step.py``) serves every objective.

An objective is split into ``represent`` (rows -> embeddings, each row on its own) and ``loss``
(embeddings of the whole batch -> number), so that a batch too large for the memory can be
represented piece by piece and still have the loss, and the gradient, of the whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.decoding_objective import YDecoderObjective
from vljepa_jax.models import layers
from vljepa_jax.models.mask_predictor import MaskPredictor
from vljepa_jax.models.probe import Probe
from vljepa_jax.models.vjepa2 import make_x_encoder, normalise, token_grid
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.text_objectives import (
    LanguageModelObjective,
    TextPairsObjective,
    VLMObjective,
)

PyTree = Any
Arrays = Mapping[str, Array]


class Objective(Protocol):
    """One way to train. Implementations hold modules and settings, never arrays."""

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns random (params, extra); ``extra`` is state without gradient, or ``{}``."""

    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> PyTree:
        """Returns what the loss compares: floating-point arrays [rows, ...].

        No row may depend on another one.

        Args:
            arrays: rows of a batch, or some of them, as ``data.pipeline`` names them.
            rng: the key of these rows and this step, for objectives that draw at random.
        """

    def loss(
        self,
        params: PyTree,
        representations: PyTree,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        """Returns the loss of the whole batch and metrics without gradient.

        Args:
            rng: the key of this step.
            mesh: over which the rows are divided; ``None`` where they are not.
        """

    def init_extra(self, params: PyTree) -> PyTree:
        """Returns the ``extra`` that belongs to parameters of another origin than ``init``."""

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        """Returns ``extra`` after an update that gave ``params``, e.g. an averaged teacher."""


@struct.dataclass
class Pairs:
    """Attributes: predicted and target, unit vectors [B, E] in float32."""

    predicted: Array
    target: Array


class VLJEPAObjective:
    """Predict the embedding of the target text (VL-JEPA section 2)."""

    def __init__(self, config: TrainConfig) -> None:
        if config.batch_size < 2:
            raise ConfigError(f"batch_size: {config.batch_size}, but the loss compares rows")
        if not 0 <= config.loss.sig_reg.weight <= 1 or config.loss.sig_reg.directions < 1:
            raise ConfigError("loss.sig_reg: weight is a share, 0 .. 1, and directions at least 1")
        self._config = config
        self._model = VLJEPA(config.model)

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
            loss, metrics = losses.info_nce(predicted, target, scale, target_id, mesh=mesh)
        elif config.name == "vic_reg":
            weights = dataclasses.astuple(config.vic_reg)
            loss, metrics = losses.vic_reg(predicted, target, weights)
        elif config.name == "sig_reg":
            settings, size = config.sig_reg, predicted.shape[-1]
            directions = losses.draw_directions(rng, size, settings.directions)
            loss, metrics = losses.sig_reg(predicted, target, settings.weight, directions)
        else:
            loss = {"cosine": losses.cosine, "l1": losses.l1, "l2": losses.l2}[config.name](
                predicted, target
            )
        return loss, metrics | losses.embedding_metrics(predicted, target)

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


class ProbeObjective:
    """Answer questions with labels: a probe, or pretraining on labels (``models.probe``)."""

    def __init__(self, config: TrainConfig) -> None:
        for name, least in (("per_clip", 1), ("query_length", 0)):
            if (value := getattr(config.data.text, name)) < least:
                raise ConfigError(f"data.text.{name}: {value} is less than {least}")
        pooler, width = config.model.pooler, config.model.x_encoder.hidden_size
        if pooler is not None and width % pooler.num_heads:
            raise ConfigError(
                f"model.pooler.num_heads: {pooler.num_heads} heads do not divide the X-Encoder's "
                f"{width} features"
            )
        if not config.model.label_sets:
            raise ConfigError("model.label_sets: name at least one label set")
        self._config = config
        self._model = Probe(config.model)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        size = self._config.data.video.image_size
        # From pixels, as a run on cached visual tokens keeps its X-Encoder; a question of one word.
        example = {
            "video": jnp.zeros((1, self._config.data.video.frames, size, size, 3), jnp.uint8),
            "label_set": jnp.zeros((1, 1), jnp.int32),
            "query_tokens": jnp.zeros((1, 1, 1), jnp.int32),
            "query_mask": jnp.ones((1, 1, 1), bool),
        }
        return self._model.init(rng, example)["params"], {}

    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> Array:
        del extra, rng
        return self._model.apply({"params": params}, arrays)

    def loss(
        self,
        params: PyTree,
        representations: Array,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, rng, mesh
        names = sorted(self._config.model.label_sets)
        sizes = [self._config.model.label_sets[name] for name in names]
        first = jnp.cumsum(jnp.array([0, *sizes[:-1]]))
        label = first[arrays["label_set"]] + arrays["label"]
        return losses.cross_entropy(
            representations, label, arrays["question_mask"], arrays["label_set"], names
        )

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


@struct.dataclass
class MaskedTokens:
    """Attributes: the teacher's tokens [B, n, D], each normalised over its features; and what was
    predicted and is right under each kind of mask, [B, p, D]. All float32."""

    target: Array
    predicted: tuple[Array, ...]
    right: tuple[Array, ...]


class VJEPA2Objective:
    """Predict what a slow copy of the encoder makes of masked tokens (V-JEPA 2, section 2).

    ``extra`` is {"teacher": {"x_encoder": ...}}, an exponential moving average of the encoder.
    """

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        if config.data.visual_tokens != "compute":
            raise ConfigError("data.visual_tokens: objective 'vjepa2' trains the X-Encoder")
        if not model.masks:
            raise ConfigError("model.masks: name at least one kind of mask")
        for index, mask in enumerate(model.masks):
            if not (0 < mask.masked < 1 and 0 < mask.block_scale[0] <= mask.block_scale[1] <= 1):
                raise ConfigError(
                    f"model.masks[{index}]: masked and block_scale are shares between 0 and 1"
                )
            if not 0 < mask.aspect_ratio[0] <= mask.aspect_ratio[1]:
                raise ConfigError(f"model.masks[{index}].aspect_ratio: is no range above 0")
        if not 0 <= model.teacher_momentum <= 1:
            raise ConfigError(f"model.teacher_momentum: {model.teacher_momentum} is not in 0 .. 1")
        self._config = config
        self._x_encoder = make_x_encoder(model)
        self._predictor = MaskPredictor(
            model.mask_predictor,
            model.x_encoder,
            len(model.masks),
            jnp.dtype(model.dtype),
            model.remat,
            model.unroll_layers,
        )

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        encoder_rng, predictor_rng = jax.random.split(rng)
        encoder, video = self._config.model.x_encoder, self._config.data.video
        size = (1, video.frames, video.image_size, video.image_size, 3)
        one = jnp.zeros((1, 1), jnp.int32)
        context = jnp.zeros((1, 1, encoder.hidden_size))
        predictor = self._predictor.init(predictor_rng, context, one, one, (1, 1, 1), 0)
        params = {
            "x_encoder": self._x_encoder.init(encoder_rng, jnp.zeros(size))["params"],
            "mask_predictor": predictor["params"],
        }
        return params, self.init_extra(params)

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> MaskedTokens:
        del rng
        video = normalise(arrays["video"])
        config = self._config.model
        frames = max(video.shape[1], config.x_encoder.tubelet_size)
        grid = token_grid(config.x_encoder, (frames, *video.shape[2:4]))
        teacher = jax.lax.stop_gradient(extra["teacher"]["x_encoder"])
        target = layers.standardise(self._x_encoder.apply({"params": teacher}, video))
        predicted, right = [], []
        for index in range(len(config.masks)):
            kept, masked = arrays[f"kept_{index}"], arrays[f"predicted_{index}"]
            context = self._x_encoder.apply({"params": params["x_encoder"]}, video, kept)
            found = self._predictor.apply(
                {"params": params["mask_predictor"]}, context, kept, masked, grid, index
            )
            predicted.append(found.astype(jnp.float32))
            right.append(jnp.take_along_axis(target, masked[..., None], axis=1))
        return MaskedTokens(target, tuple(predicted), tuple(right))

    def loss(
        self,
        params: PyTree,
        representations: MaskedTokens,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, arrays, rng, mesh
        pairs = tuple(zip(representations.predicted, representations.right, strict=True))
        loss, metrics = losses.masked_prediction(pairs)
        return loss, metrics | losses.teacher_metrics(representations.target)

    def init_extra(self, params: PyTree) -> PyTree:
        # Copies: the step consumes its state, which must not hold an array twice.
        return {"teacher": {"x_encoder": jax.tree.map(jnp.copy, params["x_encoder"])}}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        momentum = self._config.model.teacher_momentum
        averaged = jax.tree.map(
            lambda teacher, student: momentum * teacher + (1 - momentum) * student,
            extra["teacher"]["x_encoder"],
            params["x_encoder"],
        )
        return {"teacher": {"x_encoder": averaged}}


_OBJECTIVES = {
    "vljepa": VLJEPAObjective,
    "probe": ProbeObjective,
    "vjepa2": VJEPA2Objective,
    "text_pairs": TextPairsObjective,
    "language_model": LanguageModelObjective,
    "vlm": VLMObjective,
    "y_decoder": YDecoderObjective,
}


def make_objective(config: TrainConfig) -> Objective:
    return _OBJECTIVES[config.objective](config)


def frozen_tokens(
    config: TrainConfig, trained: PyTree, frozen: PyTree, arrays: Arrays
) -> dict[str, Array]:
    """What a frozen X-Encoder makes of a batch's video, for who needs it more than once.

    Every objective takes it in the video's place, with the same result.

    Returns:
        {"visual_tokens": [b, n, x]}; {} where there is no video or its encoder is trained.
    """
    if "video" not in arrays or "x_encoder" not in frozen or "x_encoder" in trained:
        return {}
    with jax.named_scope("x_encoder"):  # as it is called inside the models
        tokens = make_x_encoder(config.embedder[0]).apply(
            {"params": frozen["x_encoder"]}, normalise(arrays["video"])
        )
    return {"visual_tokens": tokens}

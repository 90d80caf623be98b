"""What is trained, as data: the one training step (``train_step.py``) serves every objective.

An objective is split into ``represent`` (rows -> embeddings, each row on its own) and ``loss``
(embeddings of the whole batch -> number), so that a batch too large for the memory can be
represented piece by piece and still have the loss, and the gradient, of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.probe import Probe
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.text_objectives import LanguageModelObjective, TextPairsObjective

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
            arrays: rows of a batch, as ``data.pipeline`` names them.
            rng: the key of this step, for objectives that mask or drop at random.
        """

    def loss(
        self, params: PyTree, representations: PyTree, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        """Returns the loss of the whole batch and metrics without gradient."""

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
            raise ConfigError(
                f"batch_size: {config.batch_size}, but InfoNCE compares a row with the others"
            )
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
        self, params: PyTree, representations: Pairs, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        predicted, target = representations.predicted, representations.target
        scale = self._model.apply({"params": params}, method="logit_scale")
        masked = self._config.loss.mask_equal_targets
        loss, metrics = losses.info_nce(
            predicted, target, scale, arrays["target_id"] if masked else None
        )
        return loss, metrics | losses.embedding_metrics(predicted, target)

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


class ProbeObjective:
    """Answer questions with labels: a probe, or pretraining on labels (``models.probe``)."""

    def __init__(self, config: TrainConfig) -> None:
        for name, least in (("per_clip", 1), ("query_length", 0)):
            if (value := getattr(config.data.text, name)) < least:
                raise ConfigError(f"data.text.{name}: {value} is less than {least}")
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
        self, params: PyTree, representations: Array, arrays: Arrays
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params
        names = sorted(self._config.model.label_sets)
        sizes = [self._config.model.label_sets[name] for name in names]
        first = jnp.cumsum(jnp.array([0, *sizes[:-1]]))
        label = first[arrays["label_set"]] + arrays["label"]
        return losses.cross_entropy(
            representations, label, arrays["question_mask"], arrays["label_set"], names
        )

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


_OBJECTIVES = {
    "vljepa": VLJEPAObjective,
    "probe": ProbeObjective,
    "text_pairs": TextPairsObjective,
    "language_model": LanguageModelObjective,
}


def make_objective(config: TrainConfig) -> Objective:
    return _OBJECTIVES[config.objective](config)

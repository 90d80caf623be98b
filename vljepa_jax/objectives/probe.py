"""Labels: a probe, or pretraining on them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.probe import Probe
from vljepa_jax.objectives.base import Arrays, Objective, Part, PyTree


class ProbeObjective(Objective):
    """Answer questions with labels: a probe, or pretraining on labels (``models.probe``)."""

    parts = (
        Part("X-Encoder", r"^x_encoder/"),
        Part("Pooler and question", r"^(pooler|set_query|token_embedding)/"),
        Part("Classifier", r"^classifier/"),
    )

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

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        return f"{config.data.text.per_clip} questions are asked of {visual} tokens"

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

"""V-JEPA 2's pretraining of an X-Encoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models import layers
from vljepa_jax.models.mask_predictor import MaskPredictor
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.objectives.base import Arrays, Objective, Part, PyTree


@struct.dataclass
class MaskedTokens:
    """Attributes: the teacher's tokens [B, n, D], each normalised over its features; and what was
    predicted and is right under each kind of mask, [B, p, D]. All float32."""

    target: Array
    predicted: tuple[Array, ...]
    right: tuple[Array, ...]


class VJEPA2Objective(Objective):
    """Predict what a slow copy of the encoder makes of masked tokens (V-JEPA 2, section 2).

    ``extra`` is {"teacher": {"x_encoder": ...}}, an exponential moving average of the encoder.
    """

    parts = (
        Part("X-Encoder", r"^x_encoder/"),
        Part("Predictor of masked tokens", r"^mask_predictor/"),
    )

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
        self._x_encoder = make_video_encoder(model)
        self._predictor = MaskPredictor(
            model.mask_predictor,
            model.x_encoder,
            len(model.masks),
            jnp.dtype(model.dtype),
            model.remat,
            model.unroll_layers,
        )

    @staticmethod
    def seen(config: TrainConfig, visual: int) -> str:
        del config
        return f"The teacher sees {visual} tokens, the encoder the kept ones under each mask,"

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        encoder_rng, predictor_rng = jax.random.split(rng)
        encoder, video = self._config.model.x_encoder, self._config.data.video
        size = (1, video.frames, video.image_size, video.image_size, 3)
        one = jnp.zeros((1, 1), jnp.int32)
        context = jnp.zeros((1, 1, encoder.hidden_size))
        predictor = self._predictor.init(predictor_rng, context, one, one, (1, 1, 1), 0)
        params = {
            "x_encoder": self._x_encoder.init(encoder_rng, jnp.zeros(size, jnp.uint8))["params"],
            "mask_predictor": predictor["params"],
        }
        return params, self.init_extra(params)

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> MaskedTokens:
        del rng
        video, config = arrays["video"], self._config.model
        grid = config.x_encoder.token_grid(*video.shape[1:4])
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

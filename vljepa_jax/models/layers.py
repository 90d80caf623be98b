"""Parts that the backbones share: norms, rotary embeddings, self-attention, MLPs, the layer stack.

Axes: b batch, t tokens, d width, h heads, k head size, f MLP width, l layers.

Every kernel is a matrix [in, out] (behind the stacked layer axis), so that one sharding rule fits
them all. Parameters are float32; the computation runs in ``dtype``, norms and softmax in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import Preprocessing
from vljepa_jax.models.placement import by_rows, gathered
from vljepa_jax.models.products import Dense, product, products_saveable

# Keeps the scale of activations whatever the width; about 0.02-0.03 at the published widths.
kernel_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def residual_init(num_layers: int) -> nn.initializers.Initializer:
    """For the two projections per layer that add to the residual stream, which sums 2 l of them."""
    return nn.initializers.variance_scaling(0.5 / num_layers, "fan_in", "truncated_normal")


def embedding_init(width: int) -> nn.initializers.Initializer:
    """Standard deviation width ** -0.5: 0.022 at Llama-3.2-1B's width, 1 after Gemma's scaling."""
    return nn.initializers.normal(width**-0.5)


def projection_init(scale: float) -> nn.initializers.Initializer:
    """For a projection from one space into another: the identity where their sizes agree.

    Args:
        scale: of the outputs, for inputs of unit variance.
    """

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        if shape[0] == shape[1]:
            return scale * jnp.eye(shape[0], dtype=dtype)
        return scale * kernel_init(key, shape, dtype)

    return init


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU. Through erf as in torch; jax.nn.gelu's erfc is far slower on CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


# ---------------------------------------------------------------------------------------------
# Pixels
# ---------------------------------------------------------------------------------------------
def normalise_pixels(
    video: UInt8[Array, "b T H W 3"], preprocessing: Preprocessing
) -> Float[Array, "b T H W 3"]:
    """Pixels by the family's mean and deviation; every video encoder begins with this."""
    chex.assert_type(video, jnp.uint8)
    chex.assert_shape(video, (None, None, None, None, 3))
    mean, std = (np.array(x, np.float32) for x in (preprocessing.mean, preprocessing.std))
    return (video.astype(jnp.float32) / 255.0 - mean) / std


# ---------------------------------------------------------------------------------------------
# Norms and means
# ---------------------------------------------------------------------------------------------
class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32.

    Attributes:
        eps: added to the mean square.
        dtype: of the result.
        zero_centred: the parameter holds the scale's distance from 1 (Gemma) and starts at 0.
    """

    eps: float
    dtype: Any
    zero_centred: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        init = nn.initializers.zeros if self.zero_centred else nn.initializers.ones
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
        return (x * (1 + scale if self.zero_centred else scale)).astype(self.dtype)


def layer_norm(eps: float, dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with the variance of the centred values; E[x^2] - E[x]^2 cancels in float32."""
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_fast_variance=False, name=name)


def standardise(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """LayerNorm without parameters, in float32; eps as torch's default, which V-JEPA 2 takes."""
    x = x.astype(jnp.float32)
    x -= jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-5)


def l2_normalise(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Unit vectors along the last axis, in float32; a zero vector stays zero."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))


def lengths(mask: Bool[Array, "b t"]) -> Int[Array, " b"]:
    """How many tokens each row has, of a mask that is True at the first ones and nowhere else."""
    return jnp.sum(mask, axis=1, dtype=jnp.int32)


def masked_mean(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """Mean of the tokens where the mask is True, in float32; zero where there are none."""
    weights = mask.astype(jnp.float32)
    total = jnp.einsum("btd,bt->bd", x.astype(jnp.float32), weights)
    return total / jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)


def masked_max(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """Each feature's largest value where the mask is True, in float32; zero where none is."""
    kept = jnp.where(mask[..., None], x.astype(jnp.float32), -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), kept, 0.0)


def first_token(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """The first token, in float32; zero where the mask is True nowhere."""
    return jnp.where(mask.any(axis=1, keepdims=True), x[:, 0].astype(jnp.float32), 0.0)


def last_token(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """The last token where the mask is True, in float32; zero where there are none."""
    last = x.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    picked = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0].astype(jnp.float32)
    return jnp.where(mask.any(axis=1, keepdims=True), picked, 0.0)


class LearnedPositions(Protocol):
    """The fields of a config of a model with a vector for each position."""

    family: str
    max_length: int


def check_positions(length: int, config: LearnedPositions) -> None:
    """Raises ValueError where a text has more tokens than the model has positions."""
    if length > config.max_length:
        raise ValueError(
            f"{length} tokens, where a text of {config.family} has at most {config.max_length}; "
            "set the length in data.text accordingly"
        )


class TokenTable(nn.Embed):
    """A vector a token: [*b] ids -> [*b, d] in ``dtype``."""

    def __call__(self, tokens: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        # Each device looks its own rows up: a table divided by features would give its part of
        # every row of the batch.
        (table,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        return by_rows(gathered(table)[tokens])

    def attend(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """The product of each vector with each token's."""
        x, table = self.promote_dtype(x, self.embedding, dtype=self.dtype)
        return product(x, table.T, (((x.ndim - 1,), (0,)), ((), ())))


# ---------------------------------------------------------------------------------------------
# Rotary position embeddings
# ---------------------------------------------------------------------------------------------
@struct.dataclass
class Rotary:
    """Angles of a rotary embedding: x * cos + turn(x) * sin.

    Attributes:
        cos: [t, k], float32; or [b, t, k] where every row has positions of its own.
        sin: likewise.
        pairing: which features turn together: "half" (i, i + k/2) or "adjacent" (2 i, 2 i + 1).
    """

    cos: Float[Array, "*b t k"]
    sin: Float[Array, "*b t k"]
    pairing: Literal["half", "adjacent"] = struct.field(pytree_node=False)

    def at(self, positions: Int[Array, "b t"]) -> Rotary:
        """The angles of tokens at these rows of a table [n, k]."""
        return self.replace(cos=self.cos[positions], sin=self.sin[positions])


def rotary_frequencies(theta: float, head_size: int) -> np.ndarray:
    """Angles per position, theta ** (-2 i / k): float32 [k / 2]."""
    return 1.0 / np.float32(theta) ** (np.arange(0, head_size, 2, dtype=np.float32) / head_size)


def text_rotary(length: int, frequencies: Float[Array, " half"]) -> Rotary:
    """Rotary embedding of positions 0 .. length - 1, as Llama and Gemma pair features."""
    # Constants: XLA's CPU backend would compute each cosine again for every feature that turns.
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies
    angles = np.concatenate([angles, angles], axis=-1)
    return Rotary(jnp.asarray(np.cos(angles)), jnp.asarray(np.sin(angles)), "half")


def rotate(x: Float[Array, "b t h k"], rotary: Rotary) -> Float[Array, "b t h k"]:
    """Applies a rotary embedding to queries or keys; the arithmetic is in float32."""
    values = x.astype(jnp.float32)
    if rotary.pairing == "half":
        first, second = jnp.split(values, 2, axis=-1)
        turned = jnp.concatenate([-second, first], axis=-1)
    else:
        pairs = values.reshape(*values.shape[:-1], -1, 2)
        turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(values.shape)
    cos, sin = rotary.cos[..., None, :], rotary.sin[..., None, :]
    return (values * cos + turned * sin).astype(x.dtype)


# ---------------------------------------------------------------------------------------------
# Attention and MLP
# ---------------------------------------------------------------------------------------------
class SelfAttention(nn.Module):
    """Projections around attention.

    Attributes:
        num_heads: query heads.
        num_kv_heads: key/value heads.
        head_size: features per head.
        num_layers: of the stack, for the initial scale of the output projection.
        dtype: of the computation.
        use_bias: in all four projections.
        qk_norm_eps: RMS-normalises queries and keys per head; None leaves them.
        qk_norm_zero_centred: as ``RMSNorm.zero_centred`` (Gemma; not Qwen3).
    """

    num_heads: int
    num_kv_heads: int
    head_size: int
    num_layers: int
    dtype: Any
    use_bias: bool = False
    qk_norm_eps: float | None = None
    qk_norm_zero_centred: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        rotary: Rotary | None,
        attend: Callable[[Array, Array, Array], Array],
    ) -> Float[Array, "b t d"]:
        """``attend(query, key, value)`` is attention with its scale and masks set.

        Without ``rotary`` the tokens have no positions.
        """
        width = x.shape[-1]
        x = by_rows(x)
        project = functools.partial(
            Dense, use_bias=self.use_bias, dtype=self.dtype, kernel_init=kernel_init
        )

        def heads(count: int, name: str) -> Float[Array, "b t h k"]:
            projected = project(count * self.head_size, name=name)(x)
            return rearrange(projected, "b t (h k) -> b t h k", h=count)

        query, key = heads(self.num_heads, "query"), heads(self.num_kv_heads, "key")
        value = heads(self.num_kv_heads, "value")
        if self.qk_norm_eps is not None:
            norm = functools.partial(
                RMSNorm, self.qk_norm_eps, self.dtype, zero_centred=self.qk_norm_zero_centred
            )
            query, key = norm(name="query_norm")(query), norm(name="key_norm")(key)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        mixed = rearrange(attend(query, key, value), "b t h k -> b t (h k)")
        return by_rows(
            project(width, name="output", kernel_init=residual_init(self.num_layers))(mixed)
        )


class MLP(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) when gated.

    Attributes:
        hidden_size: f.
        num_layers: of the stack, for the initial scale of the last projection.
        activation: elementwise function.
        gated: with a gate projection.
        use_bias: in all projections.
        dtype: of the computation.
    """

    hidden_size: int
    num_layers: int
    activation: Callable[[Array], Array]
    gated: bool
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        project = functools.partial(
            Dense, use_bias=self.use_bias, dtype=self.dtype, kernel_init=kernel_init
        )
        x = by_rows(x)
        hidden = project(self.hidden_size, name="up")(x)
        if self.gated:
            hidden = self.activation(project(self.hidden_size, name="gate")(x)) * hidden
        else:
            hidden = self.activation(hidden)
        down = project(x.shape[-1], name="down", kernel_init=residual_init(self.num_layers))
        return by_rows(down(hidden))


# ---------------------------------------------------------------------------------------------
# The stack
# ---------------------------------------------------------------------------------------------
Remat = Literal["none", "dots", "full"]


def scan_layers(
    block: type[nn.Module], num_layers: int, remat: Remat, unroll: bool, in_axes: tuple
) -> type:
    """One traced layer, run ``num_layers`` times; parameters are stacked along axis 0.

    ``block.__call__(carry, *inputs)`` returns (carry, output), the outputs being stacked along axis
    0; the output may be None. A layer that sows into "intermediates"
    has its values stacked along axis 0 as well.

    Args:
        block: the layer's class.
        num_layers: length of the stack.
        remat: what the backward pass recomputes: "none" keeps all activations, "dots" keeps the
            results of the matrix products with weights, "full" keeps only the layers' inputs.
        unroll: compiles every layer on its own. XLA's loops on CPU copy what they keep for the
            backward pass; without them the demo's step takes three quarters of the time.
        in_axes: per input after the carry: 0 (one slice a layer) or ``nn.broadcast``.

    Returns:
        The class of the stack, built like ``block``.
    """
    if remat != "none":
        policy = {
            "dots": products_saveable,
            "full": jax.checkpoint_policies.nothing_saveable,
        }[remat]
        block = nn.remat(block, policy=policy, prevent_cse=False)  # the scan already separates them
    return nn.scan(
        block,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        in_axes=in_axes,
        length=num_layers,
        unroll=num_layers if unroll else 1,
    )

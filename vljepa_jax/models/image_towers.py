"""The image towers of CLIP, SigLIP 2 and PE-Core: one ViT, whose differences are data.

Source: transformers' models/clip and models/siglip, timm's models/eva.py and
facebookresearch/perception_models' core/vision_encoder/pe.py.

Axes: b batch, T frames, H height and W width in pixels, m images, n patches of one, rows by rows, c
tokens of one (the patches, after the class token where there is one), d width, e size of the
embedding, h heads, k head size.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, UInt8

from vljepa_jax.config import ImageTowerConfig
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention
from vljepa_jax.models.placement import by_rows
from vljepa_jax.models.products import Dense
from vljepa_jax.models.vit_layer import ACTIVATIONS, Layer

ROPE_THETA = 10_000.0


class ImageTower(nn.Module):
    """Images -> tokens; as an X-Encoder (``models.video_encoder``) every frame by itself.

    Attributes:
        config: sizes.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: ImageTowerConfig
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    def __call__(self, video: UInt8[Array, "b T H W 3"]) -> Float[Array, "b T*n d"]:
        """Normalises pixels and encodes them; as for ``encode``."""
        return self.encode(layers.normalise_pixels(video, self.config.preprocessing))

    def encode(self, video: Float[Array, "b T H W 3"]) -> Float[Array, "b T*n d"]:
        """The patches' tokens of normalised frames, after the final norm; no class token.

        Raises:
            ConfigError: the frames have another size than the tower's.
        """
        self.config.token_grid(*video.shape[1:4])
        tokens = self.contextualise(rearrange(video, "b t h w c -> (b t) h w c"))
        patches = tokens[:, 1:] if self.config.class_token else tokens
        return rearrange(patches, "(b t) n d -> b (t n) d", b=len(video))

    @nn.compact
    def contextualise(self, images: Float[Array, "m H W 3"]) -> Float[Array, "m c d"]:
        """All tokens of normalised images, after the final norm."""
        config = self.config
        width, patch = config.hidden_size, config.patch_size
        pattern = "m (rows h) (columns w) c -> m (rows columns) (h w c)"
        whole = config.side * patch
        pixels = images[:, :whole, :whole].astype(self.dtype)
        pixels = rearrange(pixels, pattern, h=patch, w=patch)
        x = Dense(
            width,
            use_bias=config.patch_bias,
            dtype=self.dtype,
            kernel_init=layers.kernel_init,
            name="patch_embedding",
        )(by_rows(pixels))
        small = layers.embedding_init(width)
        if config.class_token:
            token = self.param("class_token", small, (width,), jnp.float32)
            first = jnp.broadcast_to(token.astype(self.dtype), (len(x), 1, width))
            x = jnp.concatenate([first, x], axis=1)
        positions = self.param("position_embedding", small, x.shape[1:], jnp.float32)
        x += positions.astype(self.dtype)
        if config.pre_norm:
            x = layers.layer_norm(config.norm_eps, self.dtype, name="pre_norm")(x)
        rotary = None
        if config.rotary:
            rotary = image_rotary(config.side, width // config.num_heads, config.class_token)
        stack = layers.scan_layers(
            Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        x, _ = stack(config, self.dtype, activation=config.activation, name="layers")(x, rotary)
        return by_rows(layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x))


class ImageHead(nn.Module):
    """All tokens of an image -> its embedding: the class token's, or by attention pooling.

    Attributes:
        config: of the tower.
        embedding_size: e.
        dtype: of the pooling; the projection is float32.
    """

    config: ImageTowerConfig
    embedding_size: int
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Float[Array, "m c d"]) -> Float[Array, "m e"]:
        """The result is not normalised."""
        config = self.config
        if config.pooling == "attention":
            x = AttentionPool(config, self.dtype, name="pool")(tokens)
        else:
            x = tokens[:, 0]
        x = x.astype(jnp.float32)
        if config.projection == "none":
            return x
        return Dense(
            self.embedding_size,
            use_bias=config.projection == "with_bias",
            kernel_init=layers.kernel_init,
            name="projection",
        )(x)


class AttentionPool(nn.Module):
    """A learned query attends to all tokens; then an MLP around a residual.

    Attributes:
        config: of the tower.
        dtype: of the computation.
    """

    config: ImageTowerConfig
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Float[Array, "m c d"]) -> Float[Array, "m d"]:
        config = self.config
        width, heads = config.hidden_size, config.pool_heads
        probe = self.param("probe", layers.embedding_init(width), (width,), jnp.float32)

        def heads_of(x: Float[Array, "m t d"], name: str) -> Float[Array, "m t h k"]:
            projected = Dense(width, dtype=self.dtype, kernel_init=layers.kernel_init, name=name)(x)
            return rearrange(projected, "m t (h k) -> m t h k", h=heads)

        probes = jnp.broadcast_to(probe.astype(self.dtype), (len(tokens), 1, width))
        query = heads_of(probes, "query")
        key, value = heads_of(tokens, "key"), heads_of(tokens, "value")
        mixed = attention(query, key, value, scale=(width // heads) ** -0.5)
        x = Dense(width, dtype=self.dtype, kernel_init=layers.residual_init(1), name="output")(
            rearrange(mixed, "m t h k -> m t (h k)")
        )
        x += layers.MLP(
            hidden_size=config.pool_mlp_size,
            num_layers=1,
            activation=ACTIVATIONS[config.activation],
            gated=False,
            use_bias=True,
            dtype=self.dtype,
            name="mlp",
        )(layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x))
        return x[:, 0]


def image_rotary(side: int, head_size: int, class_token: bool) -> layers.Rotary:
    """PE-Core's 2-D rotary embedding: half of each head turns with the column, half with the row.

    Args:
        side: rows and columns of patches.
        head_size: k, a multiple of 4.
        class_token: stands first and does not turn; rows and columns then count from 1.

    Returns:
        cos and sin, [c, k].
    """
    frequencies = layers.rotary_frequencies(ROPE_THETA, head_size // 2)
    places = np.arange(side, dtype=np.float32) + class_token
    rows, columns = np.meshgrid(places, places, indexing="ij")
    angles = np.concatenate(
        [place.reshape(-1, 1) * frequencies for place in (columns, rows)], axis=-1
    ).repeat(2, axis=-1)
    if class_token:
        angles = np.concatenate([np.zeros((1, head_size), np.float32), angles])
    return layers.Rotary(jnp.asarray(np.cos(angles)), jnp.asarray(np.sin(angles)), "adjacent")

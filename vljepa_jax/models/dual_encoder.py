"""CLIP, SigLIP 2 and PE-Core: an image tower and a text tower that embed into one space.

Axes: b batch, T frames, H height and W width in pixels, t tokens, e size of the space.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import DualEncoderConfig
from vljepa_jax.models import layers
from vljepa_jax.models.image_towers import ImageHead, ImageTower
from vljepa_jax.models.text_towers import TextTower


class DualEncoder(nn.Module):
    """Both towers.

    Attributes:
        config: of the towers.
        dtype: of the computation in their layers.
        unroll: compiles every layer on its own.
    """

    config: DualEncoderConfig
    dtype: jnp.dtype = jnp.float32
    unroll: bool = False

    def setup(self):
        config = self.config
        self.image = ImageTower(config.image, self.dtype, unroll=self.unroll)
        self.head = ImageHead(config.image, config.text.embedding_size, self.dtype)
        self.text = TextTower(config.text, self.dtype, unroll=self.unroll)

    def __call__(
        self,
        video: UInt8[Array, "b T H W 3"],
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
    ) -> tuple[Float[Array, "b e"], Float[Array, "b e"]]:
        """Embeds both sides, for parameters to be made."""
        return self.embed_video(video), self.embed_text(tokens, mask)

    def embed_images(self, images: Float[Array, "m H W 3"]) -> Float[Array, "m e"]:
        """Embeddings of normalised images, as they leave the projection."""
        return self.head(self.image.contextualise(images))

    def embed_video(self, video: UInt8[Array, "b T H W 3"]) -> Float[Array, "b e"]:
        """The mean of the frames' embeddings, then L2-normalised.

        So does Perception Encoder's evaluation (apps/pe/clip_benchmark), whose frames are not
        normalised before the mean.
        """
        pixels = layers.normalise_pixels(video, self.config.image.preprocessing)
        found = self.embed_images(rearrange(pixels, "b t h w c -> (b t) h w c"))
        return layers.l2_normalise(reduce(found, "(b t) e -> b e", "mean", b=len(video)))

    def embed_text(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b e"]:
        """Unit vectors of texts, padded on the right; the zero vector without tokens."""
        return layers.l2_normalise(self.text(tokens, mask))

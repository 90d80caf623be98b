"""CLIP, SigLIP 2 or PE-Core as an embedder, from published weights."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from vljepa_jax.config import ConfigError, DualEncoderConfig, VideoInput
from vljepa_jax.convert.dual_encoders import read_dual_encoder
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.inference.arguments import check_least
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.text_batches import text_batches
from vljepa_jax.models.dual_encoder import DualEncoder
from vljepa_jax.models.placement import bucket_rows, everywhere, on_rows, over_rows, pad_rows
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.run_dir import CheckpointError

FRAMES = 8  # of a video, as Perception Encoder's evaluation takes them
_KINDS = {"clip": "CLIP", "siglip2": "SigLIP 2", "pe_core": "PE-Core"}


def load_published(
    directory: str | os.PathLike[str],
    *,
    step: int | None = None,
    y_decoder: str | os.PathLike[str] | None = None,
    frames: int = 0,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> DualEncoderModel:
    """The dual encoder in a directory of published weights; see ``inference.load.load``."""
    for name, value in (("step", step), ("y_decoder", y_decoder)):
        if value is not None:
            raise ConfigError(
                f"'{directory}' holds published weights, to which {name} means nothing"
            )
    directory = Path(os.path.abspath(directory))
    try:
        config, params = read_dual_encoder(directory)
    except ConversionError as error:
        raise CheckpointError(f"'{directory}': {error}") from error
    return DualEncoderModel(
        config,
        params,
        read_tokenizer(config, directory),
        frames=frames,
        batch_size=batch_size,
        mesh=mesh,
        source=directory,
    )


def read_tokenizer(config: DualEncoderConfig, directory: Path) -> Tokenizer:
    """The tokenizer beside the weights: tokenizer.json, or CLIP's vocab.json and merges.txt.

    Raises:
        TokenizerError: there is none, or it is of another vocabulary than the token table.
    """
    names = ("tokenizer.json", "vocab.json")
    path = next((directory / n for n in names if (directory / n).is_file()), None)
    if path is None:
        raise TokenizerError(
            f"{directory}: holds no tokenizer.json, nor CLIP's vocab.json and merges.txt"
        )
    tokenizer = Tokenizer(str(path))
    rows = config.text.vocab_size
    if tokenizer.vocab_size != rows:
        raise TokenizerError(
            f"{path}: has {tokenizer.vocab_size} tokens, where the weights' token table has {rows} "
            "rows; take the tokenizer that was published with them"
        )
    if config.text.filled_up and tokenizer.pad_id != config.text.pad_id:
        raise TokenizerError(
            f"{path}: the padding token {tokenizer.pad_token} has the id {tokenizer.pad_id}, where "
            f"{config.text.pad_id} is expected"
        )
    return tokenizer


class DualEncoderModel(Embedder):
    """Embeds texts, and videos as the mean of their frames.

    A query changes nothing: such a model sees a video and knows no question.

    Attributes:
        config: sizes of both towers.
        mesh: over which inputs are divided.
    """

    def __init__(
        self,
        config: DualEncoderConfig,
        params: Any,
        tokenizer: Tokenizer,
        *,
        frames: int = 0,
        batch_size: int = 32,
        mesh: Mesh | None = None,
        source: Path | None = None,
    ) -> None:
        """See ``inference.load.load``; ``params`` are those of ``models.dual_encoder``.

        Raises:
            ConfigError: no input would be embedded at once, or a number of frames cannot be.
        """
        check_least("batch_size", batch_size, 1)
        check_least("frames", frames, 0)
        self.config = config
        self.batch_size = batch_size
        self.embedding_size = config.text.embedding_size
        self.video = VideoInput(
            frames=frames or FRAMES,
            image_size=config.image.image_size,
            sampling="uniform",
            crop="centre",
            crop_scale=(1.0, 1.0),
            preprocessing=config.image.preprocessing,
        )
        self.mesh = local_mesh() if mesh is None else mesh
        self._source, self._tokenizer = source, tokenizer
        self._params = jax.device_put(params, everywhere(self.mesh))
        module = DualEncoder(config)

        def compiled(method: str) -> jax.stages.Wrapped:
            def apply(params: Any, arrays: tuple[Array, ...]) -> Array:
                return module.apply({"params": params}, *arrays, method=method)

            return over_rows(apply, self.mesh)

        self._embed_video, self._embed_text = compiled("embed_video"), compiled("embed_text")

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = {"model": dataclasses.asdict(self.config), "tokenizer": self._tokenizer.sha256}
        return fingerprint(settings, self._params)

    @property
    def card(self) -> dict[str, Any]:
        return {
            "kind": _KINDS[self.config.family],
            "name": "" if self._source is None else self._source.name,
            "source": "" if self._source is None else str(self._source),
            "fingerprint": self.fingerprint,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._params)),
            "embedding_size": self.embedding_size,
            "frames": self.video.frames,
            "image_size": self.video.image_size,
            "queries": "not read",
        }

    def embed_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n e"]:
        texts = [texts] if isinstance(texts, str) else list(texts)
        if self.config.text.lowercase:
            texts = [text.lower() for text in texts]
        tokens, mask = self._tokenizer.encode(texts, self.config.text.max_length)
        embeddings = self._empty(len(texts))
        for rows, *arrays in text_batches(tokens, mask, self.batch_size, self.mesh):
            placed = on_rows(tuple(arrays), self.mesh)
            embeddings[rows] = np.asarray(self._embed_text(self._params, placed))[: len(rows)]
        return embeddings

    def encode_clips(self, clips: UInt8[np.ndarray, "n T H W 3"]) -> Float[np.ndarray, "n e"]:
        """The videos' embeddings themselves."""
        padded = pad_rows(clips, bucket_rows(len(clips), self.batch_size, self.mesh))
        placed = on_rows((padded,), self.mesh)
        return np.asarray(self._embed_video(self._params, placed))[: len(clips)]

    def predict_tokens(
        self,
        visual_tokens: Float[np.ndarray, "m e"],
        rows: Int[np.ndarray, " n"],
        queries: Sequence[str],
    ) -> Float[np.ndarray, "n e"]:
        del queries
        return visual_tokens[rows]

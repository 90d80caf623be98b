"""Embeddings -> text: a trained Y-Decoder, and the nearest text of a bank beside it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from vljepa_jax.config import ConfigError, TrainConfig, YDecoderConfig
from vljepa_jax.convert.exported import is_exported, load_exported
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.inference.arguments import checked_embeddings
from vljepa_jax.inference.generate import Decoding, Method, generate
from vljepa_jax.models.parts import PARTS, Y_DECODER
from vljepa_jax.models.placement import bucket_rows, everywhere, on_rows, pad_rows
from vljepa_jax.models.y_decoder import YDecoder
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.places import in_bucket, place
from vljepa_jax.run_dir import CheckpointError, load_params, tree_differences


class TextDecoder:
    """A Y-Decoder with its tokenizer.

    Batches are padded to a power of two up to ``batch_size``, so that few sizes are compiled, and
    to what shares out over the devices.

    Attributes:
        config: of its training run.
        batch_size: texts written at once.
        mesh: over which they are divided.
    """

    def __init__(
        self, config: TrainConfig, params: Any, *, batch_size: int = 32, mesh: Mesh | None = None
    ) -> None:
        """See ``load_text_decoder``; of ``params``, only the decoder's are kept.

        Raises:
            ConfigError: the run trained no Y-Decoder.
        """
        if not isinstance(config.model, YDecoderConfig):
            raise ConfigError(f"this run trained objective '{config.objective}', and no Y-Decoder")
        self.config = config
        self.batch_size = batch_size
        self._tokenizer = Tokenizer(config.data.text.tokenizer)
        self._end_id = self._tokenizer.special_id(config.data.text.end_token)
        self._model = YDecoder(config.model)
        self.mesh = local_mesh() if mesh is None else mesh
        self._params = jax.device_put(
            {name: params[name] for name in Y_DECODER}, everywhere(self.mesh)
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the weights and the settings that texts depend on."""
        settings = {
            "model": dataclasses.asdict(self.config.model),
            "length": self.config.data.text.length,
            "end": self._end_id,
            "tokenizer": self._tokenizer.sha256,
        }
        return fingerprint(settings, self._params)

    def decode(
        self,
        embeddings: Float[np.ndarray, "n e"],
        method: Method = "greedy",
        *,
        max_tokens: int = 0,
        **settings: Any,
    ) -> list[str]:
        """Writes the text of each embedding.

        Args:
            embeddings: unit vectors of the shared space: S_Y or Ŝ_Y.
            method: "greedy", "beam" or "top_p"; ``settings`` are its, see ``generate.Decoding``.
            max_tokens: at most; 0 for as many as in training.

        Raises:
            TypeError: the embeddings are no array.
            ValueError: they are of another size, or a setting is out of range.
        """
        embeddings = checked_embeddings(embeddings, self.config.model.vljepa.embedding_size)
        decoding = Decoding(method, **settings)
        longest = max_tokens or self.config.data.text.length
        texts: list[str] = []
        for start in range(0, len(embeddings), self.batch_size):
            rows = np.asarray(embeddings[start : start + self.batch_size], np.float32)
            room = bucket_rows(len(rows), self.batch_size, self.mesh)
            placed = on_rows(pad_rows(rows, room), self.mesh)
            how = (longest, self._end_id, decoding, start, self.mesh)
            written = generate(self._model, self._params, placed, *how)
            tokens = np.asarray(written.tokens)[: len(rows)]
            texts += [self._tokenizer.decode(row) for row in tokens]
        return texts


def load_text_decoder(
    run_dir: str | os.PathLike, params: Any, *, batch_size: int = 32, mesh: Mesh | None = None
) -> TextDecoder:
    """The Y-Decoder that a training run left, for the model that it was trained on.

    Args:
        run_dir: a run of objective "y_decoder", or an export of one.
        params: of the VL-JEPA whose embeddings it shall decode.
        mesh: what it runs on; by default all devices of this process.

    Raises:
        CheckpointError: the directory is not a run's, or holds no complete checkpoint.
        ConfigError: the run trained no Y-Decoder, or one for another Y-Encoder.
    """
    if not in_bucket(place(run_dir)) and is_exported(run_dir):
        try:
            config, own = load_exported(run_dir)
        except ConversionError as error:
            raise CheckpointError(f"'{run_dir}': {error}") from error
    else:
        config, own = load_params(run_dir)
    decoder = TextDecoder(config, own, batch_size=batch_size, mesh=mesh)
    learnt, given = ({n: tree.get(n, {}) for n in PARTS["y_encoder"]} for tree in (own, params))
    # A run in bfloat16 holds what it does not train in bfloat16.
    same = not tree_differences(learnt, given) and all(
        jax.tree.leaves(
            jax.tree.map(
                lambda a, b: np.array_equal(a, np.asarray(b).astype(a.dtype)), learnt, given
            )
        )
    )
    if not same:
        raise ConfigError(
            f"the Y-Decoder in '{run_dir}' was trained for another Y-Encoder than this model's; "
            "train one with --config.init_from=RUN:y_encoder"
        )
    return decoder


class TextBank:
    """Nearest-neighbour decoding: the text of a fixed list whose embedding is the nearest.

    It writes nothing new, and is what a Y-Decoder has to beat.

    Attributes:
        texts: the bank.
    """

    def __init__(self, texts: Sequence[str], embeddings: Float[np.ndarray, "m e"]) -> None:
        """``embeddings`` are the S_Y of ``texts``, unit vectors.

        Raises:
            ValueError: the bank is empty, or the two are not of one length.
        """
        if not texts or len(texts) != len(embeddings):
            raise ValueError(f"a bank of {len(texts)} texts and {len(embeddings)} embeddings")
        self.texts = tuple(texts)
        self._embeddings = embeddings

    def decode(self, embeddings: Float[np.ndarray, "n e"]) -> list[str]:
        """The text of the bank with the highest cosine to each embedding; the first of equals.

        Raises:
            TypeError, ValueError: the embeddings are no array, or of another size.
        """
        embeddings = checked_embeddings(embeddings, self._embeddings.shape[1])
        nearest = np.argmax(embeddings @ self._embeddings.T, axis=1)
        return [self.texts[index] for index in nearest]

"""A VL-JEPA as an embedder, with the parameters that a training run left."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from vljepa_jax.config import ConfigError, ModelConfig, TrainConfig, VLMConfig, YDecoderConfig
from vljepa_jax.convert.exported import is_exported, load_exported
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.inference.arguments import check_least, check_texts
from vljepa_jax.inference.embedder import Embedder, History
from vljepa_jax.inference.text_batches import text_batches
from vljepa_jax.inference.text_decoder import load_text_decoder
from vljepa_jax.models.placement import (
    bucket_rows,
    everywhere,
    on_rows,
    over_rows,
    pad_rows,
)
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.places import AnyPath, in_bucket, place
from vljepa_jax.run_dir import (
    CheckpointError,
    load_params,
    newest,
    read_metrics,
    read_summary,
    require,
)


def load_run(
    run_dir: str | os.PathLike,
    *,
    step: int | None = None,
    y_decoder: str | os.PathLike | None = None,
    frames: int = 0,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> Model:
    """The VL-JEPA that a training run left; see ``inference.load.load``."""
    run_dir = place(run_dir if in_bucket(run_dir) else os.path.abspath(run_dir))
    step = int(require(run_dir, step).name)
    config, params = load_params(run_dir, step=step)
    model = Model(
        config,
        params,
        frames=frames,
        batch_size=batch_size,
        mesh=mesh,
        source=run_dir,
        step=step,
    )
    beside = run_dir / "y_decoder"
    # It is the newest checkpoint's: the Y-Encoder that it reads may have been another before.
    if y_decoder is None and step == int(newest(run_dir).name) and newest(beside) is not None:
        y_decoder = beside
    if y_decoder is not None:
        model.attach(y_decoder)
    return model


def load_export(
    directory: str | os.PathLike,
    *,
    step: int | None = None,
    y_decoder: str | os.PathLike | None = None,
    frames: int = 0,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> Model:
    """The VL-JEPA that ``launch/convert.py --export`` wrote; see ``inference.load.load``."""
    if step is not None:
        raise ConfigError(f"'{directory}' is an exported model, which has no checkpoints by step")
    directory = Path(os.path.abspath(directory))
    try:
        config, params = load_exported(directory)
    except ConversionError as error:
        raise CheckpointError(f"'{directory}': {error}") from error
    model = Model(config, params, frames=frames, batch_size=batch_size, mesh=mesh, source=directory)
    if y_decoder is None and is_exported(directory / "y_decoder"):
        y_decoder = directory / "y_decoder"
    if y_decoder is not None:
        model.attach(y_decoder)
    return model


def require_vljepa(config: TrainConfig) -> None:
    """Raises ConfigError, with the mend, where a run trains no VL-JEPA."""
    if isinstance(config.model, ModelConfig):
        return
    mend = "launch/convert.py --export writes its backbones out"
    if isinstance(config.model, YDecoderConfig):
        mend = "load the VL-JEPA's run, with y_decoder=DIR"
    elif isinstance(config.model, VLMConfig):
        mend = "load it with vljepa_jax.inference.vlm.load_vlm"
    elif hasattr(config.model, "x_encoder"):
        mend = f"start one from it with --config.init_from=DIR:x_encoder, or {mend}"
    raise ConfigError(f"this run trained objective '{config.objective}', and no VL-JEPA: {mend}")


class Model(Embedder):
    """Embeds texts and videos with one set of parameters.

    Shapes are bucketed, so that the model compiles once for each of a few sizes and not for
    every input: a batch is padded to a power of two up to ``batch_size``, and to what shares out
    over the devices; texts to a power of two up to the length that the config allows. The padding
    changes no result.

    Attributes:
        config: of the training run.
        video: the run's settings, in their deterministic form.
        mesh: over which inputs are divided.
        text_decoder: a Y-Decoder; ``None`` where none is attached.
    """

    def __init__(
        self,
        config: TrainConfig,
        params: Any,
        *,
        frames: int = 0,
        batch_size: int = 32,
        mesh: Mesh | None = None,
        source: AnyPath | None = None,
        step: int | None = None,
    ) -> None:
        """See ``load``; ``params`` are those of ``VLJEPA``.

        Args:
            source, step: where they are from, for card and history; ``None`` for nowhere.

        Raises:
            ConfigError: the run trained no VL-JEPA, the X-Encoder cannot take this number of
                frames, or fewer than one input would be embedded at once.
        """
        require_vljepa(config)
        check_least("batch_size", batch_size, 1)
        check_least("frames", frames, 0)
        self.config = config
        self._cut: set[str] = set()  # lengths of which a text was longer
        self.batch_size = batch_size
        self.embedding_size = config.model.embedding_size
        self._source, self._step = source, step
        self.video = dataclasses.replace(
            config.video_input,
            frames=frames or config.data.video.frames,
            sampling="uniform",
            crop="centre",
        )
        self.require_frames(self.video.frames)
        text = config.data.text
        self._query_tokenizer = Tokenizer(text.query_tokenizer)
        self._target_tokenizer = Tokenizer(text.target_tokenizer)
        self.mesh = local_mesh() if mesh is None else mesh
        self.take(params)
        module = VLJEPA(config.model)

        def compiled(method: str) -> jax.stages.Wrapped:
            def apply(params: Any, arrays: tuple[Array, ...]) -> Array:
                return module.apply({"params": params}, *arrays, method=method)

            return over_rows(apply, self.mesh)

        self._encode_video = compiled("encode_video")
        self._predict = compiled("predict")
        self._encode_text = compiled("encode_text")
        self._take = over_rows(lambda _, arrays: jnp.take(*arrays, axis=0), self.mesh)

    def require_frames(self, frames: int) -> None:
        side = self.video.image_size
        self.config.model.x_encoder.token_grid(frames, side, side)

    def take(self, params: Any) -> None:
        """Goes on with other parameters of the same shapes, for which nothing compiles again.

        ``None`` gives up those that it has, until others are taken.
        """
        self._params = jax.device_put(params, everywhere(self.mesh))
        self.__dict__.pop("fingerprint", None)  # which is that of the parameters

    def embed_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n e"]:
        texts = [texts] if isinstance(texts, str) else list(texts)
        check_texts("texts", texts)
        prompted = [self.config.data.text.target_prompt + text for text in texts]
        tokens, mask = self._encoded(self._target_tokenizer, prompted, "target_length")
        embeddings = self._empty(len(texts))
        for rows, ids, valid in text_batches(tokens, mask, self.batch_size, self.mesh):
            embedded = np.asarray(self._encode_text(self._params, self._placed(ids, valid)))
            embeddings[rows] = embedded[: len(rows)]
        return embeddings

    def attach(self, y_decoder: str | os.PathLike) -> None:
        """Takes the Y-Decoder of a run; raises as ``load_text_decoder``."""
        self.text_decoder = load_text_decoder(
            y_decoder, self._params, batch_size=self.batch_size, mesh=self.mesh
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        model = dataclasses.asdict(self.config.model)
        for name in ("remat", "unroll_layers"):  # how it is compiled
            del model[name]
        text = dataclasses.asdict(self.config.data.text)
        for name in ("query_tokenizer", "target_tokenizer"):  # by their content, not their place
            text[name] = getattr(self, f"_{name}").sha256
        return fingerprint(
            {"model": model, "text": text, "image_size": self.video.image_size}, self._params
        )

    @property
    def card(self) -> dict[str, Any]:
        return {
            "kind": "VL-JEPA",
            "name": "" if self._source is None else self._source.name,
            "source": "" if self._source is None else str(self._source),
            "step": self._step,
            "fingerprint": self.fingerprint,
            "objective": self.config.objective,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._params)),
            "embedding_size": self.embedding_size,
            "frames": self.video.frames,
            "image_size": self.video.image_size,
        }

    @property
    def history(self) -> History:
        if self._source is None:
            return History(self.config, {}, [])
        return History(self.config, read_summary(self._source), read_metrics(self._source))

    def encode_clips(self, clips: UInt8[np.ndarray, "n T H W 3"]) -> Float[Array, "m N D"]:
        """S_V of up to ``batch_size`` clips; rows after the n-th are padding."""
        padded = pad_rows(clips, self._bucket(len(clips)))
        return self._encode_video(self._params, self._placed(padded))

    def predict_tokens(
        self,
        visual_tokens: Float[Array, "m N D"],
        rows: Int[np.ndarray, " n"],
        queries: Sequence[str],
    ) -> Float[np.ndarray, "n e"]:
        check_texts("queries", queries)
        tokens, mask = self._encoded(self._query_tokenizer, list(queries), "query_length")
        embeddings = self._empty(len(rows))
        for picked, ids, valid in text_batches(tokens, mask, self.batch_size, self.mesh):
            # Gathered by a function of its own: the shapes of the next do not depend on m.
            places = pad_rows(rows[picked], len(ids))
            visual = self._take(None, self._placed(visual_tokens, places))
            predicted = np.asarray(self._predict(self._params, self._placed(visual, ids, valid)))
            embeddings[picked] = predicted[: len(picked)]
        return embeddings

    def _encoded(
        self, tokenizer: Tokenizer, texts: list[str], field: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and mask; the first text that is longer than this field allows is warned of."""
        length = getattr(self.config.data.text, field)
        tokens, mask = tokenizer.encode(texts, length)
        if field not in self._cut:
            full = [texts[row] for row in np.flatnonzero(mask.all(axis=1))]
            if any(len(whole) > length for whole in tokenizer.encode_whole(full)):
                self._cut.add(field)
                warnings.warn(
                    f"a text is cut after {length} tokens, data.text.{field}: what follows counts "
                    "for nothing",
                    stacklevel=3,
                )
        return tokens, mask

    def _placed(self, *arrays: Any) -> tuple[Array, ...]:
        return on_rows(arrays, self.mesh)

    def _bucket(self, n: int) -> int:
        return bucket_rows(n, self.batch_size, self.mesh)

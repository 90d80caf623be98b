"""A trained VL-JEPA as an object: texts and videos in, embeddings and answers out."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from vljepa_jax.config import ConfigError, ModelConfig, TrainConfig, YDecoderConfig
from vljepa_jax.data.images import to_rgb
from vljepa_jax.data.records import Medium
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.video import clip_from_frames, load_clip
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.inference.labels import mean_embedding
from vljepa_jax.inference.search.index import Hit, SearchIndexError, VideoIndex
from vljepa_jax.inference.text_decoder import Method, TextBank, TextDecoder, load_text_decoder
from vljepa_jax.models.placement import everywhere, on_rows, over_rows, padded_rows
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.places import place
from vljepa_jax.run_dir import load_params, newest

# A path, a span of a file, uint8 frames [T, H, W, 3], a uint8 image [H, W, 3], or a PIL image.
Video = str | os.PathLike | Medium | np.ndarray | PIL.Image.Image
# One text, or several that mean the same.
LabelTexts = str | Sequence[str]

CAPTION_QUERY = "Describe this video in one sentence."  # the paper's, Figure 2
_SHORTEST = 16  # tokens of the smallest text bucket


class Scored(NamedTuple):
    """A candidate with its cosine similarity to the prediction."""

    text: str
    score: float


def load(
    run_dir: str | os.PathLike,
    *,
    y_decoder: str | os.PathLike | None = None,
    frames: int = 0,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> Model:
    """The model that a training run left, with its newest parameters.

    Args:
        run_dir: what ``launch/train.py`` was given as ``--workdir``.
        y_decoder: the run of its Y-Decoder; by default ``run_dir``/y_decoder, where there is one.
        frames: frames taken of a video; 0 as trained.
        batch_size: inputs embedded at once; the memory it takes grows with it.
        mesh: what the model runs on (``sharding.make_mesh``), the inputs divided over it and the
            parameters whole on each device; by default all devices of this process.

    Raises:
        CheckpointError: the directory is not a run's, or holds no complete checkpoint.
        ConfigError: the Y-Decoder was trained for another model.
    """
    model = Model(*load_params(run_dir), frames=frames, batch_size=batch_size, mesh=mesh)
    beside = place(run_dir) / "y_decoder"
    if y_decoder is None and newest(beside) is not None:
        y_decoder = beside
    if y_decoder is not None:
        model.attach(y_decoder)
    return model


class Model:
    """Embeds texts and videos with one set of parameters.

    Shapes are bucketed, so that the model compiles once for each of a few sizes and not for
    every input: a batch is padded to a power of two up to ``batch_size``, and to what shares out
    over the devices; texts to a power of two up to the length that the config allows. The padding
    changes no result.

    Attributes:
        config: of the training run.
        video: how videos are read: the run's settings, in their deterministic form.
        batch_size: inputs embedded at once.
        mesh: over which they are divided.
        text_decoder: what writes texts; ``None`` where no Y-Decoder is attached.
    """

    def __init__(
        self,
        config: TrainConfig,
        params: Any,
        *,
        frames: int = 0,
        batch_size: int = 32,
        mesh: Mesh | None = None,
    ) -> None:
        """See ``load``; ``params`` are those of ``VLJEPA``.

        Raises:
            ConfigError: the run trained no VL-JEPA, or the X-Encoder cannot take this number of
                frames.
        """
        if not isinstance(config.model, ModelConfig):
            mend = "launch/convert.py --export writes its backbones out"
            if isinstance(config.model, YDecoderConfig):
                mend = "load the VL-JEPA's run, with y_decoder=DIR"
            elif hasattr(config.model, "x_encoder"):
                mend = f"start one from it with --config.init_from=DIR:x_encoder, or {mend}"
            raise ConfigError(
                f"this run trained objective '{config.objective}', and no VL-JEPA: {mend}"
            )
        self.config = config
        self.batch_size = batch_size
        self.video = dataclasses.replace(
            config.video_input,
            frames=frames or config.data.video.frames,
            sampling="uniform",
            crop="centre",
        )
        side = self.video.image_size
        config.model.x_encoder.token_grid(self.video.frames, side, side)  # raises if it cannot
        text = config.data.text
        self._query_tokenizer = Tokenizer(text.query_tokenizer)
        self._target_tokenizer = Tokenizer(text.target_tokenizer)
        self.mesh = local_mesh() if mesh is None else mesh
        self._params = jax.device_put(params, everywhere(self.mesh))
        self.text_decoder: TextDecoder | None = None
        module = VLJEPA(config.model)

        def compiled(method: str) -> jax.stages.Wrapped:
            def apply(params: Any, arrays: tuple[Array, ...]) -> Array:
                return module.apply({"params": params}, *arrays, method=method)

            return over_rows(apply, self.mesh)

        self._encode_video = compiled("encode_video")
        self._predict = compiled("predict")
        self._encode_text = compiled("encode_text")
        self._take = over_rows(lambda _, arrays: jnp.take(*arrays, axis=0), self.mesh)

    # -----------------------------------------------------------------------------------------
    # What people use
    # -----------------------------------------------------------------------------------------
    def embed_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n e"]:
        """S_Y of texts (Y-Encoder), L2-normalised; one text gives one row."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        prompt, length = self.config.data.text.target_prompt, self.config.data.text.target_length
        tokens, mask = self._target_tokenizer.encode([prompt + text for text in texts], length)
        embeddings = self._empty(len(texts))
        for rows, ids, valid in self._text_batches(tokens, mask):
            embedded = np.asarray(self._encode_text(self._params, self._placed(ids, valid)))
            embeddings[rows] = embedded[: len(rows)]
        return embeddings

    def embed_video(
        self, videos: Video | Sequence[Video], query: str | Sequence[str] = ""
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y of videos under a query (X-Encoder and predictor), L2-normalised.

        Args:
            videos: one video, or several: paths, spans of files (``Medium``), uint8 frames
                [T, H, W, 3] of any number and size, uint8 images [H, W, 3], PIL images of any
                mode, read as a file of theirs is (``to_rgb``). An array [n, T, H, W, 3] is n
                videos.
            query: X_Q of all, or one for each; "" is the query-free form.

        Returns:
            [n, E]; one video gives one row.

        Raises:
            ClipError: a file cannot be read, or an array has another form.
            TypeError: something is no video at all.
            ValueError: as many queries as videos are needed.
        """
        videos = list(videos) if _is_batch(videos) else [videos]
        queries = [query] * len(videos) if isinstance(query, str) else list(query)
        if len(queries) != len(videos):
            raise ValueError(f"{len(queries)} queries for {len(videos)} videos")
        embeddings = self._empty(len(videos))
        for start in range(0, len(videos), self.batch_size):
            batch = slice(start, start + self.batch_size)
            clips = np.stack([self._read(video) for video in videos[batch]])
            embeddings[batch] = self.predict(clips, queries[batch])
        return embeddings

    def classify(
        self, videos: Video | Sequence[Video], labels: Sequence[LabelTexts], query: str = ""
    ) -> list[Scored] | list[list[Scored]]:
        """Open-vocabulary classification: labels by their cosine to Ŝ_Y, best first.

        Args:
            videos: as for ``embed_video``; several give a list for each.
            labels: a text each, or several texts of one meaning, whose embeddings are averaged.
            query: X_Q, e.g. "What is the action shown?"; "" is the query-free form.
        """
        texts = [[label] if isinstance(label, str) else list(label) for label in labels]
        embedded = iter(self.embed_text([text for label in texts for text in label]))
        matrix = np.stack([mean_embedding([next(embedded) for _ in label]) for label in texts])
        ranked = []
        for scores in self.embed_video(videos, query) @ matrix.T:
            order = np.argsort(-scores, kind="stable")
            ranked.append([Scored(texts[i][0], float(scores[i])) for i in order])
        return ranked if _is_batch(videos) else ranked[0]

    def answer(
        self, videos: Video | Sequence[Video], question: str, candidates: Sequence[LabelTexts]
    ) -> Scored | list[Scored]:
        """Discriminative VQA: the candidate answer nearest to Ŝ_Y under the question."""
        ranked = self.classify(videos, candidates, question)
        return [best for best, *_ in ranked] if _is_batch(videos) else ranked[0]

    def attach(self, y_decoder: str | os.PathLike) -> None:
        """Takes the Y-Decoder of a run; raises as ``load_text_decoder``."""
        self.text_decoder = load_text_decoder(
            y_decoder, self._params, batch_size=self.batch_size, mesh=self.mesh
        )

    def decode(
        self, embeddings: Float[np.ndarray, "n e"], method: Method = "greedy", **settings: Any
    ) -> list[str]:
        """The text of each embedding, written by the Y-Decoder.

        Args:
            embeddings: from ``embed_video`` or ``embed_text``.
            method: "greedy", "beam" or "top_p"; ``settings`` are those of ``TextDecoder.decode``.

        Raises:
            ConfigError: no Y-Decoder is attached.
        """
        if self.text_decoder is None:
            raise ConfigError(
                "this model has no Y-Decoder: train one (configs/y_decoder.py) and load with "
                "vljepa_jax.load(RUN, y_decoder=DIR)"
            )
        return self.text_decoder.decode(embeddings, method, **settings)

    def caption(
        self,
        videos: Video | Sequence[Video],
        query: str = CAPTION_QUERY,
        method: Method = "greedy",
        **settings: Any,
    ) -> str | list[str]:
        """What a video shows, or the answer to ``query``, in words; raises as ``decode``."""
        texts = self.decode(self.embed_video(videos, query), method, **settings)
        return texts if _is_batch(videos) else texts[0]

    def text_bank(self, texts: Sequence[str]) -> TextBank:
        """A bank whose ``decode`` takes the nearest text: the baseline of ``decode``."""
        return TextBank(texts, self.embed_text(texts))

    def retrieve(
        self,
        texts: str | Sequence[str],
        index: VideoIndex | str | os.PathLike,
        *,
        top: int = 10,
        each_once: bool = False,
    ) -> list[Hit] | list[list[Hit]]:
        """Text-to-video retrieval: clips of an index by their cosine to S_Y, best first.

        Args:
            texts: one text, or several, which give a list for each.
            index: made by ``launch/embed.py`` with this model, or its directory.
            top: hits a text.
            each_once: only the best window of each clip.

        Raises:
            SearchIndexError: there is no index, or another model made it.
        """
        if not isinstance(index, VideoIndex):
            index = VideoIndex(index)
        if index.settings.model != self.fingerprint:
            raise SearchIndexError(
                f"'{index.directory}' was made by another model ({index.settings.model}, from "
                f"'{index.checkpoint}') than this one ({self.fingerprint}); their embeddings do "
                "not compare. Load that one, or embed the collection again"
            )
        hits = index.search(self.embed_text(texts), top, each_once=each_once)
        return hits[0] if isinstance(texts, str) else hits

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the weights and all settings that embeddings depend on, the frames excepted."""
        model = dataclasses.asdict(self.config.model)
        for name in ("remat", "unroll_layers"):  # how it is compiled
            del model[name]
        text = dataclasses.asdict(self.config.data.text)
        for name in ("query_tokenizer", "target_tokenizer"):  # by their content, not their place
            path = getattr(self, f"_{name}").path
            text[name] = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
        return fingerprint(
            {"model": model, "text": text, "image_size": self.video.image_size}, self._params
        )

    # -----------------------------------------------------------------------------------------
    # The parts
    # -----------------------------------------------------------------------------------------
    def predict(
        self, clips: UInt8[np.ndarray, "n T H W 3"], queries: Sequence[str]
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y of clips that already have the model's frame count and size, a query each."""
        embeddings = self._empty(len(clips))
        for start in range(0, len(clips), self.batch_size):
            batch = slice(start, start + self.batch_size)
            visual_tokens = self.encode_clips(clips[batch])
            rows = np.arange(len(clips[batch]))
            embeddings[batch] = self.predict_tokens(visual_tokens, rows, queries[batch])
        return embeddings

    def encode_clips(self, clips: UInt8[np.ndarray, "n T H W 3"]) -> Float[Array, "m N D"]:
        """S_V of up to ``batch_size`` clips; rows after the n-th are padding."""
        padded = _pad_rows(clips, self._bucket(len(clips)))
        return self._encode_video(self._params, self._placed(padded))

    def predict_tokens(
        self,
        visual_tokens: Float[Array, "m N D"],
        rows: Int[np.ndarray, " n"],
        queries: Sequence[str],
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y for pairs of S_V (row ``rows[i]`` of ``visual_tokens``) and ``queries[i]``.

        Several questions about a clip cost its X-Encoder pass once.
        """
        length = self.config.data.text.query_length
        tokens, mask = self._query_tokenizer.encode(list(queries), length)
        embeddings = self._empty(len(rows))
        for picked, ids, valid in self._text_batches(tokens, mask):
            # Gathered by a function of its own: the shapes of the next do not depend on m.
            places = _pad_rows(rows[picked], len(ids))
            visual = self._take(None, self._placed(visual_tokens, places))
            predicted = np.asarray(self._predict(self._params, self._placed(visual, ids, valid)))
            embeddings[picked] = predicted[: len(picked)]
        return embeddings

    def _read(self, video: Video) -> np.ndarray:
        """uint8 [frames, size, size, 3] of one video."""
        if isinstance(video, np.ndarray):
            return clip_from_frames(video[None] if video.ndim == 3 else video, self.video)
        if isinstance(video, PIL.Image.Image):
            return clip_from_frames(np.asarray(to_rgb(video))[None], self.video)
        if isinstance(video, (str, os.PathLike)):
            video = Medium(path=os.path.abspath(video))
        if not isinstance(video, Medium):
            raise TypeError(
                "a video is a path, an array of frames uint8 [T, H, W, 3], a PIL image or a "
                f"Medium, not {type(video).__name__}; stack the frames of a clip to one array"
            )
        return load_clip([video], self.video, rng=None)

    def _placed(self, *arrays: Any) -> tuple[Array, ...]:
        return on_rows(arrays, self.mesh)

    def _empty(self, n: int) -> np.ndarray:
        return np.zeros((n, self.config.model.embedding_size), np.float32)

    def _bucket(self, n: int) -> int:
        return padded_rows(min(_power_of_two(n), self.batch_size), self.mesh)

    def _text_batches(
        self, tokens: np.ndarray, mask: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields (rows, tokens, mask): bucketed batches of texts of similar length."""
        lengths = mask.sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            longest = max(_SHORTEST, _power_of_two(int(lengths[rows].max())))
            # The last of several batches is filled up: cheaper than a program of its own.
            size = self._bucket(len(order))
            # Right-padded, so that a prefix holds all tokens; it is no longer than the config's.
            yield (
                rows,
                _pad_rows(tokens[rows, :longest], size),
                _pad_rows(mask[rows, :longest], size),
            )


def _is_batch(videos: Any) -> bool:
    if isinstance(videos, np.ndarray):
        return videos.ndim == 5
    return isinstance(videos, Sequence) and not isinstance(videos, str)


def _pad_rows(array: np.ndarray, rows: int) -> np.ndarray:
    """Repeats the last row until there are ``rows``."""
    widths = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, widths, mode="edge")


def _power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()

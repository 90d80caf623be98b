"""The interface of a model that embeds texts and videos into one space.

Evaluation, reports, indexes, streams and pages need what ``Embedder`` declares, and know nothing
else of a model: neither its config nor where it lies. A VL-JEPA's run (``inference.model``) is one
implementation.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from vljepa_jax.config import ConfigError, TrainConfig, VideoInput
from vljepa_jax.inference import tasks
from vljepa_jax.inference.arguments import warn_of_frames
from vljepa_jax.inference.calibration import Calibration
from vljepa_jax.inference.text_decoder import Method
from vljepa_jax.inference.videos import Video, is_batch, read_video


class TextWriter(Protocol):
    """Writes the text of an embedding; see ``TextDecoder``."""

    fingerprint: str

    def decode(
        self, embeddings: Float[np.ndarray, "n e"], method: Method = "greedy", **settings: Any
    ) -> list[str]: ...


@dataclasses.dataclass(frozen=True)
class History:
    """How a model was trained, as far as its run tells, for reports.

    Attributes:
        config: of the training run.
        summary: what ``train.json`` says; empty before a run's end.
        curves: the rows of ``metrics.jsonl``, one a logged step.
    """

    config: TrainConfig
    summary: dict[str, Any]
    curves: list[dict[str, Any]]


class Embedder(abc.ABC):
    """Texts and videos -> unit vectors [E] of one space.

    An implementation has the attributes, ``fingerprint``, ``card``, ``embed_text``,
    ``encode_clips`` and ``predict_tokens``. The rest follows from these.

    Attributes:
        video: how a video becomes the clip that ``encode_clips`` takes: frames, size, crop.
        batch_size: inputs embedded at once.
        embedding_size: E.
        text_decoder: what writes texts; ``None`` where the model writes none (optional).
        history: how it was trained; ``None`` where nothing tells (optional).
        calibration: what it knows; ``None`` where nobody measured it (optional).
    """

    video: VideoInput
    batch_size: int
    embedding_size: int
    text_decoder: TextWriter | None = None
    history: History | None = None
    calibration: Calibration | None = None

    # -----------------------------------------------------------------------------------------
    # What an implementation has
    # -----------------------------------------------------------------------------------------
    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Names the weights and all settings that embeddings depend on, the frames excepted.

        Embeddings of equal fingerprints compare; an index takes no others.
        """

    @property
    @abc.abstractmethod
    def card(self) -> dict[str, Any]:
        """Plain values that tell people which model this is, fit for JSON.

        "kind" and "name" head a report; "source" is what ``load`` is given to have it again, ""
        where there is no such place. All else is shown as it is: objective, step, sizes, ...
        """

    @abc.abstractmethod
    def embed_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n e"]:
        """S_Y of texts, L2-normalised; one text gives one row."""

    @abc.abstractmethod
    def encode_clips(self, clips: UInt8[np.ndarray, "n T H W 3"]) -> Any:
        """S_V of up to ``batch_size`` clips as ``video`` says, for ``predict_tokens`` alone."""

    @abc.abstractmethod
    def predict_tokens(
        self, visual_tokens: Any, rows: Int[np.ndarray, " n"], queries: Sequence[str]
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y, L2-normalised, for pairs of S_V (row ``rows[i]``) and ``queries[i]``.

        Several questions about a clip cost its pass through the video encoder once.
        """

    def require_frames(self, frames: int) -> None:  # noqa: B027 - most take any number
        """Raises ConfigError where ``encode_clips`` takes no clips of so many frames (optional)."""

    # -----------------------------------------------------------------------------------------
    # What follows
    # -----------------------------------------------------------------------------------------
    def embed_video(
        self, videos: Video | Sequence[Video], query: str | Sequence[str] = ""
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y of videos under a query, L2-normalised.

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
        if is_batch(videos):
            warn_of_frames(videos)
        videos = list(videos) if is_batch(videos) else [videos]
        queries = [query] * len(videos) if isinstance(query, str) else list(query)
        if len(queries) != len(videos):
            raise ValueError(f"{len(queries)} queries for {len(videos)} videos")
        embeddings = self._empty(len(videos))
        for start in range(0, len(videos), self.batch_size):
            batch = slice(start, start + self.batch_size)
            clips = np.stack([read_video(video, self.video) for video in videos[batch]])
            embeddings[batch] = self.predict(clips, queries[batch])
        return embeddings

    def predict(
        self, clips: UInt8[np.ndarray, "n T H W 3"], queries: Sequence[str]
    ) -> Float[np.ndarray, "n e"]:
        """Ŝ_Y of clips that already have the model's frame count and size, a query each."""
        return self.predict_and_judge(clips, queries)[0]

    def predict_and_judge(
        self, clips: UInt8[np.ndarray, "n T H W 3"], queries: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, " n"]]:
        """``predict``, and the novelty of each clip: over 1, it is unlike the training clips.

        It is NaN without a calibration.
        """
        embeddings, novelty = self._empty(len(clips)), np.full(len(clips), np.nan)
        for start in range(0, len(clips), self.batch_size):
            batch = slice(start, start + self.batch_size)
            visual_tokens = self.encode_clips(clips[batch])
            rows = np.arange(len(clips[batch]))
            embeddings[batch] = self.predict_tokens(visual_tokens, rows, queries[batch])
            if self.calibration is not None:
                novelty[batch] = self.calibration.novelty(self.mean_tokens(visual_tokens)[rows])
        return embeddings, novelty

    def mean_tokens(self, visual_tokens: Any) -> Float[np.ndarray, "m d"]:
        """The mean token of each clip of ``encode_clips``; where it gives a vector a clip, that."""
        tokens = jnp.asarray(visual_tokens)
        tokens = tokens.reshape(len(tokens), -1, tokens.shape[-1])
        return np.asarray(jnp.mean(tokens, axis=1, dtype=jnp.float32))

    def decode(
        self, embeddings: Float[np.ndarray, "n e"], method: Method = "greedy", **settings: Any
    ) -> list[str]:
        """The text of each embedding, written by ``text_decoder``.

        Args:
            embeddings: from ``embed_video`` or ``embed_text``.
            method: "greedy", "beam" or "top_p"; ``settings`` are those of ``TextDecoder.decode``.

        Raises:
            ConfigError: the model writes no texts.
        """
        if self.text_decoder is None:
            raise ConfigError(
                "this model has no Y-Decoder: train one (configs/y_decoder.py) and load with "
                "vljepa_jax.load(RUN, y_decoder=DIR)"
            )
        return self.text_decoder.decode(embeddings, method, **settings)

    def _empty(self, n: int) -> np.ndarray:
        return np.zeros((n, self.embedding_size), np.float32)

    # Functions of any embedder, as methods too.
    classify = tasks.classify
    answer = tasks.answer
    caption = tasks.caption
    text_bank = tasks.text_bank
    retrieve = tasks.retrieve
    retrieve_like = tasks.retrieve_like

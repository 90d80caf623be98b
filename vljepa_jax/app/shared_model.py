"""One model for all visitors of a page."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from vljepa_jax.inference.embedder import Embedder, TextWriter
from vljepa_jax.inference.text_decoder import Method


class SharedModel(Embedder):
    """Another embedder, for several threads: it works for one of them at a time.

    So the memory that it takes does not grow with the number of visitors, and a stream that is
    followed goes on between their questions.
    """

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self._free = threading.Lock()
        self.video = model.video
        self.batch_size = model.batch_size
        self.embedding_size = model.embedding_size
        self.history = model.history
        self.calibration = model.calibration
        if model.text_decoder is not None:
            self.text_decoder = _SharedWriter(model.text_decoder, self._free)

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    @property
    def card(self) -> dict[str, Any]:
        return self._model.card

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        with self._free:
            return self._model.embed_text(texts)

    def encode_clips(self, clips: np.ndarray) -> Any:
        with self._free:
            return self._model.encode_clips(clips)

    def predict_tokens(
        self, visual_tokens: Any, rows: np.ndarray, queries: Sequence[str]
    ) -> np.ndarray:
        with self._free:
            return self._model.predict_tokens(visual_tokens, rows, queries)

    def mean_tokens(self, visual_tokens: Any) -> np.ndarray:
        with self._free:
            return self._model.mean_tokens(visual_tokens)

    def require_frames(self, frames: int) -> None:
        self._model.require_frames(frames)


class _SharedWriter:
    def __init__(self, writer: TextWriter, free: threading.Lock) -> None:
        self.fingerprint = writer.fingerprint
        self._writer, self._free = writer, free

    def decode(self, embeddings: np.ndarray, method: Method = "greedy", **settings: Any):
        with self._free:
            return self._writer.decode(embeddings, method, **settings)

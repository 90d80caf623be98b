"""An embedder without a run, a config or parameters: it sees nothing but the mean colour."""

import hashlib

import numpy as np

from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.inference.embedder import Embedder

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourModel(Embedder):
    """Embeds a colour's name and a clip of that colour alike; "opposite" asks for its negative.

    Any other text has a direction of its own.
    """

    batch_size = 2
    embedding_size = 3
    video = VideoInput(2, 16, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)
    fingerprint = "colours"
    card = {"kind": "Mean colour", "name": "fake", "source": "", "fingerprint": "colours"}

    def __init__(self):
        self.encoded = 0

    def embed_text(self, texts):
        texts = [texts] if isinstance(texts, str) else texts
        return np.array([self._direction(text) for text in texts])

    def encode_clips(self, clips):
        assert len(clips) <= self.batch_size
        self.encoded += len(clips)
        return clips.mean(axis=(1, 2, 3)) / 255

    def predict_tokens(self, visual_tokens, rows, queries):
        sign = np.array([-1.0 if query == "opposite" else 1.0 for query in queries])
        vectors = visual_tokens[rows] * sign[:, None] + 1e-6
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @staticmethod
    def _direction(text):
        if text in COLOURS:
            return np.array(COLOURS[text]) / 255
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        vector = np.random.default_rng(seed).normal(size=3)
        return vector / np.linalg.norm(vector)

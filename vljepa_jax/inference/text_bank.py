"""Nearest-neighbour decoding: the text of a bank whose embedding is nearest to the one given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


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
        """The text of the bank with the highest cosine to each embedding; the first of equals."""
        nearest = np.argmax(embeddings @ self._embeddings.T, axis=1)
        return [self.texts[index] for index in nearest]

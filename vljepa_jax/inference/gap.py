"""How far predictions lie from the embeddings of their texts, and what noise is as large.

A Y-Decoder learns from S_Y with noise and reads S^_Y. A noise whose cosine with S_Y is that of the
predictions would be too small: contrastive predictions err in the few directions in which texts
differ, while isotropic noise spreads over all of them, where most of it does no harm. So the noise
is chosen that makes a text as hard to recognise as a prediction does.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

_DRAWS = 8  # of the noise, at each level
_LEVELS = np.arange(0, 8.25, 0.25)


@dataclasses.dataclass(frozen=True)
class Gap:
    """Measurements on n clips, each with two of its captions.

    Attributes:
        n: clips.
        cosine: mean of S^_Y with S_Y.
        recall: share of clips whose own caption is the nearest to S^_Y, among all n.
        levels: of the noise.
        noisy_cosine: at each level, mean of the noisy S_Y with S_Y.
        noisy_recall: at each level, share of noisy embeddings of one caption whose nearest, among
            the other captions of all clips, is that of their own clip.
        same_cosine: level at which the cosine is as low as of predictions.
        same_recall: level at which the recall is: the noise to train with.
    """

    n: int
    cosine: float
    recall: float
    levels: tuple[float, ...]
    noisy_cosine: tuple[float, ...]
    noisy_recall: tuple[float, ...]
    same_cosine: float
    same_recall: float


def measure_gap(
    predicted: Float[np.ndarray, "n e"],
    caption: Float[np.ndarray, "n e"],
    other_caption: Float[np.ndarray, "n e"],
) -> Gap:
    """Compares predictions with noisy embeddings of their captions.

    Args:
        predicted: S^_Y of n clips of different meaning, unit vectors.
        caption: S_Y of a caption of each.
        other_caption: S_Y of another caption of the same meaning: what is to be recognised, so
            that a noisy text and a prediction are asked the same.

    Raises:
        ValueError: there are fewer than two clips.
    """
    if len(predicted) < 2:
        raise ValueError("a gap is measured on two clips or more")
    rng = np.random.default_rng(0)
    cosine = float(np.mean(np.sum(predicted * caption, axis=1)))
    recall = _recall(predicted, other_caption)
    noisy = []
    for level in _LEVELS:
        cosines, recalls = [], []
        for _ in range(_DRAWS):
            noise = rng.standard_normal(caption.shape) * caption.shape[1] ** -0.5
            vectors = caption + level * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            cosines.append(np.mean(np.sum(vectors * caption, axis=1)))
            recalls.append(_recall(vectors, other_caption))
        noisy.append((float(np.mean(cosines)), float(np.mean(recalls))))
    noisy_cosine, noisy_recall = zip(*noisy, strict=True)
    return Gap(
        n=len(predicted),
        cosine=cosine,
        recall=recall,
        levels=tuple(float(level) for level in _LEVELS),
        noisy_cosine=noisy_cosine,
        noisy_recall=noisy_recall,
        same_cosine=_level_at(cosine, noisy_cosine),
        same_recall=_level_at(recall, noisy_recall),
    )


def _recall(vectors: np.ndarray, captions: np.ndarray) -> float:
    scores = vectors @ captions.T
    return float(np.mean(np.argmax(scores, axis=1) == np.arange(len(scores))))


def _level_at(value: float, falling: tuple[float, ...]) -> float:
    """Where a falling curve passes a value, between its points; an end where it never does."""
    curve = np.minimum.accumulate(falling)  # the measured one trembles
    return float(np.interp(-value, -curve, _LEVELS))

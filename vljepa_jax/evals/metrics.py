"""Metrics as plain numpy functions.

Everything ranks by cosine similarity, and a tie never helps: an item that scores as high as the
correct one is counted as ranked before it, and so is a NaN. A constant model therefore scores 0,
not chance.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Literal

import numpy as np
import scipy.stats


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure with its uncertainty.

    Attributes:
        value: the share of examples that are correct, in [0, 1], or their mean score; ``None``
            where it is not defined, and then so are ``chance`` and ``interval``.
        chance: what guessing would score; how it is counted is the protocol's matter.
        n: number of examples.
        interval: 95 % confidence interval of ``value`` (of a share Wilson's, else the bootstrap's).
        unit: "share", "cider", whose values are x 100, or "ratio".
        undefined: why it has no value; "" where it has one.
    """

    value: float | None
    chance: float | None
    n: int
    interval: tuple[float, float] | None
    unit: Literal["share", "cider", "ratio"] = "share"
    undefined: str = ""


def proportion(correct: Sequence[bool] | np.ndarray, chance: float) -> Metric:
    """Share of correct examples with its Wilson interval.

    Raises:
        ValueError: there are no examples.
    """
    correct = np.asarray(correct, bool)
    if correct.size == 0:
        raise ValueError("a metric needs at least one example")
    return Metric(
        value=float(correct.mean()),
        chance=float(chance),
        n=int(correct.size),
        interval=wilson_interval(int(correct.sum()), int(correct.size)),
    )


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion."""
    interval = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_score(scores: np.ndarray, chance: float, unit: Literal["cider"]) -> Metric:
    """Mean of the examples' scores, with its bootstrap interval over the examples.

    CIDEr of one example is not defined: it weighs an n-gram by how few of the clips have it, which
    is nothing where there is one, and would be 0 for a perfect caption.

    Args:
        scores: [n]. CIDEr's rarity of n-grams is that of the whole set, not of each resample.

    Raises:
        ValueError: there are no examples.
    """
    if len(scores) == 0:
        raise ValueError("a metric needs at least one example")
    if unit == "cider" and len(scores) == 1:
        reason = "CIDEr weighs words by how few of the clips have them: of one clip it has no value"
        return Metric(None, None, 1, None, unit, undefined=reason)
    interval = bootstrap_interval(scores)
    return Metric(float(np.mean(scores)), float(chance), len(scores), interval, unit)


def bootstrap_interval(scores: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile interval of the mean under resampling with replacement, of a fixed seed."""
    rng = np.random.default_rng(0)
    means = [np.mean(scores[rng.integers(len(scores), size=len(scores))]) for _ in range(resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def rank(scores: np.ndarray, positives: Collection[int]) -> int | None:
    """How many wrong items come before the best correct one.

    Args:
        scores: [items], higher is better.
        positives: indices of the correct items; several may be.

    Returns:
        0 where a correct item is on top; ties and NaN count as before it. ``None`` where no item
        is correct (the gold answer is not among the candidates).
    """
    if not positives:
        return None
    is_positive = np.zeros(len(scores), bool)
    is_positive[list(positives)] = True
    best = np.max(scores[is_positive])  # NaN if any correct item is NaN
    return int(np.sum(~(scores[~is_positive] < best)))


def in_top_k(ranks: Sequence[int | None], k: int) -> np.ndarray:
    """[n] bool: the correct item is among the first k; ``None`` (no correct item) is wrong."""
    return np.array([r is not None and r < k for r in ranks], bool)


def text_to_video_scores(text: np.ndarray, video: np.ndarray) -> np.ndarray:
    """[captions, gallery] cosine of every caption with every clip.

    Args:
        text: [captions, E], L2-normalised.
        video: [gallery, E], L2-normalised; a row of NaN is an unreadable clip. It scores
            -inf: it is never retrieved.
    """
    scores = text @ video.T
    scores[:, np.isnan(video).any(axis=1)] = -np.inf
    return scores


def shared_positives(captions: Sequence[str], items: Sequence[int]) -> list[frozenset[int]]:
    """Identical captions share all their videos as positives.

    The rule of PerceptionModels' zero-shot retrieval (``metrics/zeroshot_retrieval.py``).

    Args:
        captions: [n] texts.
        items: [n] the gallery row that each was written for.

    Returns:
        [n] the gallery rows that are correct for each.
    """
    rows: dict[str, set[int]] = {}
    for caption, item in zip(captions, items, strict=True):
        rows.setdefault(caption, set()).add(item)
    return [frozenset(rows[caption]) for caption in captions]


def triplet_is_correct(
    paraphrase1: np.ndarray, paraphrase2: np.ndarray, negative: np.ndarray
) -> bool:
    """The strict rule of SugarCrepe++: sim(p1, p2) exceeds sim(p1, n) and sim(p2, n); ties fail.

    Args: three [E] embeddings, L2-normalised.
    """
    together = paraphrase1 @ paraphrase2
    return bool(together > paraphrase1 @ negative and together > paraphrase2 @ negative)


# Three similarities of unrelated texts are exchangeable: the correct one is the largest 1 in 3.
TRIPLET_CHANCE = 1 / 3


def choice_chance(
    candidates: Sequence[Sequence[Hashable]], gold: Sequence[int | None], k: int = 1
) -> float:
    """Chance of a choice: the score of the better of two blind strategies.

    One picks k uniformly among each example's candidates; the other always gives the k answers
    that are correct most often over the whole set, which beats the first where answers are
    unbalanced. An example without a gold answer is wrong for both.
    """
    uniform = np.mean(
        [
            0.0 if g is None else min(k, len(c)) / len(c)
            for c, g in zip(candidates, gold, strict=True)
        ]
    )
    answers = Counter(c[g] for c, g in zip(candidates, gold, strict=True) if g is not None)
    majority = sum(count for _, count in answers.most_common(k)) / len(gold)
    return float(max(uniform, majority))


def recall_chance(positives: Sequence[Collection[int]], gallery_size: int, k: int) -> float:
    """Chance that k items drawn from the gallery hold a correct one; k / gallery_size if unique."""
    draws = min(k, gallery_size)
    missed = [scipy.stats.hypergeom.pmf(0, gallery_size, len(rows), draws) for rows in positives]
    return float(1 - np.mean(missed))

"""Metrics as plain numpy functions.

Everything ranks by cosine similarity, and a tie never helps: an item that scores as high as the
correct one is counted as ranked before it, and so is a NaN. A constant model therefore scores 0,
not chance.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Literal

import numpy as np
import scipy.stats

# Of one clip, every word is in all of them.
CIDER_OF_ONE = "CIDEr weighs words by how few of the clips have them: of one clip it has no value"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure with its uncertainty.

    Attributes:
        value: the share of examples that are correct, in [0, 1], or their mean score; ``None``
            where it is not defined, and then so are ``chance`` and ``interval``.
        chance: what guessing would score; how it is counted is the protocol's matter.
        n: number of examples.
        interval: 95 % confidence interval of ``value`` (of a share Wilson's, else the bootstrap's).
        unit: "share", "cider", whose values are x 100, "ratio", or "rank", which counts from 1.
        better: which side of chance is the better one; "neither" where there is no telling.
        undefined: why it has no value; "" where it has one.
    """

    value: float | None
    chance: float | None
    n: int
    interval: tuple[float, float] | None
    unit: Literal["share", "cider", "ratio", "rank"] = "share"
    better: Literal["higher", "lower", "neither"] = "higher"
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

    CIDEr of one example is not defined: it would be 0 for a perfect caption.

    Args:
        scores: [n]. CIDEr's rarity of n-grams is that of the whole set, not of each resample.

    Raises:
        ValueError: there are no examples.
    """
    if len(scores) == 0:
        raise ValueError("a metric needs at least one example")
    if unit == "cider" and len(scores) == 1:
        return Metric(None, None, 1, None, unit, undefined=CIDER_OF_ONE)
    interval = bootstrap_interval(scores)
    return Metric(float(np.mean(scores)), float(chance), len(scores), interval, unit)


def bootstrap_interval(scores: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean of scores, [n]."""
    return resampled_interval(len(scores), lambda rows: float(np.mean(scores[rows])))


def resampled_interval(n: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % percentile interval of one figure, see ``resampled_intervals``."""
    (interval,) = resampled_intervals(n, lambda rows: np.array([statistic(rows)]))
    return interval


def resampled_intervals(
    n: int, statistics: Callable[[np.ndarray], np.ndarray], resamples: int = 2000
) -> list[tuple[float, float]]:
    """95 % percentile intervals under resampling of n examples with replacement, of a fixed seed.

    Args:
        statistics: figures [k] of some examples, from their indices [n], each as often as drawn.

    Returns:
        [k] intervals.
    """
    rng = np.random.default_rng(0)
    found = [statistics(rng.integers(n, size=n)) for _ in range(resamples)]
    return [(float(low), float(high)) for low, high in np.quantile(found, (0.025, 0.975), axis=0).T]


def group_mean(
    correct: Sequence[bool] | np.ndarray, groups: Sequence[Hashable], chance: float
) -> Metric:
    """The unweighted mean over groups of each one's share of correct examples ("macro").

    With an example's class as its group, and whether the class is among the first five as
    ``correct``, it is EPIC-KITCHENS' mean top-5 recall: the mean is over the classes that occur.

    Args:
        correct: [n].
        groups: [n] the group of each.

    Raises:
        ValueError: there are no examples.
    """
    correct = np.asarray(correct, float)
    if correct.size == 0:
        raise ValueError("a metric needs at least one example")
    n, mean = len(correct), mean_over_groups(correct, groups)
    return Metric(mean(np.arange(n)), float(chance), n, resampled_interval(n, mean))


def mean_over_groups(
    values: np.ndarray, groups: Sequence[Hashable]
) -> Callable[[np.ndarray], float]:
    """The unweighted mean over groups of each one's mean value, of those rows that it is given.

    Args:
        values: [n].
        groups: [n] the group of each; one without a row counts for nothing.
    """
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    codes = np.array([place[group] for group in groups])

    def mean(rows: np.ndarray) -> float:
        counts = np.bincount(codes[rows], minlength=len(place))
        sums = np.bincount(codes[rows], weights=values[rows], minlength=len(place))
        return float(np.mean(sums[counts > 0] / counts[counts > 0]))

    return mean


def median_rank(ranks: Sequence[int | None], items: int) -> Metric:
    """The median place of the first correct one of ``items``, from 1, as CLIP4Clip reports it.

    Args:
        ranks: [n] as ``rank`` gives them; ``None`` counts as the last place.

    Raises:
        ValueError: there are none.
    """
    if not ranks:
        raise ValueError("a metric needs at least one example")
    places = np.array([items if rank is None else rank + 1 for rank in ranks])
    interval = resampled_interval(len(places), lambda rows: float(np.median(places[rows])))
    value, chance = float(np.median(places)), (items + 1) / 2
    return Metric(value, chance, len(places), interval, "rank", "lower")


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


def recall_of_classes(
    candidates: Sequence[Sequence[Hashable]], gold: Sequence[int], k: int
) -> float:
    """Chance of a mean over classes of recall at k: the better of two blind strategies.

    One picks k uniformly among the candidates; the other always gives the same k of the classes
    that occur, and so finds these whole and the others never.
    """
    uniform = np.mean([min(k, len(own)) / len(own) for own in candidates])
    occurring = len({own[place] for own, place in zip(candidates, gold, strict=True)})
    return float(max(uniform, min(k, occurring) / occurring))


def recall_chance(positives: Sequence[Collection[int]], gallery_size: int, k: int) -> float:
    """Chance that k items drawn from the gallery hold a correct one; k / gallery_size if unique."""
    sizes = np.array([len(rows) for rows in positives])
    missed = scipy.stats.hypergeom.pmf(0, gallery_size, sizes, min(k, gallery_size))
    return float(1 - np.mean(missed))

"""Intervals of figures that are means over metrics, clips and seeds: a paired bootstrap.

Every resample draws clips of each split, with replacement, and seeds; all models and all metrics
of a split are scored on the same draw, so that what makes a clip hard for all cancels in their
difference. Examples of one clip come or stay together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vljepa_jax.evals.metrics import CIDER_OF_ONE

RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class ExampleScores:
    """The scores of one model's examples, of one metric.

    Attributes:
        split: whose clips they are about.
        records: [n] the clip of each example.
        scores: [n]; NaN where an example has no value.
    """

    split: str
    records: np.ndarray
    scores: np.ndarray


# [metrics][seeds]: the figure is the mean over seeds of the mean over metrics.
Figure = Sequence[Sequence[ExampleScores]]


def value_of(figure: Figure) -> float:
    """The figure itself; NaN where an example has no value."""
    return float(np.mean([[of.scores.mean() for of in metric] for metric in figure]))


def resampled(
    figures: Mapping[str, Figure], resamples: int = RESAMPLES
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Each figure under the same resamples of clips and seeds.

    Raises:
        ValueError: the figures have different numbers of seeds, which cannot be paired.
    """
    rng = np.random.default_rng(0)
    seeds = {len(metric) for figure in figures.values() for metric in figure}
    if len(seeds) != 1:
        raise ValueError(f"figures of {sorted(seeds)} seeds cannot be paired")
    (count,) = seeds
    all_scores = [of for figure in figures.values() for metric in figure for of in metric]
    drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in sorted({of.split for of in all_scores}):
        clips = np.unique(np.concatenate([of.records for of in all_scores if of.split == split]))
        weights = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), resamples)
        drawn[split] = clips, weights.astype(float)
    of_seeds = rng.integers(count, size=(resamples, count))

    def mean(of: ExampleScores) -> np.ndarray:
        clips, weights = drawn[of.split]
        places = np.searchsorted(clips, of.records)
        sums = np.bincount(places, of.scores, len(clips))
        counts = np.bincount(places, minlength=len(clips))
        return (weights @ sums) / (weights @ counts)

    return {
        name: np.mean(
            [
                np.take_along_axis(np.stack([mean(of) for of in metric], axis=1), of_seeds, axis=1)
                for metric in figure
            ],
            axis=(0, 2),
        )
        for name, figure in figures.items()
    }


def estimate(value: float | None, resamples: np.ndarray, reason: str = "") -> dict[str, Any]:
    """A figure for a report: its value, and the 95 % percentile interval of its resamples.

    Infinite resamples (a level that is never reached) are its upper part; an end of the interval
    that is infinite is ``None``, as is a value that cannot be told, with its ``reason``, or NaN.
    """
    if value is not None and np.isnan(value):
        value, reason = None, CIDER_OF_ONE  # no other metric is without one
    low, high = np.quantile(resamples, (0.025, 0.975), method="closest_observation")
    ends = [float(end) if np.isfinite(end) else None for end in (low, high)]
    return {"value": value, "interval": ends} | ({"reason": reason} if reason else {})

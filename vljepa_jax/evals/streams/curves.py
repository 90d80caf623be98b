"""What curves of CIDEr against decodings tell of a strategy, with intervals over streams.

Two figures: how many times fewer decodings are as good as the uniform strategy at the reference
rate (paper §4.6), and, which every set of streams has, what choosing the moments adds to CIDEr at
half that rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from vljepa_jax.config import STREAM_REFERENCE_RATE

GAIN_RATE = STREAM_REFERENCE_RATE / 2  # decodings per second at which strategies are compared
_RESAMPLES = 1_000
SEED = 0  # of what is drawn: resampled streams, and texts of other annotations
# Resampling fewer streams than these says little: eight are drawn in 6,435 ways, three in ten.
FEWEST_STREAMS = 8
# Where uniform decoding is as good at this share of the reference rate, its curve is flat there,
# and to say so with fewer decodings is no art.
_FLAT = 0.5
_OUTSIDE = 0.025  # share of resampled streams beyond each end of an interval


@dataclasses.dataclass(frozen=True)
class Curve:
    """Quality of one strategy and form over the rates of a sweep, highest first.

    Attributes:
        asked: [r] rates asked for, per second.
        decodings: [r, s] texts decoded of each stream.
        scores: [r, s] sum of the scores of each stream's annotations.
    """

    asked: np.ndarray
    decodings: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Uniform rate over selective rate at equal quality.

    Attributes:
        value: ``STREAM_REFERENCE_RATE`` over ``rate``, of all streams; ``None`` where no rate of
            the sweep is just as good.
        undefined: why it has no value; "" where it has one.
        interval: 95 %, from resampled streams; ``None`` where there are too few streams, or too
            many of the resamples have no value.
        rate: the lowest selective rate that is as good as the uniform strategy at
            ``STREAM_REFERENCE_RATE``.
        uniform_rate: the lowest uniform rate that is as good.
        over_uniform: ``uniform_rate`` over ``rate``: what is left where the uniform strategy too
            decodes no more than it must.
        over_uniform_interval: 95 %.
        quality: CIDEr of the uniform strategy at ``STREAM_REFERENCE_RATE``.
        caveat: "" or why the value says little: it has no interval, or the uniform curve is flat.
    """

    value: float | None
    undefined: str
    interval: tuple[float, float] | None
    rate: float | None
    uniform_rate: float
    over_uniform: float | None
    over_uniform_interval: tuple[float, float] | None
    quality: float
    caveat: str


@dataclasses.dataclass(frozen=True)
class Gain:
    """CIDEr of a selective strategy less the uniform one's, both at ``GAIN_RATE``.

    Attributes:
        value: of all streams; ``None`` where a curve does not reach that rate.
        undefined: why it has no value; "" where it has one.
        interval: 95 %, from resampled streams; ``None`` where there are too few.
        uniform: CIDEr of the uniform strategy there.
        caveat: "" or why it has no interval.
    """

    value: float | None
    undefined: str
    interval: tuple[float, float] | None
    uniform: float | None
    caveat: str


@dataclasses.dataclass(frozen=True)
class Study:
    """The sweep over one set of streams.

    Attributes:
        seconds: [s] described by the ticks of each stream.
        annotations: [s] number of annotations of each stream.
        curves: by (strategy, form).
        blind: CIDEr where each annotation gets the text of another, at the reference rate: what a
            decoder that knows only how captions sound would score.
        reductions: by (selective strategy, form).
        gains: by (selective strategy, form).
    """

    seconds: np.ndarray
    annotations: np.ndarray
    curves: Mapping[tuple[str, str], Curve]
    blind: float
    reductions: Mapping[tuple[str, str], Reduction]
    gains: Mapping[tuple[str, str], Gain]

    def points(self, strategy: str, form: str) -> list[tuple[float, float]]:
        """(decodings per second, CIDEr) of a curve, highest rate first."""
        curve = self.curves[strategy, form]
        rates = curve.decodings.sum(axis=1) / self.seconds.sum()
        quality = curve.scores.sum(axis=1) / self.annotations.sum()
        return [(float(r), float(q)) for r, q in zip(rates, quality, strict=True)]

    def ascending(self, curve: Curve, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rates, each once, and CIDEr of a curve over these streams, lowest rate first."""
        rates = curve.decodings[:, rows].sum(axis=1) / self.seconds[rows].sum()
        rates, first = np.unique(rates, return_index=True)
        return rates, curve.scores[first][:, rows].sum(axis=1) / self.annotations[rows].sum()


def reduction(study: Study, strategy: str, form: str) -> Reduction:
    """Uniform rate over selective rate at equal CIDEr, with a bootstrap interval over streams.

    The quality to reach is the uniform strategy's at ``STREAM_REFERENCE_RATE``; the selective rate
    is the lowest at which its curve, linear in the rate's logarithm, reaches it. Curves need not
    ascend: longer segments average more embeddings, so that fewer decodings can also be better.
    ``uniform_rate`` is read off the uniform curve by the same rule: where it is far below the
    reference, the quality tells nothing of the rate, and a large reduction is no merit. The
    frequencies that CIDEr weighs with stay those of all streams.
    """
    uniform, selective = study.curves["uniform", form], study.curves[strategy, form]

    def measure(rows: np.ndarray) -> tuple[float, float, float, str]:
        rates, quality = study.ascending(uniform, rows)
        target = float(np.interp(math.log(STREAM_REFERENCE_RATE), np.log(rates), quality))
        uniform_rate, _ = rate_at(rates, quality, target)
        rate, bounded = rate_at(*study.ascending(selective, rows), target)
        return rate, uniform_rate, target, bounded

    everything = np.arange(len(study.seconds))
    rate, uniform_rate, target, undefined = measure(everything)
    found = Reduction(None, undefined, None, None, uniform_rate, None, None, target, "")
    if undefined:
        return found
    found = dataclasses.replace(
        found,
        value=STREAM_REFERENCE_RATE / rate,
        rate=rate,
        over_uniform=uniform_rate / rate,
    )
    if few := _too_few(len(everything)):
        return dataclasses.replace(found, caveat=few)
    drawn = [measure(rows) for rows in _resampled(len(everything))]
    without = float(np.mean([bool(draw[3]) for draw in drawn]))
    if without > _OUTSIDE:
        caveat = f"no interval: {without:.0%} of resampled streams have no value"
        return dataclasses.replace(found, caveat=caveat)
    rates, uniform_rates = np.array([(draw[0], draw[1]) for draw in drawn]).T
    flat = uniform_rate < _FLAT * STREAM_REFERENCE_RATE
    caveat = f"uniform decoding is as good at {uniform_rate:.2g} per second: a flat curve"
    return dataclasses.replace(
        found,
        interval=_interval(STREAM_REFERENCE_RATE / rates),
        over_uniform_interval=_interval(uniform_rates / rates),
        caveat=caveat if flat else "",
    )


def gain(study: Study, strategy: str, form: str) -> Gain:
    """What choosing the moments adds at a rate, with a bootstrap interval over streams.

    Both curves are read at ``GAIN_RATE``, linear in the rate's logarithm; they are of the same
    streams in every resample.
    """

    def measure(rows: np.ndarray) -> tuple[float, float]:
        """CIDEr of both; NaN where a curve does not reach the rate."""
        uniform, selective = (
            float(np.interp(math.log(GAIN_RATE), np.log(rates), quality, math.nan, math.nan))
            for rates, quality in (
                study.ascending(study.curves[name, form], rows) for name in ("uniform", strategy)
            )
        )
        return uniform, selective

    count = len(study.seconds)
    uniform, selective = measure(np.arange(count))
    if math.isnan(uniform - selective):
        return Gain(None, f"the sweep does not reach {GAIN_RATE:g} per second", None, None, "")
    found = Gain(selective - uniform, "", None, uniform, _too_few(count))
    if found.caveat:
        return found
    drawn = np.array([measure(rows) for rows in _resampled(count)])
    differences = drawn[:, 1] - drawn[:, 0]
    if (without := float(np.isnan(differences).mean())) > 0:
        caveat = f"no interval: {without:.0%} of resampled streams do not reach that rate"
        return dataclasses.replace(found, caveat=caveat)
    return dataclasses.replace(found, interval=_interval(differences))


def _too_few(streams: int) -> str:
    """Why so many streams have no interval; "" where they have one."""
    if streams >= FEWEST_STREAMS:
        return ""
    return f"{streams} streams are too few for an interval, which takes {FEWEST_STREAMS}"


def _resampled(streams: int) -> Iterator[np.ndarray]:
    """Streams drawn with replacement, as many as there are; the same draws for all figures."""
    rng = np.random.default_rng(SEED)
    return (rng.choice(np.arange(streams), streams) for _ in range(_RESAMPLES))


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, (_OUTSIDE, 1 - _OUTSIDE))
    return float(low), float(high)


def rate_at(
    rates: Float[np.ndarray, " r"], quality: Float[np.ndarray, " r"], target: float
) -> tuple[float, str]:
    """The lowest rate at which a curve reaches a quality.

    Args:
        rates: ascending.
        quality: at these rates; between them, linear in the logarithm of the rate.

    Returns:
        The rate and ""; where the curve does not cross the quality, its first or last rate, and
        why there is none.
    """
    reached = np.flatnonzero(quality >= target - 1e-9 * max(1.0, abs(target)))
    if not len(reached):
        return float(rates[-1]), "at no rate of the sweep as good"
    after = int(reached[0])
    if after == 0:
        return float(rates[0]), "as good already at the lowest rate of the sweep"
    share = min(1.0, (target - quality[after - 1]) / (quality[after] - quality[after - 1]))
    low, high = math.log(rates[after - 1]), math.log(rates[after])
    return math.exp(low + share * (high - low)), ""

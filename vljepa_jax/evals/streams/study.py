"""How few decodings tell as much of a stream: CIDEr against rate (paper §4.6).

A strategy chooses segments of a stream; each segment is decoded once, and its text stands at the
segment's middle in time. What is decoded is the mean of the segment's embeddings ("averaged"), the
embedding at its middle ("exact"), or that of the segment as a clip of its own ("clip"), which costs
one more embedding a decoding; the paper has the first two. Each annotation is paired with the text
nearest to it in time, and CIDEr-D over the pairs of all streams is the quality at that rate. The
result is how many times fewer decodings a selective strategy needs than the uniform one at equal
quality.

This module sees embeddings and times, neither model nor files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from vljepa_jax.config import STREAM_REFERENCE_RATE, StreamStudyConfig
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.segmentation import (
    SegmentTree,
    segment_embeddings,
    segment_spans,
    uniform_segments,
    ward_tree,
)

STRATEGIES = ("uniform", "offline", "online")
_RESAMPLES = 1_000
_SEED = 0
# Two ticks at least have a variance: the online strategy ends no more than every other one.
_FASTEST_ONLINE = 0.5
# Resampling fewer streams than these says little: eight are drawn in 6,435 ways, three in ten.
FEWEST_STREAMS = 8
# Where uniform decoding is as good at this share of the reference rate, its curve is flat there,
# and to say so with fewer decodings is no art.
_FLAT = 0.5
_OUTSIDE = 0.025  # share of resampled streams beyond each end of an interval

Decode = Callable[[Float[np.ndarray, "n e"]], list[str]]
# a stream, spans of it in seconds -> embeddings of these spans as clips of their own
EmbedSpans = Callable[["EmbeddedStream", Float[np.ndarray, "k 2"]], Float[np.ndarray, "k e"]]
# reference texts of each pair -> (candidate texts -> a score of each pair)
Scorer = Callable[[Sequence[Sequence[str]]], Callable[[Sequence[str]], Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class EmbeddedStream:
    """One stream as the study sees it.

    Attributes:
        name: of its record.
        times: [n] seconds that the ticks describe: the middles of their windows.
        embeddings: [n, E], L2-normalised.
        annotated: [m] seconds of the annotations.
        texts: m annotations.
        durations: [m] seconds of the annotated events.
    """

    name: str
    times: Float[np.ndarray, " n"]
    embeddings: Float[np.ndarray, "n e"]
    annotated: Float[np.ndarray, " m"]
    texts: tuple[str, ...]
    durations: Float[np.ndarray, " m"]


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
class Study:
    """The sweep over one set of streams.

    Attributes:
        seconds: [s] described by the ticks of each stream.
        annotations: [s] number of annotations of each stream.
        curves: by (strategy, form).
        blind: CIDEr where each annotation gets the text of another, at the reference rate: what a
            decoder that knows only how captions sound would score.
        reductions: by (selective strategy, form).
    """

    seconds: np.ndarray
    annotations: np.ndarray
    curves: Mapping[tuple[str, str], Curve]
    blind: float
    reductions: Mapping[tuple[str, str], Reduction]

    def points(self, strategy: str, form: str) -> list[tuple[float, float]]:
        """(decodings per second, CIDEr) of a curve, highest rate first."""
        curve = self.curves[strategy, form]
        rates = curve.decodings.sum(axis=1) / self.seconds.sum()
        quality = curve.scores.sum(axis=1) / self.annotations.sum()
        return [(float(r), float(q)) for r, q in zip(rates, quality, strict=True)]


def run_study(
    streams: Sequence[EmbeddedStream],
    config: StreamStudyConfig,
    decode: Decode,
    scorer: Scorer,
    embed_spans: EmbedSpans,
) -> Study:
    """Sweeps the rates for all strategies and forms.

    Args:
        streams: of one kind and density.
        decode: embeddings to texts.
        scorer: of CIDEr-D, ×100.
        embed_spans: called once a stream where ``config.forms`` has "clip".
    """
    decode = _remembering(decode)
    tick = 1 / config.ticks_per_second
    seconds = np.array([len(stream.times) * tick for stream in streams])
    annotations = np.array([len(stream.texts) for stream in streams])
    trees = [ward_tree(stream.embeddings) for stream in streams]
    score = scorer([[text] for stream in streams for text in stream.texts])
    groups = np.repeat(np.arange(len(streams)), annotations)
    cuts = {
        (strategy, rate): [
            choose_segments(strategy, rate, config, stream.embeddings, tree)
            for stream, tree in zip(streams, trees, strict=True)
        ]
        for strategy in STRATEGIES
        for rate in sorted(config.rates, reverse=True)
        if strategy != "online" or rate * tick <= _FASTEST_ONLINE
    }
    clips = [
        _embed_clips(stream, [parts[index] for parts in cuts.values()], config, embed_spans)
        for index, stream in enumerate(streams if "clip" in config.forms else ())
    ]
    curves: dict[tuple[str, str], Curve] = {}
    blind = math.nan
    for strategy in STRATEGIES:
        asked = [rate for name, rate in cuts if name == strategy]
        for form in config.forms:
            scores = []
            for rate in asked:
                texts = _paired_texts(streams, cuts[strategy, rate], form, clips, decode)
                given = np.asarray(score(texts))
                scores.append(np.bincount(groups, given, minlength=len(streams)))
                if (strategy, form, rate) == ("uniform", config.forms[0], STREAM_REFERENCE_RATE):
                    order = np.random.default_rng(_SEED).permutation(len(texts))
                    blind = float(np.mean(score([texts[i] for i in order])))
            decodings = [[len(part) for part in cuts[strategy, rate]] for rate in asked]
            curves[strategy, form] = Curve(np.array(asked), np.array(decodings), np.array(scores))
    study = Study(seconds, annotations, curves, blind, {})
    reductions = {
        (strategy, form): reduction(study, strategy, form)
        for strategy in STRATEGIES[1:]
        for form in config.forms
    }
    return dataclasses.replace(study, reductions=reductions)


def choose_segments(
    strategy: str,
    rate: float,
    config: StreamStudyConfig,
    embeddings: Float[np.ndarray, "n e"],
    tree: SegmentTree,
) -> Int[np.ndarray, "k 2"]:
    """The segments that a strategy makes of a stream at a rate, decoded once each.

    Args:
        rate: segments per second; the online strategy approaches it.
        tree: of the embeddings, for "offline".
    """
    per_tick = rate / config.ticks_per_second
    if strategy == "online":
        return _online_segments(per_tick, config, embeddings)
    count = max(1, round(per_tick * len(embeddings)))
    return (
        uniform_segments(len(embeddings), count) if strategy == "uniform" else tree.segments(count)
    )


def _online_segments(
    per_tick: float, config: StreamStudyConfig, embeddings: np.ndarray
) -> np.ndarray:
    segmenter = OnlineSegmenter(
        window=max(1, round(config.change_window * config.ticks_per_second)),
        delay=max(1, round(config.change_delay * config.ticks_per_second)),
        rate=per_tick,
    )
    changes = [change for e in embeddings if (change := segmenter.update(e)) is not None]
    changes.append(segmenter.so_far())
    return np.array([(change.start, change.end) for change in changes])


def _paired_texts(
    streams: Sequence[EmbeddedStream],
    segments: Sequence[np.ndarray],
    form: str,
    clips: Sequence[Mapping[tuple[int, int], np.ndarray]],
    decode: Decode,
) -> list[str]:
    """The text nearest in time to each annotation.

    Only these are decoded here: what no annotation is paired with changes no score.
    """
    chosen = []
    for index, (stream, parts) in enumerate(zip(streams, segments, strict=True)):
        nearest = _nearest(stream, parts)
        if form == "clip":
            chosen.append(np.stack([clips[index][tuple(part)] for part in parts[nearest].tolist()]))
        else:
            averaged = form == "averaged"
            chosen.append(segment_embeddings(stream.embeddings, parts, averaged=averaged)[nearest])
    distinct, where = np.unique(np.concatenate(chosen), axis=0, return_inverse=True)
    texts = decode(distinct)
    return [texts[index] for index in where.ravel()]


def _nearest(stream: EmbeddedStream, segments: np.ndarray) -> np.ndarray:
    """[m] the segment whose middle is nearest to each annotation, the first of two."""
    middles = (stream.times[segments[:, 0]] + stream.times[segments[:, 1] - 1]) / 2
    return np.abs(stream.annotated[:, None] - middles).argmin(axis=1)


def _embed_clips(
    stream: EmbeddedStream,
    cuts: Sequence[np.ndarray],
    config: StreamStudyConfig,
    embed_spans: EmbedSpans,
) -> dict[tuple[int, int], np.ndarray]:
    """Embeddings, as clips of their own, of the segments that are decoded in any of the cuts."""
    decoded = np.concatenate([segments[_nearest(stream, segments)] for segments in cuts])
    distinct = np.unique(decoded, axis=0)
    spans = segment_spans(
        stream.times, distinct, tick=1 / config.ticks_per_second, shortest=config.window
    )
    return dict(zip(map(tuple, distinct.tolist()), embed_spans(stream, spans), strict=True))


def _remembering(decode: Decode) -> Decode:
    """Decodes each embedding once: strategies and rates share ticks, and one tree its segments."""
    known: dict[bytes, str] = {}

    def remembering(embeddings: np.ndarray) -> list[str]:
        keys = [row.tobytes() for row in embeddings]
        new = [index for index, key in enumerate(keys) if key not in known]
        if new:
            texts = decode(embeddings[new])
            known.update((keys[index], text) for index, text in zip(new, texts, strict=True))
        return [known[key] for key in keys]

    return remembering


# ---------------------------------------------------------------------------------------------
# Equal quality
# ---------------------------------------------------------------------------------------------
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
        seconds, annotations = study.seconds[rows].sum(), study.annotations[rows].sum()

        def ascending_rates(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
            rates = curve.decodings[:, rows].sum(axis=1) / seconds
            rates, first = np.unique(rates, return_index=True)
            return rates, curve.scores[first][:, rows].sum(axis=1) / annotations

        rates, quality = ascending_rates(uniform)
        target = float(np.interp(math.log(STREAM_REFERENCE_RATE), np.log(rates), quality))
        uniform_rate, _ = rate_at(rates, quality, target)
        rate, bounded = rate_at(*ascending_rates(selective), target)
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
    if len(everything) < FEWEST_STREAMS:
        few = f"{len(everything)} streams are too few for an interval, which takes {FEWEST_STREAMS}"
        return dataclasses.replace(found, caveat=few)
    rng = np.random.default_rng(_SEED)
    drawn = [measure(rng.choice(everything, len(everything))) for _ in range(_RESAMPLES)]
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

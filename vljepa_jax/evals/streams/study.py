"""How few decodings tell as much of a stream: CIDEr against rate (paper §4.6).

A strategy chooses segments of a stream; each segment is decoded once, and its text stands at the
segment's middle in time. What is decoded is the mean of the segment's embeddings ("averaged"), the
embedding at its middle ("exact"), or that of the segment as a clip of its own ("clip"), which costs
one more embedding a decoding; the paper has the first two. Each annotation is paired with the text
nearest to it in time, and CIDEr-D over the pairs of all streams is the quality at that rate. The
results are how many times fewer decodings a selective strategy needs than the uniform one at equal
quality, and how much more quality it has at an equal rate, half of the reference.

This module sees embeddings and times, neither model nor files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from vljepa_jax.config import STREAM_REFERENCE_RATE, StreamStudyConfig
from vljepa_jax.evals.streams.curves import SEED, Curve, Study, gain, reduction
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.segmentation import (
    SegmentTree,
    segment_embeddings,
    segment_spans,
    uniform_segments,
    ward_tree,
)

STRATEGIES = ("uniform", "offline", "online")
# Two ticks at least have a variance: the online strategy ends no more than every other one.
_FASTEST_ONLINE = 0.5
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
                    order = np.random.default_rng(SEED).permutation(len(texts))
                    blind = float(np.mean(score([texts[i] for i in order])))
            decodings = [[len(part) for part in cuts[strategy, rate]] for rate in asked]
            curves[strategy, form] = Curve(np.array(asked), np.array(decodings), np.array(scores))
    study = Study(seconds, annotations, curves, blind, {}, {})
    selective = [(strategy, form) for strategy in STRATEGIES[1:] for form in config.forms]
    return dataclasses.replace(
        study,
        reductions={choice: reduction(study, *choice) for choice in selective},
        gains={choice: gain(study, *choice) for choice in selective},
    )


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

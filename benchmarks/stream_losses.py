"""Where the model loses against perfect embeddings in the stream study: a table of its parts.

    python benchmarks/stream_losses.py --checkpoint=runs/demo

On procedural streams of another seed than those that are reported, it prints as JSON the CIDEr of

- events: a text for each event, from its true span or from a window about its middle, and the share
  of right objects and motions; and what the Y-Decoder makes of the annotations' own embeddings;
- segments: texts of the segments that perfect embeddings ("known") or the model's ("seen") choose.
  They are told by the annotation that fills most of a segment, in its meaning's one wording
  ("right"), by the mean of the model's windows ("averaged"), or by the model, shown the segment's
  own clip ("clip");
- cut_by: segments that other features of the model choose, told by what is right: the mean of the
  X-Encoder's tokens, predictions of two window lengths, their mean over three ticks, and the
  probabilities of the captions.

All but the Y-Decoder's texts are captions of one object and motion, in one wording: the nearest to
what the model predicts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

import numpy as np
import scipy.special
from recipes import recipe
from stream_oracle import QUIET, perfect, perfect_spans

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import EvalConfig, WorldConfig
from vljepa_jax.data.records import Annotation, Medium
from vljepa_jax.data.video import play
from vljepa_jax.data.world.language import captions
from vljepa_jax.data.world.objects import OBJECTS, Object
from vljepa_jax.data.world.pairs import motions_of
from vljepa_jax.data.world.render import clip_medium
from vljepa_jax.data.world.streams import Stream, annotate_stream, draw_stream, render_stream
from vljepa_jax.evals.streams.run import scorer
from vljepa_jax.evals.streams.study import EmbeddedStream, EmbedSpans, run_study
from vljepa_jax.inference.streams.embed_stream import embed_spans, embed_stream
from vljepa_jax.inference.streams.segmentation import unit
from vljepa_jax.inference.streams.windows import SlidingWindow

RATES = (1.0, 0.5, 0.35)


def caption(thing: Object, motion: str) -> str:
    """The one wording of a meaning."""
    return captions([(thing, motion)], np.random.default_rng(0), 1, wordings=1)[0]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A stream as it is drawn, annotated, seen by the model, and perfectly known."""

    script: Stream
    annotation: Annotation
    medium: Medium
    seen: EmbeddedStream
    known: EmbeddedStream


class Parts:
    """The streams, and the ways to choose and to tell their segments."""

    def __init__(self, model: vljepa_jax.Embedder, chosen: argparse.Namespace) -> None:
        evaluation = recipe("configs/eval/world.py", kind=EvalConfig)
        self.config = dataclasses.replace(evaluation.stream, rates=RATES, forms=("clip",))
        self.model = model
        meanings = [(thing, m) for thing in OBJECTS for m in motions_of(thing.name, unseen=False)]
        self.meanings = [(thing.name, motion) for thing, motion in meanings]
        self.captions = [caption(*meaning) for meaning in meanings]
        self.bank = model.embed_text(self.captions)
        self.embedded = dict(zip(self.captions, self.bank, strict=True))
        self.embedded[QUIET] = model.embed_text(QUIET)[0]
        rng = np.random.default_rng(chosen.seed)
        drawn = [self._draw(rng, evaluation.world, str(i)) for i in range(chosen.streams)]
        self.drawn = {one.annotation.id: one for one in drawn}
        self.score = scorer([[text] for one in drawn for text in one.annotation.texts])

    def _draw(self, rng: np.random.Generator, world: WorldConfig, name: str) -> Drawn:
        script = draw_stream(rng, world.fps, "procedural", 0.40)
        annotation = annotate_stream(script, name, rng)
        medium = clip_medium(render_stream(script, world.image_size), world.fps)
        config = self.config
        ends, windows = embed_stream(
            self.model,
            medium,
            config.query,
            seconds=config.window,
            ticks_per_second=config.ticks_per_second,
        )
        known = perfect(self._right(script, annotation), self.embedded, config, config.window)
        known = dataclasses.replace(known, name=annotation.id, texts=annotation.texts)
        seen = dataclasses.replace(known, times=ends - config.window / 2, embeddings=windows)
        return Drawn(script, annotation, medium, seen, known)

    def _right(self, script: Stream, annotation: Annotation) -> Annotation:
        texts = tuple(caption(event.thing, event.motion) for event in script.events)
        return dataclasses.replace(annotation, texts=texts)

    def nearest(self, embeddings: np.ndarray) -> list[str]:
        return [self.captions[index] for index in (embeddings @ self.bank.T).argmax(axis=1)]

    # What tells a segment: EmbedSpans, each
    def right(self, stream: EmbeddedStream, spans: np.ndarray) -> np.ndarray:
        one = self.drawn[stream.name]
        return perfect_spans(self._right(one.script, one.annotation), self.embedded, spans)

    def averaged(self, stream: EmbeddedStream, spans: np.ndarray) -> np.ndarray:
        seen = self.drawn[stream.name].seen
        inside = (spans[:, :1] <= seen.times) & (seen.times < spans[:, 1:])
        return unit(inside.astype(np.float32) @ seen.embeddings)

    def clip(self, stream: EmbeddedStream, spans: np.ndarray) -> np.ndarray:
        return embed_spans(self.model, self.drawn[stream.name].medium, self.config.query, spans)

    def segments(self, chosen_by: str, told_by: str) -> dict[str, dict[float, float]]:
        """CIDEr by strategy and rate."""
        streams = [getattr(one, chosen_by) for one in self.drawn.values()]
        return self._study(streams, getattr(self, told_by))

    def _study(
        self, streams: list[EmbeddedStream], told: EmbedSpans
    ) -> dict[str, dict[float, float]]:
        found = run_study(streams, self.config, self.nearest, scorer, told)
        return {
            strategy: {
                rate: round(cider, 1)
                for rate, (_, cider) in zip(RATES, found.points(strategy, "clip"), strict=True)
            }
            for strategy in ("uniform", "offline", "online")
        }

    def features(self, one: Drawn) -> dict[str, np.ndarray]:
        """Of each window, what it could be cut by: name -> [n, features]."""
        short, tokens = self._windows(one.medium, self.config.window)
        long, _ = self._windows(one.medium, 2 * self.config.window)
        # The long windows about the short ones' middles; the first and the last have none.
        lag = round(self.config.window / 2 * self.config.ticks_per_second)
        about = np.clip(np.arange(len(short)) - lag, 0, len(long) - 1)
        padded = np.pad(short, ((1, 1), (0, 0)), mode="edge")
        probable = scipy.special.softmax(short @ self.bank.T / 0.1, axis=1)
        return {
            "predictions": short,
            "predictions_smoothed": (padded[:-2] + padded[1:-1] + padded[2:]) / 3,
            "predictions_of_two_lengths": np.concatenate([short, long[about]], axis=1),
            "probabilities_of_captions": np.sqrt(probable),  # Hellinger's distance
            "x_encoder_tokens": tokens,
        }

    def _windows(self, medium: Medium, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of a stream's windows, and the means of their visual tokens."""
        predictions, tokens = [], []
        ticks = self.config.ticks_per_second
        sliding = SlidingWindow(self.model.video, seconds=seconds, ticks_per_second=ticks)
        windows = [w.clip for f in play(medium) for w in sliding.push(f.begin, f.image)]
        for start in range(0, len(windows), self.model.batch_size):
            clips = np.stack(windows[start : start + self.model.batch_size])
            encoded, rows = self.model.encode_clips(clips), np.arange(len(clips))
            queries = [self.config.query] * len(clips)
            predictions.append(self.model.predict_tokens(encoded, rows, queries))
            tokens.append(self.model.mean_tokens(encoded)[rows])
        return np.concatenate(predictions), np.concatenate(tokens)

    def cut_by(self) -> dict[str, dict[str, dict[float, float]]]:
        """CIDEr of what is right, by feature, strategy and rate."""
        features = [self.features(one) for one in self.drawn.values()]
        return {
            name: self._study(
                [
                    dataclasses.replace(
                        one.seen, times=one.seen.times[: len(of[name])], embeddings=of[name]
                    )
                    for one, of in zip(self.drawn.values(), features, strict=True)
                ],
                self.right,
            )
            for name in features[0]
        }

    def events(self, seconds: float | None) -> dict[str, float]:
        """Each event told from its true span, or from ``seconds`` about its middle."""
        rows, truth = [], []
        for one in self.drawn.values():
            middles, lasts = np.array(one.annotation.times), np.array(one.annotation.durations)
            half = (lasts if seconds is None else np.full_like(lasts, seconds)) / 2
            spans = np.stack([middles - half, middles + half], axis=1)
            rows.append(embed_spans(self.model, one.medium, self.config.query, spans))
            truth += [(event.thing.name, event.motion) for event in one.script.events]
        embeddings = np.concatenate(rows)
        told = [self.meanings[index] for index in (embeddings @ self.bank.T).argmax(axis=1)]
        right = np.array(told) == np.array(truth)
        return {
            "objects": round(float(right[:, 0].mean()), 3),
            "motions": round(float(right[:, 1].mean()), 3),
            "nearest_caption": self._cider(self.nearest(embeddings)),
            "y_decoder": self._cider(self.model.decode(embeddings)),
        }

    def texts(self) -> dict[str, float]:
        """What is right, told in one wording; and the annotations, read by the Y-Decoder."""
        right = [t for o in self.drawn.values() for t in self._right(o.script, o.annotation).texts]
        own = [text for one in self.drawn.values() for text in one.annotation.texts]
        read = self.model.decode(self.model.embed_text(own))
        return {"right": self._cider(right), "y_decoder_of_annotations": self._cider(read)}

    def _cider(self, texts: list[str]) -> float:
        return round(float(np.mean(self.score(texts))), 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--streams", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=101, help="draws the streams (%(default)s)")
    chosen = parser.parse_args()
    parts = Parts(vljepa_jax.load(chosen.checkpoint, batch_size=64), chosen)
    events = {"window_1s": 1.0, "window_2s": 2.0, "true_span": None}
    choices = [(by, told) for by in ("known", "seen") for told in ("right", "averaged", "clip")]
    found = {
        "texts": parts.texts(),
        "events": {name: parts.events(seconds) for name, seconds in events.items()},
        "segments": {f"{by}/{told}": parts.segments(by, told) for by, told in choices},
    }
    print(json.dumps(found | {"cut_by": parts.cut_by()}, indent=2))


if __name__ == "__main__":
    host.set_up()
    main()

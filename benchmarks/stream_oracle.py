"""The stream study with perfect embeddings: what streams, rates and matching leave to be saved.

    python benchmarks/stream_oracle.py --checkpoint=runs/demo

A tick's embedding is made of the annotations' own: each event in its window counts as long as it
lasts there, and the rest of the window is the embedding of a text that says that nothing happens.
Decoding gives the nearest annotation. All else is the study of configs/eval/streams.py. The JSON
that is printed has the reductions of each kind of stream, for windows of several lengths, and what
the wording of the annotations is worth: the CIDEr of a right text in other words, and of one that
names the right object alone.
Settings were chosen with another --seed than that of the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

import numpy as np
from recipes import recipe

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import EvalConfig, StreamStudyConfig
from vljepa_jax.data.records import Annotation
from vljepa_jax.data.world.streams import Stream, annotate_stream, draw_stream
from vljepa_jax.evals.streams.curves import Study
from vljepa_jax.evals.streams.run import scorer
from vljepa_jax.evals.streams.study import EmbeddedStream, run_study
from vljepa_jax.inference.streams.segmentation import unit

QUIET = "nothing happens"
WINDOWS = (0.5, 1.0, 2.0)  # seconds
KINDS, DENSITY = ("procedural", "poisson"), 0.4


def perfect(
    annotation: Annotation,
    embedded: dict[str, np.ndarray],
    config: StreamStudyConfig,
    window: float,
) -> EmbeddedStream:
    """A stream whose ticks hold what is going on within ``window`` seconds, and nothing else."""
    tick = 1 / config.ticks_per_second
    half = window / 2
    times = np.arange(half, float(annotation.tags["seconds"]) - half + 1e-6, tick)
    return EmbeddedStream(
        name=annotation.id,
        times=times,
        embeddings=perfect_spans(annotation, embedded, times[:, None] + [-half, half]),
        annotated=np.array(annotation.times),
        texts=annotation.texts,
        durations=np.array(annotation.durations),
    )


def perfect_spans(
    annotation: Annotation, embedded: dict[str, np.ndarray], spans: np.ndarray
) -> np.ndarray:
    """[k, E] what is going on in spans [k, 2] of a stream, in seconds."""
    starts = np.array(annotation.times) - np.array(annotation.durations) / 2
    ends = starts + np.array(annotation.durations)
    first, last = spans[:, :1], spans[:, 1:]
    shown = np.maximum(np.minimum(last, ends) - np.maximum(first, starts), 0.0)
    quiet = np.maximum(spans[:, 1] - spans[:, 0] - shown.sum(axis=1), 0.0)
    embeddings = shown @ np.stack([embedded[text] for text in annotation.texts])
    embeddings += quiet[:, None] * embedded[QUIET]
    return unit(embeddings)


def study(
    annotations: list[Annotation],
    embedded: dict[str, np.ndarray],
    config: StreamStudyConfig,
    window: float,
) -> Study:
    texts = list(embedded)
    bank = np.stack(list(embedded.values()))
    by_name = {annotation.id: annotation for annotation in annotations}
    return run_study(
        [perfect(annotation, embedded, config, window) for annotation in annotations],
        config,
        lambda embeddings: [texts[index] for index in np.argmax(embeddings @ bank.T, axis=1)],
        scorer,
        lambda stream, spans: perfect_spans(by_name[stream.name], embedded, spans),
    )


def wording(scripts: list[Stream], annotations: list[Annotation]) -> dict[str, float]:
    """CIDEr of what is right but not in the annotator's words."""
    score = scorer([[text] for annotation in annotations for text in annotation.texts])
    rng = np.random.default_rng(0)
    told = {
        "same_meaning": [
            text for script in scripts for text in annotate_stream(script, "", rng).texts
        ],
        "object_alone": [
            f"{event.thing.indefinite}." for script in scripts for event in script.events
        ],
    }
    return {name: float(np.mean(score(texts))) for name, texts in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="its Y-Encoder embeds the annotations")
    parser.add_argument("--streams", type=int, default=20, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the streams (%(default)s)")
    chosen = parser.parse_args()
    model = vljepa_jax.load(chosen.checkpoint)
    evaluation = recipe("configs/eval/streams.py", kind=EvalConfig)
    config, world = evaluation.stream, evaluation.world
    found, worded = [], {}
    for kind in KINDS:
        rng = np.random.default_rng(chosen.seed)
        scripts, annotations = [], []  # scripts are enough: nothing is drawn
        for index in range(chosen.streams):
            scripts.append(draw_stream(rng, world.fps, kind, DENSITY))
            annotations.append(annotate_stream(scripts[-1], str(index), rng))
        worded[kind] = wording(scripts, annotations)
        texts = sorted({QUIET}.union(*(annotation.texts for annotation in annotations)))
        embedded = dict(zip(texts, model.embed_text(texts), strict=True))
        for window in WINDOWS:
            made = study(annotations, embedded, config, window)
            for (strategy, form), reduction in made.reductions.items():
                told = dataclasses.asdict(reduction)
                names = ("value", "undefined", "interval", "quality", "caveat")
                found.append(
                    {"kind": kind, "window": window, "strategy": strategy, "form": form}
                    | {name: told[name] for name in names if told[name] not in (None, "")}
                )
    print(json.dumps({"reductions": found, "wording": worded}, indent=2))


if __name__ == "__main__":
    host.set_up()
    main()

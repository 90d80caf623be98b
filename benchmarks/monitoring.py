"""False alarms and misses of monitoring, on the world's streams, by the threshold.

    python launch/embed.py --checkpoint=runs/demo --videos=@world:streams --window=2 --stride=1 \
        --output=streams_index
    python benchmarks/monitoring.py --index=streams_index --output=docs/figures/monitoring.json

Windows of the world's eight streams, embedded without a query, go through what launch/stream.py
does with those of a source (--query= --ticks_per_second=1), with a label for each meaning that any
stream shows, an object and its motion, in one wording ("A zebra spins."). An alarm is a label that
reaches the threshold in something that is said, after the cool-down. It is false if no event of
that meaning overlaps what it is said of, made longer by half a window on either side. Printed are,
for the threshold of the model's calibration and for others, the share of alarms that are right;
false alarms an hour of one label that is watched, and of one that the stream never shows, where a
right monitor is silent; and the share of events with an alarm of their meaning while they last.
"unlike" is the share of what was said that was marked so, which makes no alarms.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.data.collection import Place
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.world.language import captions
from vljepa_jax.data.world.objects import OBJECTS
from vljepa_jax.data.world.phrases import MOTIONS as WORDINGS
from vljepa_jax.inference.search.hits import Row
from vljepa_jax.inference.search.index import VideoIndex
from vljepa_jax.inference.streams.alarms import Alarms
from vljepa_jax.inference.streams.live import LiveSettings
from vljepa_jax.inference.streams.narrator import Familiarity, Labels, Narrator, Said

_THRESHOLDS = (0.4, 0.5, 0.6)
_COOLDOWNS = (0.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", required=True, help="made as above")
    parser.add_argument("--output", help="the JSON file to write")
    options = parser.parse_args()
    index = VideoIndex(options.index)
    model = vljepa_jax.load(index.checkpoint)
    if model.calibration is None:
        raise SystemExit(f"python launch/calibrate.py --checkpoint={index.checkpoint}, first")
    window = index.settings.window
    shown = {name: _shown(entry.item.place) for name, entry in index.entries.items()}
    names = sorted({label for own in shown.values() for label in own})
    floor = model.calibration.floors[index.settings.query]
    labels = Labels(names, model.embed_text(names), None, lambda: floor)
    settings = LiveSettings(window=window, ticks_per_second=1 / index.settings.stride)
    said, seconds = [], 0.0
    for embeddings, rows in index.rows():
        for name in dict.fromkeys(row.entry.item.name for row in rows):
            own = [number for number, row in enumerate(rows) if row.entry.item.name == name]
            said += _said(name, embeddings[own], [rows[number] for number in own], labels, settings)
            seconds += rows[own[-1]].span[1]
    report = {
        "streams": len(shown),
        "hours": seconds / 3600,
        "labels": len(names),
        "events": sum(len(spans) for own in shown.values() for spans in own.values()),
        "said": len(said),
        "unlike": float(np.mean([unlike for _, _, unlike in said])),
        "thresholds": [
            _measure(said, shown, names, threshold, cooldown, window / 2, seconds / 3600)
            for threshold in (floor, *_THRESHOLDS)
            for cooldown in _COOLDOWNS
        ],
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if options.output:
        Path(options.output).write_text(text)


def _said(
    name: str,
    embeddings: np.ndarray,
    rows: Sequence[Row],
    labels: Labels,
    settings: LiveSettings,
) -> list[tuple[str, Said, bool]]:
    """What launch/stream.py says of a stream, and whether it is marked as unlike training."""
    narrator = Narrator(
        labels.say, settings.segmenter, window=settings.window, patience=settings.patience
    )
    familiarity, said, unlike = Familiarity(), [], False
    for embedding, row in zip(embeddings, rows, strict=True):
        unlike = familiarity.feed(row.novelty)
        said += [(name, each, unlike) for each in narrator.feed(row.span[1], embedding)]
    last = narrator.restart()
    return said + ([(name, last, unlike)] if last is not None else [])


def _shown(place: Place) -> dict[str, list[tuple[float, float]]]:
    """The spans of the events of each meaning, by its label."""
    record = list(open_dataset(place.dataset).records(place.split))[place.record]
    annotation = record.annotations[0]
    spans: dict[str, list[tuple[float, float]]] = {}
    for text, middle, lasts in zip(
        annotation.texts, annotation.times, annotation.durations, strict=True
    ):
        thing = _longest(text, {named.name: named for named in OBJECTS})
        motion = _longest(
            text,
            {
                form: motion
                for motion, wordings in WORDINGS.items()
                for phrase in wordings.seen
                for form in (phrase.verb, phrase.gerund)
            },
        )
        (label,) = captions([(thing, motion)], np.random.default_rng(0), 1, wordings=1)
        spans.setdefault(label, []).append((middle - lasts / 2, middle + lasts / 2))
    return spans


def _longest(text: str, meanings: Mapping[str, Any]) -> Any:
    """What the longest of these words in a text mean."""
    found = [words for words in meanings if re.search(rf"\b{re.escape(words)}\b", text, re.I)]
    return meanings[max(found, key=len)]


def _measure(
    said: Sequence[tuple[str, Said, bool]],
    shown: Mapping[str, Mapping[str, list[tuple[float, float]]]],
    names: Sequence[str],
    threshold: float,
    cooldown: float,
    margin: float,
    hours: float,
) -> dict[str, float | None]:
    alarms: list[tuple[str, Mapping[str, Any]]] = []
    for name in shown:
        own = Alarms(
            lambda event, name=name: alarms.append((name, event)),
            Labels(names, np.zeros((len(names), 1)), [threshold] * len(names)),
            cooldown,
        )
        for source, each, unlike in said:
            if source == name:
                own.consider(each, unlike, {"source": name, "start": each.start, "end": each.end})
    false = false_absent = 0
    found: set[tuple[str, str, float]] = set()
    for name, event in alarms:
        spans = shown[name].get(event["text"], [])
        begin, end = event["start"] - margin, event["end"] + margin
        seen = [span for span in spans if span[0] < end and begin < span[1]]
        found |= {(name, event["text"], first) for first, _ in seen}
        false += not seen
        false_absent += not spans
    absent = sum(name not in own for own in shown.values() for name in names)
    every = sum(len(spans) for own in shown.values() for spans in own.values())
    return {
        "threshold": round(threshold, 3),
        "cooldown": cooldown,
        "alarms": len(alarms),
        "right": 1 - false / len(alarms) if alarms else None,
        "false_per_label_hour": false / hours / len(names),
        "false_per_absent_label_hour": false_absent / (hours * absent / len(shown)),
        "events_found": len(found) / every,
    }


if __name__ == "__main__":
    host.set_up()
    main()

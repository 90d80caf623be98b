"""False alarms and misses of monitoring, on the world's streams, by the threshold.

    python benchmarks/monitoring.py --checkpoint=runs/demo --output=docs/figures/monitoring.json

launch/stream.py follows the eight streams of the world's split "streams" together, as fast as it
can, with a label for each of the world's objects ("a zebra"). An alarm is a label that reaches the
threshold in something that is said, after the cool-down. It is false if no event of its object
overlaps that span, which is made longer by half a window on either side. Printed are, for the
threshold of the model's calibration and for others, the false alarms an hour of one label that is
watched; the same for those labels alone that a stream never shows, where a right monitor is silent;
and the share of events with an alarm for their object while they last. "unlike" is the share of
what was said that was marked so, which makes no alarms.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.live_source import parse_source
from vljepa_jax.data.world.objects import OBJECTS
from vljepa_jax.inference.streams.live import LiveSettings, follow
from vljepa_jax.inference.tasks import CAPTION_QUERY

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
_COOLDOWNS = (0.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--output", help="the JSON file to write")
    options = parser.parse_args()
    model = vljepa_jax.load(options.checkpoint)
    if model.calibration is None:
        raise SystemExit(f"python launch/calibrate.py --checkpoint={options.checkpoint}, first")
    dataset = find_dataset("@world", model.history.config.world)
    records = list(dataset.records("streams"))
    media = dataset.media("streams")
    settings = LiveSettings(fast=True)
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for index, record in enumerate(records):
            path = Path(folder) / f"{record.id}.mp4"
            path.write_bytes(media[index].media[0].data)
            sources.append(str(path))
        labels, jsonl = Path(folder) / "labels.txt", Path(folder) / "events.jsonl"
        labels.write_text("".join(f"{_label(thing.name)}\n" for thing in OBJECTS))
        settings = LiveSettings(fast=True, labels=str(labels), jsonl=str(jsonl))
        follow(model, list(map(parse_source, sources)), settings, console=rich.console.Console())
        events = [json.loads(line) for line in jsonl.read_text().splitlines()]
    said = [event for event in events if event["event"] == "text"]
    shown = {source: _shown(record) for source, record in zip(sources, records, strict=True)}
    floor = model.calibration.floors[CAPTION_QUERY]
    hours = sum(float(record.annotations[0].tags["seconds"]) for record in records) / 3600
    report = {
        "streams": len(records),
        "hours": hours,
        "labels": len(OBJECTS),
        "events": sum(len(spans) for own in shown.values() for spans in own.values()),
        "said": len(said),
        "unlike": float(np.mean([event["unlike"] for event in said])),
        "window": settings.window,
        "thresholds": [
            _measure(said, shown, threshold, cooldown, settings.window / 2, hours)
            for threshold in (floor, *_THRESHOLDS)
            for cooldown in _COOLDOWNS
        ],
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if options.output:
        Path(options.output).write_text(text)


def _label(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _shown(record: Any) -> dict[str, list[tuple[float, float]]]:
    """The spans of the events of each object, by its label."""
    annotation = record.annotations[0]
    spans: dict[str, list[tuple[float, float]]] = {_label(thing.name): [] for thing in OBJECTS}
    for text, middle, lasts in zip(
        annotation.texts, annotation.times, annotation.durations, strict=True
    ):
        named = [t.name for t in OBJECTS if re.search(rf"\b{re.escape(t.name)}\b", text)]
        spans[_label(max(named, key=len))].append((middle - lasts / 2, middle + lasts / 2))
    return spans


def _measure(
    said: list[dict[str, Any]],
    shown: dict[str, dict[str, list[tuple[float, float]]]],
    threshold: float,
    cooldown: float,
    margin: float,
    hours: float,
) -> dict[str, float]:
    alarms = false = false_absent = 0
    quiet_until: dict[tuple[str, str], float] = {}
    found: set[tuple[str, str, float]] = set()
    for event in said:
        if event["unlike"]:
            continue
        for label, score in event["scores"].items():
            source = event["source"]
            key = source, label
            if score < threshold or event["end"] < quiet_until.get(key, -np.inf):
                continue
            quiet_until[key] = event["end"] + cooldown
            alarms += 1
            spans = shown[source][label]
            seen = [
                span
                for span in spans
                if span[0] < event["end"] + margin and event["start"] - margin < span[1]
            ]
            found |= {(source, label, begin) for begin, _ in seen}
            false += not seen
            false_absent += not spans
    absent = sum(not spans for own in shown.values() for spans in own.values())
    every = sum(len(spans) for own in shown.values() for spans in own.values())
    return {
        "threshold": round(threshold, 3),
        "cooldown": cooldown,
        "alarms": alarms,
        "right": 1 - false / alarms if alarms else 1.0,
        "false_per_label_hour": false / hours / len(OBJECTS),
        "false_per_absent_label_hour": false_absent / (hours * absent / len(shown)),
        "events_found": len(found) / every,
    }


if __name__ == "__main__":
    host.set_up()
    main()

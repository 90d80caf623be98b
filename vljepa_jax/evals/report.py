"""``report.json``, the form of every report in the project.

It holds "metrics" (by name: value, chance, n, interval, and how it was measured), "model" (its
card), "train" (what ``train.json`` says), "config" ("train" and "evaluation") and "environment";
later parts of a report are further keys.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vljepa_jax.config import ConfigError, EvalConfig, VideoInput, as_dict
from vljepa_jax.evals.benchmarks import (
    STREAM,
    benchmark_name,
    metric_name,
    missing_examples,
    video_of,
)
from vljepa_jax.evals.evaluate import Result
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.page import Section, render, what_was_evaluated
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.host import available_cpus
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.places import write_text

# Settings of an evaluation that change no result of another benchmark.
_FREE_FIELDS = ("benchmarks", "batch_size", "num_workers", "stream", "data", "step")

_MEASURED = ("value", "chance", "n", "unit", "interval")


def read_report(directory: Path) -> dict[str, Any]:
    """The report that is there, or an empty one.

    Raises:
        ConfigError: it is damaged.
    """
    path = directory / "report.json"
    mend = "remove it, and all is measured anew"
    try:
        report = read_json(path, dict) if path.is_file() else {}
    except JSONError as error:
        raise ConfigError(f"{error}; {mend}") from error
    metrics = report.get("metrics", {})
    if not isinstance(metrics, dict) or not all(isinstance(m, dict) for m in metrics.values()):
        raise ConfigError(f"{path}: its metrics are no objects by name; {mend}")
    return report


def read_measured(directory: Path) -> dict[str, Any]:
    """A report with metrics, as ``launch/eval.py`` writes it.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    report = read_report(directory)
    if not report.get("metrics"):
        raise ConfigError(
            f"'{directory}' has no report.json with metrics; launch/eval.py writes one"
        )
    for name, metric in report["metrics"].items():
        if missing := [field for field in _MEASURED if field not in metric]:
            path = directory / "report.json"
            raise ConfigError(f"{path}: metric '{name}' has no '{missing[0]}'; evaluate again")
    return report


def make_report(
    previous: Mapping[str, Any],
    model: Embedder,
    evaluation: EvalConfig,
    results: Sequence[Result],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """Puts results into the form of ``report.json``.

    Metrics of ``previous`` that were not measured again stay as long as they belong to the same
    model (its fingerprint, how it was trained) and to the same evaluation settings, and of none
    that is now skipped; so does what was said of skipped ones that were not run since; parts that
    other commands wrote stay in any case; "streams" goes with the metrics. A report of before
    models had cards names no fingerprint: its metrics are measured anew.

    Args:
        evaluation: config behind ``results``.
        skipped: why benchmarks were not run, by name.
    """
    history = model.history
    report = {
        "metrics": {},
        "skipped": dict(skipped),
        "model": model.card,
        "train": {} if history is None else history.summary,
        "config": {
            "train": None if history is None else as_dict(history.config),
            "evaluation": as_dict(evaluation),
        },
        "environment": environment(),
    }
    report = json.loads(json.dumps(report))  # tuples become lists, as in what was read back
    if _measured_alike(previous, report):
        # Those of older versions, which name no unit or suffix, are measured anew.
        kept = {
            name: m
            for name, m in previous["metrics"].items()
            if "unit" in m and ("suffix" in m or m["protocol"] == STREAM)
        }
        for benchmark in evaluation.benchmarks:
            if benchmark_name(benchmark) in skipped:
                for ending in make_protocol(benchmark).suffixes:
                    kept.pop(metric_name(benchmark, ending), None)
        report["metrics"].update(kept)
        run = {benchmark_name(result.benchmark) for result in results}
        before = previous.get("skipped", {}).items()
        report["skipped"] = {name: why for name, why in before if name not in run} | dict(skipped)
    else:
        previous = {key: value for key, value in previous.items() if key != "streams"}
    for result in results:
        report["metrics"].update(_metrics(result, video_of(result.benchmark, model.video)))
    return {**{k: v for k, v in previous.items() if k not in report}, **report}


def environment() -> dict[str, Any]:
    """Where and with what the figures were made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "vljepa_jax": importlib.metadata.version("vljepa_jax"),
        "commit": _commit(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": available_cpus(),
        "platform": platform.platform(),
    }


def _metrics(result: Result, video: VideoInput) -> dict[str, Any]:
    benchmark = result.benchmark
    how = {
        "protocol": benchmark.protocol.name,
        "path": benchmark.path,
        "split": benchmark.split,
        "filter": dict(benchmark.filter),
        "query": benchmark.query,
        "frames": video.frames,
        "window": list(video.window),
        "fit": video.preprocessing.fit,
        "suffix": benchmark.suffix,
        "unreadable": len(result.unreadable),
        "expected": benchmark.expected or result.there,
        "missing": missing_examples(benchmark, result.examples, result.there),
    }
    return {name: _as_json(metric) | how for name, metric in result.metrics.items()}


def _as_json(metric: Metric) -> dict[str, Any]:
    """A metric without a value has null, and "undefined", which no other has, says why."""
    fields = dataclasses.asdict(metric)
    fields["interval"] = None if metric.interval is None else list(metric.interval)
    if not metric.undefined:
        del fields["undefined"]
    return fields


def _measured_alike(previous: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    if not {"metrics", "model", "train", "config"} <= previous.keys():
        return False

    def settings(of: Mapping[str, Any]) -> Any:
        evaluation = of["config"].get("evaluation", {})
        kept = {k: v for k, v in evaluation.items() if k not in _FREE_FIELDS}
        return of["model"]["fingerprint"], of["train"], of["config"].get("train"), kept

    return settings(previous) == settings(report)


def _commit() -> str | None:
    """The git commit of this source, "-dirty" if it was changed; ``None`` outside a repository."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        # A virtual environment may lie in somebody else's repository: there it is not tracked.
        tracked = git("ls-files", here.name)
        described = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        return described if tracked else None
    except FileNotFoundError:  # no git on this machine
        return None


def write_report(
    directory: Path, report: Mapping[str, Any], title: str, page: Sequence[Section]
) -> None:
    """Writes ``report.json`` and ``report.html``, each in one stroke."""
    write_json(directory, report)
    page = render(title, report["environment"], page, what_was_evaluated(report))
    write_text(directory / "report.html", page)


def write_json(directory: Path, report: Mapping[str, Any]) -> None:
    """Writes ``report.json`` in one stroke."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "report.json", json.dumps(report, indent=2) + "\n")

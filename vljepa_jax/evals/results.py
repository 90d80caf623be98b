"""Results on disk, of benchmarks that are measured once and written one by one.

A folder for each benchmark has what was measured, and each prediction:

    results/world/motion/result.json         settings, metrics, unreadable clips
    results/world/motion/predictions.jsonl   one example a line: answer, scores, right or wrong

``result.json`` is written last and in one stroke: with it, a benchmark is done. It names all that
the result depends on, so that a later run takes it as it is or measures anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from vljepa_jax.config import BenchmarkConfig, as_dict
from vljepa_jax.evals.benchmarks import benchmark_name, video_of
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embedding_cache import EmbeddingCache
from vljepa_jax.evals.evaluate import Result, evaluate_each
from vljepa_jax.evals.examples import ClipRef, EvaluationError
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.protocols.base import Option, Outcome
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.json_text import JSONError, parse_json, read_json
from vljepa_jax.parallel.processes import first_process, of_first
from vljepa_jax.places import write_text

_FORMAT = 2  # raise it when benchmarks are scored in another way
RESULTS = "results"  # below the directory of a report
PREDICTIONS = "predictions.jsonl"
SUMMARY = "result.json"
_MEND = "remove it, and the benchmark is measured anew"


def settings_of(model: Embedder, benchmark: BenchmarkConfig, datasets: Datasets) -> dict[str, Any]:
    """All that a result depends on, as plain values."""
    decoder = model.text_decoder
    settings = {
        "format": _FORMAT,
        "version": importlib.metadata.version("vljepa_jax"),
        "model": model.fingerprint,
        "text_decoder": None if decoder is None else decoder.fingerprint,
        "video": dataclasses.asdict(video_of(benchmark, model.video)),
        "benchmark": as_dict(benchmark),
        "dataset": datasets[benchmark.path].identity,
    }
    return json.loads(json.dumps(settings))  # tuples become lists, as in what is read back


def measure(
    model: Embedder,
    benchmarks: Sequence[BenchmarkConfig],
    datasets: Datasets,
    output: Path,
    *,
    cache: Path | None,
    again: bool,
    scored: Callable[[Sequence[Result]], None],
) -> tuple[list[Result], list[str]]:
    """Scores the benchmarks that are not done, and writes each result when it is there.

    Several processes embed a share each; the first alone writes, and has results.

    Args:
        output: directory of the report, beside which results lie.
        cache: directory of embeddings that are there already and are kept; ``None`` for none.
        again: measures what is done too.
        scored: called by the first process with all results so far, after each.

    Returns:
        The results, in the order of ``benchmarks``, and the names of those that were done before.

    Raises:
        ConfigError, DatasetError, EvaluationError: see ``evaluate_each``.
    """
    folder = ResultFolder(output)
    results: dict[int, Result] = {}
    settings = [settings_of(model, benchmark, datasets) for benchmark in benchmarks]
    if first_process() and not again:
        found = ((i, folder.read(b, settings[i])) for i, b in enumerate(benchmarks))
        results = {index: result for index, result in found if result is not None}
    done = [benchmark_name(benchmarks[index]) for index in results]
    missing = of_first(lambda: [i for i in range(len(benchmarks)) if i not in results])
    with contextlib.ExitStack() as stack:
        kept = None
        if cache is not None:
            opened = EmbeddingCache(cache, model.fingerprint, model.embedding_size)
            kept = stack.enter_context(opened)
        for number, result in evaluate_each(
            model, [benchmarks[i] for i in missing], datasets, kept
        ):
            index = missing[number]
            if first_process():
                results[index] = folder.write(result, settings[index])
                scored([results[i] for i in sorted(results)])
    return [results[index] for index in sorted(results)], done


class ResultFolder:
    """The results below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / RESULTS

    def write(self, result: Result, settings: Mapping[str, Any]) -> Result:
        """Replaces the result of a benchmark; gives it back with outcomes that lie on disk."""
        folder = self._directory / benchmark_name(result.benchmark)
        folder.mkdir(parents=True, exist_ok=True)
        summary = folder / SUMMARY
        summary.unlink(missing_ok=True)  # what is written next is not what it tells of
        protocol = make_protocol(result.benchmark)
        temporary = folder / f"{PREDICTIONS}.tmp"
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for outcome in result.outcomes:
                file.write(json.dumps(_prediction(outcome, judged=protocol.judged)) + "\n")
        temporary.replace(folder / PREDICTIONS)
        content = {
            "settings": settings,
            "metrics": {name: dataclasses.asdict(m) for name, m in result.metrics.items()},
            "unreadable": [[_clip(clip), why] for clip, why in result.unreadable.items()],
            "over_groups": protocol.over_groups,
            "notes": result.notes,
            "examples": result.examples,
            "there": result.there,
        }
        write_text(summary, json.dumps(content, indent=2) + "\n")
        outcomes = _Outcomes(folder / PREDICTIONS, result.benchmark)
        return dataclasses.replace(result, outcomes=outcomes)

    def read(self, benchmark: BenchmarkConfig, settings: Mapping[str, Any]) -> Result | None:
        """The result of a benchmark; ``None`` if it is not done, or was measured in another way.

        With unreadable clips it is not done: they may be there by now.

        Raises:
            EvaluationError: it is damaged.
        """
        folder = self._directory / benchmark_name(benchmark)
        summary = folder / SUMMARY
        if not summary.is_file() or not (folder / PREDICTIONS).is_file():
            return None
        try:
            content = read_json(summary, dict)
            if content["settings"] != settings or content["unreadable"]:
                return None
            return Result(
                benchmark,
                {name: _metric(metric) for name, metric in content["metrics"].items()},
                _Outcomes(folder / PREDICTIONS, benchmark),
                {},
                tuple(content["notes"]),
                content["examples"],
                content["there"],
            )
        except JSONError as error:
            raise EvaluationError(f"{error}; {_MEND}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"{summary}: is damaged ({error!r}); {_MEND}") from error


def _metric(fields: Mapping[str, Any]) -> Metric:
    interval = fields["interval"]
    return Metric(**{**fields, "interval": None if interval is None else tuple(interval)})


def read_predictions(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ``predictions.jsonl``.

    Raises:
        EvaluationError: a line is no prediction.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                prediction = parse_json(line)
                prediction["example"], prediction["correct"], prediction["values"]
            except (ValueError, KeyError, TypeError) as error:
                raise EvaluationError(f"{path}, line {number}: is no prediction") from error
            yield prediction


class _Outcomes(Sequence[Outcome]):
    """The outcomes in a ``predictions.jsonl``, each read when it is asked for."""

    def __init__(self, path: Path, benchmark: BenchmarkConfig) -> None:
        self._path = path
        with path.open("rb") as file:  # where each line ends
            self._ends = np.cumsum(np.fromiter(map(len, file), np.int64))
        self._where = benchmark.path, benchmark.split

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> list[Outcome]: ...
    def __getitem__(self, index: int | slice) -> Outcome | list[Outcome]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        with self._path.open("rb") as file:
            file.seek(self._ends[index - 1] if index else 0)
            line = file.readline()
        try:
            return self._outcome(parse_json(line))
        except (JSONError, KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(
                f"{self._path}, line {index + 1}: is no prediction ({error}); {_MEND}"
            ) from error

    def _outcome(self, fields: Mapping[str, Any]) -> Outcome:
        return Outcome(
            id=fields["example"],
            clip=self._item(fields["clip"]),
            question=fields["question"],
            options=tuple(
                Option(self._item(o["item"]), o["score"], o["correct"], o["label"])
                for o in fields["options"]
            ),
            gold=self._item(fields["gold"]),
            rank=fields["rank"],
            unreadable=tuple(map(self._item, fields["unreadable"])),
            values=fields["values"],
            group=fields["group"],
        )

    def _item(self, value: Any) -> Any:
        """A clip from what ``_clip`` made of it; all else as it is."""
        if not isinstance(value, dict):
            return value
        return ClipRef(*self._where, value["record"], tuple(value["media"]))


def _prediction(outcome: Outcome, *, judged: bool) -> dict[str, Any]:
    """A line of ``predictions.jsonl``; "correct" is null where nothing is right or wrong."""
    return {
        "example": outcome.id,
        "clip": _clip(outcome.clip),
        "question": outcome.question,
        "answer": _clip(outcome.options[0].item) if outcome.options else None,
        "gold": _clip(outcome.gold),
        "correct": outcome.correct if judged else None,
        "rank": outcome.rank,
        "group": outcome.group,
        "values": dict(outcome.values),
        "options": [
            dataclasses.asdict(option) | {"item": _clip(option.item)} for option in outcome.options
        ],
        "unreadable": [_clip(clip) for clip in outcome.unreadable],
    }


def _clip(item: Any) -> Any:
    """A clip by its record and media, which the benchmark's split has; all else as it is."""
    if not isinstance(item, ClipRef):
        return item
    return {"record": item.record, "media": list(item.media)}

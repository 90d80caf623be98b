"""Two runs, pair by pair: what both say of the same examples, from their predictions.

Beside the benchmarks' plain means these are the means over classes or subsets, and averages over
benchmarks.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.metrics import CIDER_OF_ONE, mean_over_groups, resampled_interval
from vljepa_jax.evals.results import PREDICTIONS, RESULTS, SUMMARY, read_predictions
from vljepa_jax.json_text import read_json

_RIGHT = "right"  # the share of examples whose first answer is correct
_RESAMPLES = 2000

# An example, and which of its outcomes: one with several captions has several.
Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One measure of a benchmark in two runs, over the examples that both have.

    Attributes:
        benchmark: its name.
        measure: "right", the suffix of a metric whose values examples have ("_cider"), or that of a
            mean over groups ("_r5" of classes, "_macro"), whose pairs count in their groups.
        first, second: means of the two runs, a share in percent; ``None`` where a run has no value,
            and then so are ``difference`` and ``interval``.
        difference: the first's less the second's.
        interval: of the difference, 95 %, by the bootstrap over pairs.
        pairs: examples that both have.
        alone: examples that only the first has, and only the second.
        undefined: why a run has no value; "" where both have one.
    """

    benchmark: str
    measure: str
    first: float | None
    second: float | None
    difference: float | None
    interval: tuple[float, float] | None
    pairs: int
    alone: tuple[int, int]
    undefined: str = ""


def compare(first: Path, second: Path) -> list[Difference]:
    """Compares two directories of reports, benchmark by benchmark.

    Resampling pairs leaves together what the two say of one example, so that the interval is that
    of the difference and not of two runs on different examples.

    Raises:
        EvaluationError: they have no benchmark with predictions in common.
    """
    own, other = _benchmarks(first), _benchmarks(second)
    common = sorted(own.keys() & other.keys())
    if not common:
        raise EvaluationError(
            f"'{first}' and '{second}' have no benchmark in common whose predictions are below "
            f"{RESULTS}/ ({len(own)} and {len(other)} have some): evaluate both with one config"
        )
    return [
        difference for name in common for difference in _differences(name, own[name], other[name])
    ]


def compare_averages(
    title: str, metrics: Sequence[str], first: Path, second: Path
) -> Difference | None:
    """Compares the averages of two runs over benchmarks, by the pairs of each.

    Pairs are drawn anew within each benchmark: the interval is that of these benchmarks.

    Args:
        title: what the average is called.
        metrics: of the benchmarks, each a share of examples that are right: "ssv2_top1".

    Returns:
        ``None`` where not all of them were measured in both, whole.

    Raises:
        EvaluationError: the two have no example of a benchmark in common.
    """
    places = [_of_metrics(run, metrics) for run in (first, second)]
    if any(name not in found for name in metrics for found in places):
        return None
    of_each, alone = [], np.zeros(2, int)
    for name in metrics:
        own, other = (_measured(found[name])[0][_RIGHT] for found in places)
        keys = _common(name, own, other)
        of_each.append(np.array([(own[key], other[key]) for key in keys]))
        alone += len(own) - len(keys), len(other) - len(keys)
    rng = np.random.default_rng(0)
    apart = [pairs[:, 0] - pairs[:, 1] for pairs in of_each]
    drawn = [
        np.mean([own[rng.integers(len(own), size=len(own))].mean() for own in apart])
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    means = np.mean([pairs.mean(axis=0) for pairs in of_each], axis=0)
    return Difference(
        benchmark=title,
        measure="average",
        first=float(means[0]),
        second=float(means[1]),
        difference=float(means[0] - means[1]),
        interval=(float(low), float(high)),
        pairs=sum(map(len, of_each)),
        alone=(int(alone[0]), int(alone[1])),
    )


def _benchmarks(run: Path) -> dict[str, Path]:
    found = (run / RESULTS).rglob(PREDICTIONS)
    return {path.parent.relative_to(run / RESULTS).as_posix(): path for path in found}


def _of_metrics(run: Path, metrics: Sequence[str]) -> dict[str, Path]:
    """Of those metrics whose benchmarks were measured whole, where the predictions are."""
    found: dict[str, Path] = {}
    for path in _benchmarks(run).values():
        summary = _summary(path)
        if not summary or summary["unreadable"]:
            continue
        expected = summary["settings"]["benchmark"]["expected"] or summary["there"]
        if summary["examples"] == expected:
            found |= dict.fromkeys(set(metrics) & summary["metrics"].keys(), path)
    return found


def _summary(predictions: Path) -> dict[str, Any]:
    """What is told beside predictions; nothing where that is not there."""
    path = predictions.with_name(SUMMARY)
    return read_json(path, dict) if path.is_file() else {}


def _differences(name: str, *paths: Path) -> list[Difference]:
    over_groups = _summary(paths[0]).get("over_groups", {})
    (first, groups), (second, _) = (_measured(path, over_groups) for path in paths)
    found = []
    for measure in [m for m in first if m in second]:
        own, other = first[measure], second[measure]
        keys = _common(name, own, other)
        alone = len(own) - len(keys), len(other) - len(keys)
        pairs = np.array([(own[key], other[key]) for key in keys], float)  # NaN for None
        # Without groups all are of one: the plain mean.
        of_each = [groups[key] if measure in over_groups else "" for key in keys]
        everything = np.arange(len(keys))
        means = [mean_over_groups(column, of_each)(everything) for column in pairs.T]
        if np.isnan(means).any():  # of CIDEr alone
            values = (None if np.isnan(mean) else mean for mean in means)
            found.append(
                Difference(name, measure, *values, None, None, len(keys), alone, CIDER_OF_ONE)
            )
            continue
        apart = mean_over_groups(pairs[:, 0] - pairs[:, 1], of_each)
        interval = resampled_interval(len(keys), apart)
        found.append(
            Difference(name, measure, *means, apart(everything), interval, len(keys), alone)
        )
    return found


def _common(
    name: str, own: Mapping[Key, float | None], other: Mapping[Key, float | None]
) -> list[Key]:
    """Examples that both have."""
    if both := [key for key in own if key in other]:
        return both
    raise EvaluationError(f"benchmark '{name}': the two runs have no example in common")


def _measured(
    path: Path, over_groups: Mapping[str, int] = MappingProxyType({})
) -> tuple[dict[str, dict[Key, float | None]], dict[Key, str]]:
    """By measure, the value of each example; and the group of each."""
    found: dict[str, dict[Key, float | None]] = {}
    groups: dict[Key, str] = {}
    seen: Counter[str] = Counter()
    for prediction in read_predictions(path):
        example = prediction["example"]
        key = example, seen[example]
        seen[example] += 1
        values = dict(prediction["values"])
        if prediction["correct"] is not None:
            values[_RIGHT] = 100.0 * prediction["correct"]
        for ending, k in over_groups.items():
            rank = prediction["rank"]
            values[ending] = 100.0 * (rank is not None and rank < k)
            groups[key] = prediction["group"]
        for measure, value in values.items():
            found.setdefault(measure, {})[key] = value
    return found, groups

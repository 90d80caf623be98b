"""Two runs, pair by pair: what both say of the same examples, from their predictions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.metrics import CIDER_OF_ONE, bootstrap_interval
from vljepa_jax.evals.results import PREDICTIONS, RESULTS, read_predictions

_RIGHT = "right"  # the share of examples whose first answer is correct

# An example, and which of its outcomes: one with several captions has several.
Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One measure of a benchmark in two runs, over the examples that both have.

    Attributes:
        benchmark: its name.
        measure: "right", or the suffix of a metric whose values examples have ("_cider").
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


def _benchmarks(run: Path) -> dict[str, Path]:
    found = (run / RESULTS).rglob(PREDICTIONS)
    return {path.parent.relative_to(run / RESULTS).as_posix(): path for path in found}


def _differences(name: str, *paths: Path) -> list[Difference]:
    first, second = map(_measured, paths)
    found = []
    for measure in [m for m in first if m in second]:
        own, other = first[measure], second[measure]
        both = [key for key in own if key in other]
        if not both:
            raise EvaluationError(f"benchmark '{name}': the two runs have no example in common")
        alone = len(own) - len(both), len(other) - len(both)
        pairs = np.array([(own[key], other[key]) for key in both], float)  # NaN for None
        means = [None if np.isnan(mean) else float(mean) for mean in pairs.mean(axis=0)]
        if None in means:  # of CIDEr alone
            found.append(
                Difference(name, measure, *means, None, None, len(both), alone, CIDER_OF_ONE)
            )
            continue
        differences = pairs[:, 0] - pairs[:, 1]
        interval = bootstrap_interval(differences)
        found.append(
            Difference(name, measure, *means, float(differences.mean()), interval, len(both), alone)
        )
    return found


def _measured(path: Path) -> dict[str, dict[Key, float | None]]:
    """By measure, the value of each example."""
    found: dict[str, dict[Key, float | None]] = {}
    seen: Counter[str] = Counter()
    for prediction in read_predictions(path):
        example = prediction["example"]
        key = example, seen[example]
        seen[example] += 1
        values = dict(prediction["values"])
        if prediction["correct"] is not None:
            values[_RIGHT] = 100.0 * prediction["correct"]
        for measure, value in values.items():
            found.setdefault(measure, {})[key] = value
    return found

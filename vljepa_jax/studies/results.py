"""What the runs of a section scored, as figures: a column is the mean of several metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vljepa_jax.config import StudySection
from vljepa_jax.evals.token_space import PER_TOKEN
from vljepa_jax.studies.bootstrap import Figure, estimate, resampled, value_of
from vljepa_jax.studies.runs import StepResult

# Variant -> seed -> the results of its evaluated steps.
Results = Mapping[str, Mapping[int, Sequence[StepResult]]]


def figures(results: Results, variant: str, metrics: Sequence[str]) -> list[Figure]:
    """The figure of a column at each evaluated step."""
    scored = scored_metrics(results, variant, metrics)
    return [_figure(at, scored) for at in zip(*results[variant].values(), strict=True)]


def scored_metrics(results: Results, variant: str, metrics: Sequence[str]) -> list[str]:
    """The metrics that a column of a variant is the mean of.

    A VLM has two scores of every choice, by the sum and by the mean of its tokens' logarithms. The
    one that is better for it after the last step is taken for all of a column's choices.
    """
    last = [run[-1] for run in results[variant].values()]
    per_token = [_per_token(name) for name in metrics]
    if not all(name in result.examples for name in per_token for result in last):
        return list(metrics)
    return max(list(metrics), per_token, key=lambda names: value_of(_figure(last, names)))


def _per_token(metric: str) -> str:
    """world/motion_top5_compositional -> world/motion_top5_per_token_compositional."""
    for ending in ("_top1", "_top5"):
        if ending in metric:
            return metric.replace(ending, ending + PER_TOKEN)
    return metric + PER_TOKEN


def _figure(results: Sequence[StepResult], metrics: Sequence[str]) -> Figure:
    return [[result.examples[name] for result in results] for name in metrics]


def summarise(section: StudySection, results: Results) -> dict[str, Any]:
    """The values of each variant's columns with intervals, and their curves over the steps."""
    variants = {}
    for variant in section.variants:
        runs = list(results[variant.name].values())
        columns = {}
        for column, metrics in section.columns.items():
            at_steps = figures(results, variant.name, metrics)
            ((_, drawn),) = resampled({"": at_steps[-1]}).items()
            columns[column] = estimate(value_of(at_steps[-1]), drawn) | {
                "curve": [_told(value_of(figure)) for figure in at_steps],
                "per_seed": [
                    _told(value_of([[metric[seed]] for metric in at_steps[-1]]))
                    for seed in range(len(runs))
                ],
                "metrics": scored_metrics(results, variant.name, metrics),
                "paper": variant.paper.get(column),
            }
        variants[variant.name] = {
            "label": variant.label,
            "seeds": list(results[variant.name]),
            "steps": [result.step for result in runs[0]],
            "samples": [result.samples for result in runs[0]],
            "columns": columns,
            "metrics": [
                {name: _mean([r.metrics[name] for r in at]) for name in at[0].metrics}
                for at in zip(*runs, strict=True)
            ],
        }
    return {
        "title": section.title,
        "columns": {column: list(metrics) for column, metrics in section.columns.items()},
        "variants": variants,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _told(value: float) -> float | None:
    """As JSON has it, which knows no NaN."""
    return None if np.isnan(value) else value


def units(columns: Sequence[str]) -> dict[str, float]:
    """What a column is multiplied with where it is shown: CIDEr is x 100 already."""
    return {column: 1.0 if column == "cider" else 100.0 for column in columns}

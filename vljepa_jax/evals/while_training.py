"""Benchmarks that a model is given while it trains (``config.evaluations``)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
from jax.experimental import multihost_utils

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.evals.evaluate import Datasets, divide, evaluate, require_scorable
from vljepa_jax.inference.model import Model, require_vljepa


class Evaluator:
    """The evaluations of one run; it is compiled by the first of them, and used by all.

    The parameters are whole on each device while it is at work, beside the divided ones of
    training.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Looks whether all of it can be evaluated, before the run begins.

        Raises:
            ConfigError: the objective trains no VL-JEPA, two benchmarks have one name, or a
                dataset has no examples of one.
            DatasetError: a dataset or the split of a benchmark is not there.
            EvaluationError: an example does not fit its benchmark's protocol, or the frames.
        """
        self._config = config
        require_vljepa(config)
        self._models: dict[int, Model] = {}
        self._plans = []
        names: Counter[str] = Counter()
        for index, plan in enumerate(config.evaluations):
            datasets = Datasets(config.world, plan.num_workers)
            _, skipped = divide(plan.benchmarks, datasets)
            if skipped:
                raise ConfigError(f"evaluations[{index}]: " + "; ".join(skipped.values()))
            require_scorable(plan.benchmarks, datasets, config.video_input)
            names.update(benchmark.name + benchmark.suffix for benchmark in plan.benchmarks)
            self._plans.append((plan, datasets))
        if twice := [name for name, count in names.items() if count > 1]:
            raise ConfigError(f"evaluations: {', '.join(twice)} would be logged twice")

    def due(self, step: int) -> bool:
        """Whether an evaluation follows this step."""
        return any(self._due(plan.every, step) for plan, _ in self._plans)

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """The metrics of the benchmarks that are due after a step, as "eval/NAME".

        All processes call it after the same step; each embeds its share.
        """
        whole = _whole(params)
        metrics = {}
        for index, (plan, datasets) in enumerate(self._plans):
            if self._due(plan.every, step):
                model = self._model(index, plan.batch_size, whole)
                for result in evaluate(model, plan.benchmarks, datasets):
                    for name, metric in result.metrics.items():
                        metrics[f"eval/{name}"] = metric.value
                model.take(None)  # the memory is training's again
        return metrics

    def _due(self, every: int, step: int) -> bool:
        return step % every == 0 or step == self._config.steps

    def _model(self, index: int, batch_size: int, params: Any) -> Model:
        if index in self._models:
            self._models[index].take(params)
        else:
            self._models[index] = Model(self._config, params, batch_size=batch_size)
        return self._models[index]


def _whole(params: Any) -> Any:
    """The parameters where this process can read all of them."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(params)):
        return params
    return multihost_utils.process_allgather(params, tiled=True)

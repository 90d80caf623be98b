"""Benchmarks that a model is given while it trains (``config.evaluations``)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vljepa_jax.config import EVALUATED, ConfigError, TrainConfig, nearest
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import evaluate, require_scorable
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.model import Model, require_vljepa
from vljepa_jax.parallel.sharding import read_whole


class Evaluator:
    """The evaluations of one run, by one model, so that a size of batches is compiled once.

    The parameters are whole on each device while it is at work, beside the divided ones of
    training.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Looks whether all of it can be evaluated, before the run begins.

        Raises:
            ConfigError: the objective trains no VL-JEPA, two benchmarks have one name, a dataset
                has no examples of one, or none gives ``checkpoint.best_metric``.
            DatasetError: a dataset or the split of a benchmark is not there.
            EvaluationError: an example does not fit its benchmark's protocol, or the frames.
        """
        require_vljepa(config)
        self._config = config
        self._model: Model | None = None
        self._plans = []
        names: Counter[str] = Counter()
        for plan in config.evaluations:
            datasets = Datasets(config.world, plan.num_workers)
            require_scorable(plan.benchmarks, datasets, config.video_input)
            side = config.video_input.image_size
            for benchmark in plan.benchmarks:
                frames = benchmark.frames or config.video_input.frames
                config.model.x_encoder.token_grid(frames, side, side)  # raises if it cannot
            names.update(benchmark_name(benchmark) for benchmark in plan.benchmarks)
            self._plans.append((plan, datasets))
        if twice := [name for name, count in names.items() if count > 1]:
            raise ConfigError(f"evaluations: {', '.join(twice)} would be logged twice")
        wanted, given = config.checkpoint.best_metric, self._metric_names()
        if wanted.startswith(EVALUATED) and wanted not in given:
            raise ConfigError(
                f"checkpoint.best_metric: no evaluation gives '{wanted}'{nearest(wanted, given)}; "
                f"they give {', '.join(given)}"
            )

    def due(self, step: int) -> bool:
        """Whether an evaluation follows this step."""
        return any(self._due(plan.every, step) for plan, _ in self._plans)

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """The metrics of the benchmarks that are due after a step, as "eval/NAME".

        All processes call it after the same step; each embeds its share.
        """
        whole = read_whole(params)
        if self._model is None:
            self._model = Model(self._config, whole)
        else:
            self._model.take(whole)
        metrics = {}
        for plan, datasets in self._plans:
            if self._due(plan.every, step):
                self._model.batch_size = plan.batch_size
                for result in evaluate(self._model, plan.benchmarks, datasets):
                    for name, metric in result.metrics.items():
                        if metric.value is not None:  # a curve has no point there
                            metrics[EVALUATED + name] = metric.value
        self._model.take(None)  # the memory is training's again
        return metrics

    def _metric_names(self) -> list[str]:
        benchmarks = (b for plan, _ in self._plans for b in plan.benchmarks)
        return [
            EVALUATED + metric_name(benchmark, ending)
            for benchmark in benchmarks
            for ending in make_protocol(benchmark).suffixes
        ]

    def _due(self, every: int, step: int) -> bool:
        return step % every == 0 or step == self._config.steps

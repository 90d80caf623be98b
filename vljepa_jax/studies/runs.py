"""One variant of a study with one seed: its start, its training, and the results of its steps.

Everything lies in the variant's own folder, and what is there already is not made again: a study
that was killed goes on.

    seed_N/start/         the parameters that it starts from
    seed_N/pretraining/   what is trained before it, where the study has that
    seed_N/checkpoints/   of its training, with config.json and metrics.jsonl
    seed_N/results/STEP.json  metrics, and the score of every example
    y_decoder/            what writes the texts of a VL-JEPA; where the seed draws its Y-Encoder, in
                          seed_N/
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.console

from vljepa_jax.config import (
    SECTION,
    BenchmarkConfig,
    ConfigError,
    Effort,
    StudyConfig,
    StudySection,
    TrainConfig,
    Variant,
    VLMConfig,
    WorldConfig,
    as_dict,
    differences,
)
from vljepa_jax.config.saved import in_present_form
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.published import backbone_directory, convert_checkpoint
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import Result, evaluate
from vljepa_jax.evals.metrics import in_top_k
from vljepa_jax.evals.protocols.base import ranks_of
from vljepa_jax.evals.token_space import PER_TOKEN, evaluate_vlm
from vljepa_jax.inference.load import load
from vljepa_jax.inference.vlm import load_vlm
from vljepa_jax.places import write_text
from vljepa_jax.run_dir import CHANGES_NO_RESULT, load_config, newest
from vljepa_jax.studies.bootstrap import ExampleScores
from vljepa_jax.training.train_loop import train_to_end

_Y_DECODER = "y_decoder"  # a part that a variant's start may name too
_NAMED = 8  # differences that a message lists
_STAGES = ("train", "pretraining", "y_decoder")  # trainings, among the settings of a variant
_CHANGES_NO_RESULT = re.compile(
    rf"({'|'.join(_STAGES)}|pretrained\.\w+)\.({'|'.join(map(re.escape, CHANGES_NO_RESULT))})"
)


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a checkpoint scored.

    Attributes:
        step: of the checkpoint.
        samples: rows that it had been trained on.
        metrics: name -> value; ``None`` where it has none.
        examples: name -> the score of every example.
    """

    step: int
    samples: int
    metrics: dict[str, float | None]
    examples: dict[str, ExampleScores]


def is_vlm(variant: Variant) -> bool:
    return isinstance(variant.train.model, VLMConfig)


def effort_of(section: StudySection, *, quick: bool) -> Effort:
    return section.quick if quick else section.full


def folder_of(workdir: Path, section: StudySection, variant: Variant, seed: int) -> Path:
    return workdir / section.name / variant.name / f"seed_{seed}"


def run_variant(
    study: StudyConfig,
    section: StudySection,
    variant: Variant,
    seed: int,
    effort: Effort,
    workdir: Path,
    console: rich.console.Console,
) -> list[StepResult]:
    """Trains and evaluates a variant, as far as that is not done; its results, by step.

    Raises:
        ConfigError: the folder holds another run's results.
        CheckpointError: the checkpoint of a step is missing; the message names it.
        DatasetError, EvaluationError: see ``evaluate``.
    """
    folder = folder_of(workdir, section, variant, seed)
    settings = _settings(section, variant, effort, seed)
    _check_settings(folder, settings)
    missing = [step for step in effort.evaluated if not _result_file(folder, step).is_file()]
    if missing:
        config = training_config(variant, effort, seed, folder)
        _train(section, variant, config, folder, console)
        decoder = _train_y_decoder(variant, seed, folder, console)
        benchmarks = tuple(
            dataclasses.replace(benchmark, limit=effort.limit or benchmark.limit)
            for benchmark in section.benchmarks
        )
        datasets = Datasets(section.world, study.num_workers, study.data)
        (folder / "results").mkdir(exist_ok=True)
        for step in missing:
            if is_vlm(variant):
                vlm = load_vlm(folder, step=step, batch_size=study.batch_size)
                results = evaluate_vlm(vlm, benchmarks, datasets)
            else:
                model = load(folder, step=step, y_decoder=decoder, batch_size=study.batch_size)
                results = evaluate(model, benchmarks, datasets)
            made = _result(step, step * config.batch_size, results)
            write_text(_result_file(folder, step), json.dumps(made) + "\n")
        jax.clear_caches()  # the programs of this variant serve no other
    return [_read(folder, step) for step in effort.evaluated]


def training_config(variant: Variant, effort: Effort, seed: int, folder: Path) -> TrainConfig:
    """The variant's recipe with the section's seed, steps and checkpoints."""
    config = variant.train
    every = math.gcd(*effort.evaluated)
    return dataclasses.replace(
        config,
        seed=seed,
        steps=effort.steps,
        init_from=_params(folder / ("start" if variant.pretraining is None else "pretraining")),
        # The checkpoints of the evaluated steps are kept, and as many between them.
        checkpoint=dataclasses.replace(config.checkpoint, every=every, keep=1, keep_every=every),
        evaluations=(),
    )


def _params(run: Path) -> str:
    return f"{run}:params"


def _settings(section: StudySection, variant: Variant, effort: Effort, seed: int) -> dict[str, Any]:
    """All that the results of a variant depend on."""
    config = training_config(variant, effort, seed, Path())
    stages = {"pretraining": variant.pretraining, "y_decoder": variant.y_decoder}
    settings = {
        "train": as_dict(dataclasses.replace(config, init_from="")),
        **{name: None if stage is None else as_dict(stage) for name, stage in stages.items()},
        "start": variant.start,
        "pretrained": {part: as_dict(recipe) for part, recipe in section.pretrained.items()},
        "align": variant.align,
        "world": as_dict(section.world),
        "benchmarks": [as_dict(benchmark) for benchmark in section.benchmarks],
        "limit": effort.limit,
    }
    return json.loads(json.dumps(settings))


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    found = differences(_in_present_form(json.loads(path.read_text())), settings)
    if faults := [fault for fault in found if not _CHANGES_NO_RESULT.match(fault)]:
        more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise ConfigError(
            f"'{folder}' was made with other settings (then -> now):\n  "
            + "\n  ".join(faults[:_NAMED])
            + f"{more}\nTake another --workdir, or remove that folder."
        )


def _in_present_form(saved: dict[str, Any]) -> dict[str, Any]:
    """Settings that an earlier version saved, with the fields added since."""

    def stage(config: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if config is None else in_present_form(TrainConfig, config)

    return saved | {
        **{name: stage(saved[name]) for name in _STAGES},
        "pretrained": {part: stage(recipe) for part, recipe in saved["pretrained"].items()},
        "world": in_present_form(WorldConfig, saved["world"]),
        "benchmarks": [in_present_form(BenchmarkConfig, each) for each in saved["benchmarks"]],
    }


def _train(
    section: StudySection,
    variant: Variant,
    config: TrainConfig,
    folder: Path,
    console: rich.console.Console,
) -> None:
    start = folder / "start"
    if newest(start) is None:
        directories = {
            part: _pretrained(section, part, folder.parents[1], console)
            if path == SECTION
            else backbone_directory(part, path)
            for part, path in variant.start.items()
            if part != _Y_DECODER
        }
        convert_checkpoint(config, directories, start, console, align=variant.align)
    if variant.pretraining is not None:
        earlier = dataclasses.replace(
            variant.pretraining, seed=config.seed, init_from=_params(start), evaluations=()
        )
        train_to_end(earlier, folder / "pretraining")
    train_to_end(config, folder)


def _pretrained(
    section: StudySection, part: str, folder: Path, console: rich.console.Console
) -> Path:
    """The directory of a part that the section pretrains, once for all of its variants."""
    run, exported = folder / f"pretrained_{part}", folder / f"exported_{part}"
    train_to_end(section.pretrained[part], run)
    if not (exported / "config.json").is_file():  # which is written last
        shutil.rmtree(exported, ignore_errors=True)
        export_checkpoint(run, exported, console)
    return exported / part


def y_decoder_of(variant: Variant, folder: Path) -> Path:
    """Where the Y-Decoder of a variant's run lies: one serves all seeds where none of them draws
    the Y-Encoder and its head at random."""
    shared = variant.align and "y_encoder" in variant.start
    return (folder.parent if shared else folder) / _Y_DECODER


def _train_y_decoder(
    variant: Variant, seed: int, folder: Path, console: rich.console.Console
) -> Path | None:
    """Trains what inverts the frozen Y-Encoder of the start, from texts alone."""
    if variant.y_decoder is None:
        return None
    decoder = y_decoder_of(variant, folder)
    if newest(decoder) is not None:  # it goes on from what it began with
        config = load_config(decoder)
    else:
        start = decoder.with_name("y_decoder_start")
        config = dataclasses.replace(
            variant.y_decoder,
            seed=seed,
            init_from=f"{folder / 'start'}:y_encoder,{start}:y_decoder",
        )
        if newest(start) is None:
            given = {part: path for part, path in variant.start.items() if part == _Y_DECODER}
            directories = {part: backbone_directory(part, path) for part, path in given.items()}
            convert_checkpoint(config, directories, start, console)
    train_to_end(config, decoder)
    return decoder


# ---------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------
def _result_file(folder: Path, step: int) -> Path:
    return folder / "results" / f"{step}.json"


def _result(step: int, samples: int, results: Sequence[Result]) -> dict[str, Any]:
    metrics, examples = {}, {}
    for result in results:
        # A caption of a retrieval has no clip: it is its own.
        records = [o.clip.record if o.clip else -1 - i for i, o in enumerate(result.outcomes)]
        for name, metric in result.metrics.items():
            metrics[name] = metric.value
            examples[name] = {
                "split": f"{result.benchmark.path}:{result.benchmark.split}",
                "records": records,
                "scores": _example_scores(result, name),
            }
    return {"step": step, "samples": samples, "metrics": metrics, "examples": examples}


def _example_scores(result: Result, metric: str) -> list[float | None]:
    """What each example adds to a metric, which is the mean of these."""
    benchmark = result.benchmark
    ending = metric.removeprefix(benchmark.name).removesuffix(benchmark.suffix)
    if at := re.fullmatch(rf"_(?:top|r)(\d+)(?:{PER_TOKEN})?", ending):
        return in_top_k(ranks_of(result.outcomes), int(at[1])).astype(float).tolist()
    return [outcome.values[ending] for outcome in result.outcomes]


def _read(folder: Path, step: int) -> StepResult:
    saved = json.loads(_result_file(folder, step).read_text())
    examples = {
        name: ExampleScores(of["split"], np.array(of["records"]), np.array(of["scores"], float))
        for name, of in saved["examples"].items()
    }
    return StepResult(saved["step"], saved["samples"], saved["metrics"], examples)

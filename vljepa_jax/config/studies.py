"""The settings of a study: several trainings, evaluated alike, and what is made of the results."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vljepa_jax.config.parsing import ConfigError
from vljepa_jax.config.training import BenchmarkConfig, TrainConfig, WorldConfig

SECTION = "@section"  # in the place of a directory: what the variant's section pretrains


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much of a section is run."""

    seeds: tuple[int, ...]  # each is a training of its own
    steps: int
    evaluated: tuple[int, ...]  # steps whose checkpoints are evaluated, ascending; last, ``steps``
    limit: int  # first n examples of every benchmark, 0 for all

    def __post_init__(self) -> None:
        ascending = tuple(sorted(set(self.evaluated))) == self.evaluated
        if not self.seeds or not self.evaluated or not ascending:
            raise ConfigError(
                "config: a section needs seeds, and steps in ascending order in 'evaluated'"
            )
        if self.evaluated[0] < 1 or self.evaluated[-1] != self.steps:
            raise ConfigError(
                f"config: evaluated = {self.evaluated} must end with steps = {self.steps}"
            )


@dataclasses.dataclass(frozen=True)
class Variant:
    """One recipe of a section; seed, steps, checkpoints and the start are the section's to set."""

    name: str  # of its folder
    label: str  # in tables and figures
    pretraining: TrainConfig | None  # of the start, before ``train``; None: there is none
    train: TrainConfig  # its objective is "vljepa" or "vlm"
    # Part -> directory of its weights, "@bundled", or "@section" for what the section pretrains;
    # parts that are not named, of the model and of the Y-Decoder, start at random.
    start: dict[str, str]
    align: bool  # heads start in closed form (launch/convert.py --align)
    # Trained beside it on the embeddings of its Y-Encoder, which is frozen then; None: no captions
    y_decoder: TrainConfig | None
    paper: dict[str, float]  # column -> the paper's figure, where it has this row


@dataclasses.dataclass(frozen=True)
class StudySection:
    """Trainings that are compared with each other."""

    name: str  # for --only
    title: str
    pretrained: dict[str, TrainConfig]  # part -> recipe of a run that gives it, "@section"
    variants: tuple[Variant, ...]
    world: WorldConfig  # of the evaluation
    benchmarks: tuple[BenchmarkConfig, ...]
    columns: dict[str, tuple[str, ...]]  # column of the table -> metrics, of which it is the mean
    same_data: bool  # variants that differ in more than model, loss and rates are refused
    full: Effort
    quick: Effort  # with --quick

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names) or not names:
            raise ConfigError(f"config: section '{self.name}' needs variants of different names")
        for variant in self.variants:
            for part, path in variant.start.items():
                if path == SECTION and part not in self.pretrained:
                    raise ConfigError(
                        f"config: variant '{variant.name}' starts {part} from {SECTION}, but "
                        f"section '{self.name}' pretrains none"
                    )


@dataclasses.dataclass(frozen=True)
class LatencyConfig:
    """Repeats of the latency of one clip, with --quick and without."""

    repeats: int
    quick_repeats: int


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """The config of ``launch/compare.py``."""

    report: Literal["comparison", "table"]
    sections: tuple[StudySection, ...]
    data: str  # the folder of the datasets of benchmarks on "@data/NAME"; "" where there are none
    batch_size: int  # clips and texts evaluated at once
    num_workers: int  # decoding processes of evaluation; 0 decodes in this one
    latency: LatencyConfig | None  # None: not measured

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        if len(set(names)) < len(names) or not names:
            raise ConfigError("config: a study needs sections of different names")

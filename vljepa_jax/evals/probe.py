"""Scores a probe: for each kind of question, how many are answered correctly, and by chance.

The X-Encoder passes over each clip once, whatever number of questions is asked about it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from rich.progress import Progress
from rich.text import Text

from vljepa_jax import terminal
from vljepa_jax.config import ConfigError, TrainConfig, as_dict
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.records import Annotation, ClipError
from vljepa_jax.data.rows import QuestionRows, label_set
from vljepa_jax.data.token_cache import ClipKey
from vljepa_jax.data.workers import decode_media, in_batches
from vljepa_jax.evals import metrics, page, report
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.models.placement import everywhere, on_rows, over_rows, pad_rows, padded_rows
from vljepa_jax.models.probe import Probe
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.parallel.processes import first_process, gather, require_same, share
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.run_dir import load_config, load_params, newest, read_metrics, read_summary

_BATCH = 32  # clips encoded, and rows of questions answered, at a time, at least


@dataclasses.dataclass(frozen=True)
class Score:
    """Attributes: the metric, and how many of its clips could not be read (counted as wrong)."""

    metric: Metric
    path: str
    split: str
    unreadable: int


def with_x_encoder(config: TrainConfig, source: TrainConfig, start: Path, kind: str) -> TrainConfig:
    """The config of one probe of a run's X-Encoder.

    Args:
        config: the recipe; its sizes of the X-Encoder are not read.
        source: config of the run whose X-Encoder is probed.
        start: directory of that run.
        kind: "attentive", or "linear", which takes the recipe's pooler away.

    Raises:
        ConfigError: the recipe trains no attentive probe.
    """
    if config.objective != "probe" or config.model.pooler is None:
        raise ConfigError("--config: must be a recipe of an attentive probe, see configs/probe.py")
    model = dataclasses.replace(
        config.model,
        x_encoder=source.model.x_encoder,
        pooler=config.model.pooler if kind == "attentive" else None,
    )
    return dataclasses.replace(config, model=model, init_from=f"{start}:x_encoder")


def score_probe(run_dir: Path, splits: Sequence[str]) -> dict[str, Score]:
    """Scores the newest parameters of a probe on the splits of its training sources.

    A question is asked if training could have asked one like it: of the sources' tasks and tags,
    with an answer in one of the label sets. Its kind is its tag "kind", or else its label set.
    Chance is the better of a uniform guess and of always giving the most frequent answer. Several
    processes take a share of the clips each; all of them get all scores.

    Returns:
        "motion_top1" for split "test", "motion_top1_compositional" for "test_compositional", ...

    Raises:
        CheckpointError: ``run_dir`` holds no trained run.
        ConfigError: no split has a question of this sort.
    """
    require_same(f"newest checkpoint of '{run_dir}'", str(newest(run_dir)))
    config, params = load_params(run_dir)
    answer = _Answers(config, params)
    scores: dict[str, Score] = {}
    for source in config.data.sources:
        dataset = find_dataset(source.path, config.world)
        for split in splits:
            if split not in dataset.splits:
                continue
            questions: dict[ClipKey, list[Annotation]] = defaultdict(list)
            for record, annotation in dataset.annotations(split):
                if (
                    annotation.inputs
                    and source.task_weight(annotation.task) > 0
                    and all(annotation.tags.get(k) == v for k, v in source.tags.items())
                    and answer.rows.usable(annotation)
                ):
                    questions[record, annotation.inputs].append(annotation)
            own = dict(share(list(questions.items())))
            media, data = dataset.media(split), config.data
            decoded = decode_media(media, list(own), config.video_input, data.num_workers)
            parts = gather(answer(own, decoded))
            asked = [annotation for part, _, _ in parts for annotation in part]
            given = [label for _, part, _ in parts for label in part]
            unreadable = sum(part for _, _, part in parts)
            ending = "_top1" + split.removeprefix("test")
            for kind in sorted({_kind(annotation) for annotation in asked}):
                chosen = [i for i, a in enumerate(asked) if _kind(a) == kind]
                scores[kind + ending] = Score(
                    _accuracy([asked[i] for i in chosen], [given[i] for i in chosen], config.model),
                    source.path,
                    split,
                    unreadable,
                )
    if not scores:
        raise ConfigError(f"no split of {', '.join(splits)} has a question that the probe answers")
    return scores


def _kind(annotation: Annotation) -> str:
    return annotation.tags.get("kind") or label_set(annotation)


def _accuracy(asked: Sequence[Annotation], given: Sequence[int | None], model: Any) -> Metric:
    candidates = [range(model.label_sets[label_set(annotation)]) for annotation in asked]
    gold = [annotation.gold for annotation in asked]
    correct = [answer == annotation.gold for annotation, answer in zip(asked, given, strict=True)]
    return metrics.proportion(correct, metrics.choice_chance(candidates, gold))


class _Answers:
    """Answers questions about clips; ``rows`` says which annotations are such questions."""

    def __init__(self, config: TrainConfig, params: Any):
        self.rows = QuestionRows(config)
        self._count = config.data.text.per_clip
        x_encoder, probe = make_video_encoder(config.model), Probe(config.model)
        mesh = self._mesh = local_mesh()
        self._rows = padded_rows(_BATCH, mesh)
        self._params = jax.device_put(params, everywhere(mesh))

        def encode(params: Any, video: Any) -> Any:
            return x_encoder.apply({"params": params["x_encoder"]}, video)

        def answer(params: Any, given: tuple[Any, Any, Mapping[str, Any]]) -> Any:
            tokens, rows, arrays = given
            logits = probe.apply({"params": params}, arrays | {"visual_tokens": tokens[rows]})
            return jnp.argmax(logits, axis=-1)

        self._encode, self._answer = over_rows(encode, mesh), over_rows(answer, mesh)
        names = sorted(config.model.label_sets)
        sizes = [config.model.label_sets[name] for name in names]
        self._first = dict(zip(names, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))

    def __call__(
        self, questions: Mapping[ClipKey, Sequence[Annotation]], decoded: Any
    ) -> tuple[list[Annotation], list[int | None], int]:
        """The questions, the answers (``None`` where a clip cannot be read), and such clips."""
        asked: list[Annotation] = []
        given: list[int | None] = []
        unreadable = 0
        clips = zip(questions.values(), decoded, strict=True)
        with Progress(transient=True, disable=not first_process()) as progress:
            answered = in_batches(self._answer_batch, clips, self._rows)
            for part, labels in progress.track(
                answered, total=len(questions), description="Answering questions"
            ):
                if isinstance(labels, ClipError):
                    unreadable += 1
                    labels = [None] * len(part)
                asked += part
                given += labels
        return asked, given, unreadable

    def _answer_batch(
        self, questions: Sequence[Sequence[Annotation]], videos: np.ndarray
    ) -> list[list[int]]:
        """The label given to each question of each clip."""
        tokens = self._encode(self._params, on_rows(pad_rows(videos, self._rows), self._mesh))
        groups = [
            (row, tuple(asked[start : start + self._count]))
            for row, asked in enumerate(questions)
            for start in range(0, len(asked), self._count)
        ]
        labels: list[list[int]] = [[] for _ in questions]
        for start in range(0, len(groups), self._rows):
            part = groups[start : start + self._rows]
            arrays = self.rows.arrays([content for _, content in part])
            arrays = {name: pad_rows(array, self._rows) for name, array in arrays.items()}
            rows = pad_rows(np.array([row for row, _ in part]), self._rows)
            asking = on_rows((tokens, rows, arrays), self._mesh)
            answers = np.asarray(self._answer(self._params, asking))
            for given, (row, content) in zip(answers, part, strict=False):  # then padding
                for answer, annotation in zip(given, content, strict=False):
                    labels[row].append(int(answer) - self._first[label_set(annotation)])
        return labels


# ---------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------
def write_probe_report(
    output: Path, probes: Mapping[str, Path], splits: Sequence[str], source: str
) -> None:
    """Scores several probes of one X-Encoder, prints the table, writes report.json and .html.

    All processes of a job answer questions, and the first alone writes and speaks.

    Args:
        output: directory of the report.
        probes: name -> run directory, e.g. "attentive".
        splits: those that the dataset has are scored.
        source: what was probed, for people.
    """
    measured: dict[str, Any] = {}
    for name, run_dir in probes.items():
        for ending, score in score_probe(run_dir, splits).items():
            measured[f"probe/{name}/{ending}"] = {
                **dataclasses.asdict(score.metric),
                "interval": list(score.metric.interval),
                "protocol": f"{name} probe",
                "path": score.path,
                "split": score.split,
                "suffix": score.split.removeprefix("test"),  # as its ending has it
                "unreadable": score.unreadable,
            }
    if not first_process():
        return
    first = next(iter(probes.values()))
    config = load_config(first)
    made = {
        "metrics": measured,
        "train": read_summary(first),
        "config": {
            "train": as_dict(config),
            "evaluation": {"probed": source, "probes": list(probes), "splits": list(splits)},
        },
        "environment": report.environment(),
    }
    sections = page.sections(made, read_metrics(first), [], {})
    report.write_report(output, made, f"Probes of {source}", sections)
    console = terminal.PlainConsole()
    console.print(_table(measured))
    console.print(f"report: {output / 'report.html'}", highlight=False)


def _table(measured: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    for column in ("accuracy %", "chance %", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for name, metric in measured.items():
        value = page.percent(metric["value"])
        table.add_row(
            name,
            Text(value, "bold") if page.above_chance(metric) else value,
            page.percent(metric["chance"]),
            " to ".join(page.percent(end) for end in metric["interval"]),
            str(metric["n"]),
        )
    return table

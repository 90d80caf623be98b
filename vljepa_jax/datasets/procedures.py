"""Instructional videos: COIN and CrossTask, each as steps, as tasks, and COIN as next steps.

Both say which task a video shows and when each of its steps is done. Two steps of different tasks
may have the same words: labels are different texts, for no model could tell equal ones apart.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import (
    Adapter,
    Official,
    OfficialFile,
    Split,
    camel_words,
    distinct_labels,
    label_key,
    manifest_row,
)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that is done from ``start`` to ``end``, in seconds; ``tags`` has its official id."""

    text: str
    start: float
    end: float
    tags: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Procedure:
    """A video that shows a task.

    Attributes:
        id: of the video, unique in the dataset.
        task: which one, in words.
        fields: of the media patterns.
        start, end: seconds of the part that shows the task; ``None`` is the whole video.
        steps: in order of time.
    """

    id: str
    task: str
    fields: Mapping[str, str | int]
    start: float | None
    end: float | None
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """How a dataset is read: its videos of a split, and the words of all tasks and of all steps."""

    procedures: Callable[[Official], Iterator[Procedure]]
    tasks: Callable[[Official], Iterable[str]]
    steps: Callable[[Official], Iterable[str]]

    def step_rows(self, official: Official) -> Iterator[ManifestRow]:
        """One row a step: its span, and its words among all steps."""
        for procedure, index, name in self._with_labels(official, self.steps):
            for number, step in enumerate(procedure.steps):
                yield _step_row(
                    official, procedure, number, step, name, index[label_key(step.text)]
                )

    def next_step_rows(self, official: Official) -> Iterator[ManifestRow]:
        """One row a step but for the last of a video: its span, and the words of the next step."""
        for procedure, index, name in self._with_labels(official, self.steps):
            for number, following in enumerate(procedure.steps[1:]):
                step = procedure.steps[number]
                gold = index[label_key(following.text)]
                yield _step_row(official, procedure, number, step, name, gold)

    def task_rows(self, official: Official) -> Iterator[ManifestRow]:
        """One row a video: the part that shows the task, and its words among all tasks."""
        for procedure, index, name in self._with_labels(official, self.tasks):
            media = official.medium(start=procedure.start, end=procedure.end, **procedure.fields)
            gold = index[label_key(procedure.task)]
            yield manifest_row(procedure.id, media=[media], labels=name, gold=gold)

    def step_labels(self, official: Official) -> dict[str, tuple[Label, ...]]:
        return {_label_set(official): distinct_labels(self.steps(official))[0]}

    def task_labels(self, official: Official) -> dict[str, tuple[Label, ...]]:
        return {_label_set(official): distinct_labels(self.tasks(official))[0]}

    def _with_labels(
        self, official: Official, texts: Callable[[Official], Iterable[str]]
    ) -> Iterator[tuple[Procedure, dict[str, int], str]]:
        _, index = distinct_labels(texts(official))
        for procedure in self.procedures(official):
            yield procedure, index, _label_set(official)


def _label_set(official: Official) -> str:
    (name,) = official.adapter.label_counts
    return name


def _step_row(
    official: Official, procedure: Procedure, number: int, step: Step, labels: str, gold: int
) -> ManifestRow:
    return manifest_row(
        f"{procedure.id}/{number}",
        media=[official.medium(start=step.start, end=step.end, **procedure.fields)],
        labels=labels,
        gold=gold,
        tags={"task": procedure.task, **step.tags},
    )


# ---------------------------------------------------------------------------------------------
# COIN
# ---------------------------------------------------------------------------------------------
_COIN_SUBSETS = {"training": ("training",), "testing": ("testing", "validation")}


def _coin(official: Official) -> Iterator[Procedure]:
    for video, record in official.json("annotations")["database"].items():
        if record["subset"] not in _COIN_SUBSETS[official.split]:
            continue
        steps = [
            Step(entry["label"], *map(float, entry["segment"]), {"step": entry["id"]})
            for entry in record["annotation"]
        ]
        yield Procedure(
            id=video,
            task=camel_words(record["class"]),
            fields={"video": video, "recipe": record["recipe_type"]},
            start=record["start"],
            end=record["end"],
            steps=tuple(sorted(steps, key=lambda step: step.start)),
        )


def _coin_tasks(official: Official) -> list[str]:
    database = official.json("annotations")["database"]
    tasks = {int(record["recipe_type"]): record["class"] for record in database.values()}
    return [camel_words(tasks[number]) for number in sorted(tasks)]


def _coin_steps(official: Official) -> list[str]:
    database = official.json("annotations")["database"]
    steps = {
        int(entry["id"]): entry["label"]
        for record in database.values()
        for entry in record["annotation"]
    }
    return [steps[number] for number in sorted(steps)]


_COIN = Source(_coin, _coin_tasks, _coin_steps)
_COIN_NOTES = (
    "The subset of the test videos is 'testing' in what others read and 'validation' in the"
    " official description: both are read as testing.",
    "Labels are those of all videos; VideoLLM-online takes those of the split alone.",
)
_COIN_STEP_NOTES = (
    *_COIN_NOTES,
    "778 steps have 749 different texts ('take out the shell' belongs to four tasks): right is what"
    " says the same, as where others compare strings.",
)

COIN_STEP = Adapter(
    name="coin_step",
    title="COIN, step recognition",
    citation="Tang et al., CVPR 2019 (arXiv 1903.02874)",
    licence="research only",
    home="https://coin-dataset.github.io",
    task="classification",
    files=(OfficialFile("annotations", ("COIN.json",), "github.com/coin-dataset/annotations"),),
    media=("videos/{video}.mp4", "videos/{video}.*", "videos/{recipe}/{video}.*", "{video}.mp4"),
    splits=(Split("training", media=9_030), Split("testing", media=2_797)),
    known_from="a record in its description, and its taxonomy; the file itself was not seen",
    read=_COIN.step_rows,
    read_labels=_COIN.step_labels,
    label_counts={"coin_steps": 749},
    notes=_COIN_STEP_NOTES,
)

COIN_NEXT_STEP = dataclasses.replace(
    COIN_STEP,
    name="coin_next_step",
    title="COIN, next step",
    splits=(Split("training"), Split("testing")),
    read=_COIN.next_step_rows,
    notes=(*_COIN_STEP_NOTES, "What is shown is step i alone, what is asked for step i + 1."),
)

COIN_TASK = dataclasses.replace(
    COIN_STEP,
    name="coin_task",
    title="COIN, task recognition",
    splits=(Split("training", 9_030, 9_030), Split("testing", 2_797, 2_797)),
    read=_COIN.task_rows,
    read_labels=_COIN.task_labels,
    label_counts={"coin_tasks": 180},
    notes=(
        *_COIN_NOTES,
        "The text of a task is its name in words: ReplaceSIMCard, replace SIM card.",
    ),
)


# ---------------------------------------------------------------------------------------------
# CrossTask
# ---------------------------------------------------------------------------------------------
def _crosstask_tasks(official: Official) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Title and steps of each primary task, by its id."""
    lines = official.path("tasks").read_text(encoding="utf-8-sig").rstrip().splitlines()
    tasks = {}
    # Blocks of six lines: id, title, address, number of steps, steps between commas, none.
    for place in range(0, len(lines), 6):
        task, title, _, count, steps = (line.strip() for line in lines[place : place + 5])
        tasks[task] = title, tuple(step.strip() for step in steps.split(","))
        if len(tasks[task][1]) != int(count):
            raise ValueError(f"task {task} has {len(tasks[task][1])} steps, not {count}")
    return tasks


def _crosstask(official: Official) -> Iterator[Procedure]:
    tasks = _crosstask_tasks(official)
    folder = official.path("annotations")
    for task, video, path in _crosstask_videos(official, folder):
        if task not in tasks:
            continue
        title, texts = tasks[task]
        with open(path, encoding="utf-8-sig", newline="") as file:
            steps = [
                Step(texts[int(number) - 1], float(start), float(end), {"step": number})
                for number, start, end in csv.reader(file)
            ]
        yield Procedure(
            id=f"{task}_{video}",
            task=title,
            fields={"video": video, "task": task},
            start=None,
            end=None,
            steps=tuple(sorted(steps, key=lambda step: step.start)),
        )


def _crosstask_videos(official: Official, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(task, video, file of its steps): of a list, or of all files."""
    if official.split == "val":
        for line in official.lines("videos"):
            task, video = line.split(",")[:2]
            yield task, video, folder / f"{task}_{video}.csv"
    else:
        for path in sorted(folder.glob("*.csv")):
            task, video = path.stem.split("_", 1)  # a video's id may have underscores, too
            yield task, video, path


_CROSSTASK = Source(
    _crosstask,
    lambda official: [title for title, _ in _crosstask_tasks(official).values()],
    lambda official: [step for _, steps in _crosstask_tasks(official).values() for step in steps],
)
_CROSSTASK_NOTES = (
    "The official code draws its test videos at random: 'all' has every annotated video, 'val'"
    " those of videos_val.csv. Which the paper took is not known.",
    "Steps count from 1. Only the 18 primary tasks have annotated steps.",
)

CROSSTASK_STEP = Adapter(
    name="crosstask_step",
    title="CrossTask, step recognition",
    citation="Zhukov et al., CVPR 2019 (arXiv 1903.08225)",
    licence="none seen",
    home="https://github.com/DmZhukov/CrossTask",
    task="classification",
    files=(
        OfficialFile(
            "tasks",
            ("crosstask_release/tasks_primary.txt", "tasks_primary.txt"),
            "its home (crosstask_release.zip)",
        ),
        OfficialFile(
            "annotations",
            ("crosstask_release/annotations", "annotations"),
            "its home (crosstask_release.zip)",
        ),
        OfficialFile(
            "videos",
            ("crosstask_release/videos_val.csv", "videos_val.csv"),
            "its home (crosstask_release.zip)",
            ("val",),
        ),
    ),
    media=("videos/{video}.mp4", "videos/{video}.*", "videos/{task}/{video}.*", "{video}.mp4"),
    splits=(Split("all", media=2_750), Split("val")),
    known_from="the official code that reads it; the files were not seen",
    read=_CROSSTASK.step_rows,
    read_labels=_CROSSTASK.step_labels,
    label_counts={"crosstask_steps": None},
    notes=(
        *_CROSSTASK_NOTES,
        "The 133 steps of the tasks are counted by their different texts.",
    ),
)

CROSSTASK_TASK = dataclasses.replace(
    CROSSTASK_STEP,
    name="crosstask_task",
    title="CrossTask, task recognition",
    splits=(Split("all", 2_750, 2_750), Split("val")),
    read=_CROSSTASK.task_rows,
    read_labels=_CROSSTASK.task_labels,
    label_counts={"crosstask_tasks": 18},
    notes=_CROSSTASK_NOTES,
)

"""One source of the mixture: the records, and of these the annotations, that a run learns from."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vljepa_jax.config import ConfigError, SourceConfig, TrainConfig, nearest
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.mixture import MixedSource
from vljepa_jax.data.records import Annotation
from vljepa_jax.data.rows import Rows
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.token_cache import ClipKey

_Question = tuple[str, str]  # (task, query)


class TrainSource:
    """The records that hold an annotation of a source's tasks.

    With tags, or balanced, all annotations are read once, and the records held, 4 bytes each, or of
    a balanced source all answers; without, opening costs a few numbers a part, and so does sending
    it to a process.
    """

    def __init__(self, config: SourceConfig, dataset: Dataset, rows: Rows, field: str):
        rows.check(dataset, f"{field}.path")
        self.dataset = dataset
        self.media = dataset.media(config.split)
        self.annotations = dataset.annotations(config.split)
        present = self.annotations.tasks(trainable=rows.trainable)
        split = f"split '{config.split}' of {dataset.directory}"
        if not present:
            raise ConfigError(
                f"{field}: {split} has no training example, which is a clip with a text, or with "
                "candidates of which one is correct"
            )
        for task, weight in config.tasks.items():
            if weight > 0 and task not in present:
                raise ConfigError(
                    f"{field}.tasks: {split} has no training examples of task "
                    f"'{task}'{nearest(task, present)}; it has {', '.join(present)}. Weight 0 "
                    "leaves a task out, and {} takes all that there are"
                )
        weights = {task: config.task_weight(task) for task in present}
        self.tasks = {task: weight for task, weight in weights.items() if weight > 0}
        self.records = self.annotations.records(self.tasks, trainable=rows.trainable)
        if not len(self.records):
            raise ConfigError(f"{field}.tasks: name at least one task with a weight above 0")
        self._tags, self._rows = config.tags, rows
        self._weight, self._limit = config.weight, config.limit
        self._answered: dict[_Question, list[list[tuple[int, int]]]] = {}
        if config.tags or rows.name:  # what no table holds: all annotations are read once here
            chosen = (record for record, annotation in self.annotations if self._takes(annotation))
            self.records = np.unique(np.fromiter(chosen, np.min_scalar_type(len(self.media))))
            if not len(self.records):
                raise ConfigError(
                    f"{field}.tags: no training example has {dict(config.tags)}"
                    + (f" and is of {rows.name}" if rows.name else "")
                )
        if config.balanced:
            self._answered = self._by_answer()

    @property
    def mixed(self) -> MixedSource:
        """The source as the mixture sees it."""
        return MixedSource(len(self.records), self._weight, self._limit)

    @property
    def clips_name(self) -> str:
        """Names the choice of the split's clips: the tasks, the tags and what the rows take."""
        tags = [f"{tag}={value}" for tag, value in sorted(self._tags.items())]
        names = [*sorted(self.tasks), *tags, self._rows.name]
        return "-".join(filter(None, names))

    def clips(self) -> Iterator[ClipKey]:
        """The distinct clips of the training examples, in the order of the records."""
        for index in map(int, self.records):
            inputs = {annotation.inputs for annotation in self.usable(index)}
            yield from ((index, media) for media in sorted(inputs))

    def _by_answer(self) -> dict[_Question, list[list[tuple[int, int]]]]:
        """Question -> of each answer to it who has it: (record, which of its annotations)."""
        found: dict[_Question, dict[str, list[tuple[int, int]]]] = {}
        for record in map(int, self.records):
            for index, annotation in enumerate(self.usable(record)):
                if annotation.gold is not None and annotation.candidates:
                    answers = found.setdefault((annotation.task, annotation.query), {})
                    answer = self.dataset.answer(annotation)[0]
                    answers.setdefault(answer, []).append((record, index))
        return {question: list(answers.values()) for question, answers in found.items()}

    def draw(self, record: int, rng: np.random.Generator) -> tuple[int, list[Annotation]]:
        """A record to take the place of this one, and what of it may be asked.

        Where the source is balanced: a question is drawn of this record, an answer among those that
        the question has, and a record that has it. Else, or where the question has no answer to
        choose, this record.
        """
        annotations = self.usable(record)
        if not self._answered:
            return record, annotations
        annotation = self.choose(annotations, rng)
        answers = self._answered.get((annotation.task, annotation.query))
        if answers is None or not annotation.candidates:
            return record, [annotation]
        having = answers[rng.integers(len(answers))]
        record, index = having[rng.integers(len(having))]
        return record, [self.usable(record)[index]]

    def drawn(self, records: Iterable[int]) -> Iterator[tuple[Annotation, float]]:
        """Annotations, and how often each is drawn where each of the records comes once."""
        asked: dict[_Question, float] = collections.defaultdict(float)
        for record in records:
            for annotation, chance in self.chances(self.usable(record)):
                question = annotation.task, annotation.query
                if annotation.candidates and question in self._answered:
                    asked[question] += chance
                else:
                    yield annotation, chance
        for question, times in asked.items():
            answers = self._answered[question]
            for having in answers:
                for record, index in having:
                    yield self.usable(record)[index], times / len(answers) / len(having)

    def usable(self, record: int) -> list[Annotation]:
        """The training examples of a record that this source asks for."""
        return list(filter(self._takes, self.annotations.of(record)))

    def _takes(self, annotation: Annotation) -> bool:
        return (
            (annotation.trainable or not self._rows.trainable)
            and annotation.task in self.tasks
            and all(annotation.tags.get(tag) == value for tag, value in self._tags.items())
            and self._rows.usable(annotation)
        )

    def choose(self, annotations: Sequence[Annotation], rng: np.random.Generator) -> Annotation:
        """Draws a task among those of the annotations, then one of its annotations."""
        groups, chances = self._tasks_of(annotations)
        group = groups[rng.choice(len(groups), p=chances)]
        return group[rng.integers(len(group))]

    def chances(self, annotations: Sequence[Annotation]) -> Iterator[tuple[Annotation, float]]:
        """Each of the annotations, with the chance that ``choose`` draws it."""
        for group, chance in zip(*self._tasks_of(annotations), strict=True):
            yield from ((annotation, chance / len(group)) for annotation in group)

    def _tasks_of(
        self, annotations: Sequence[Annotation]
    ) -> tuple[list[list[Annotation]], np.ndarray]:
        """The annotations by task, in the order of the tasks' names, and each task's chance."""
        groups: dict[str, list[Annotation]] = {}
        for annotation in annotations:
            groups.setdefault(annotation.task, []).append(annotation)
        names = sorted(groups)
        weights = np.array([self.tasks[name] for name in names])
        return [groups[name] for name in names], weights / weights.sum()


def open_sources(config: TrainConfig, rows: Rows) -> list[TrainSource]:
    """Opens the sources of a run.

    Raises:
        ConfigError: there is none, or one has a wrong weight or limit, no training examples, or
            none of a task or a tag that it names.
        DatasetError: one is no dataset, or has no such split.
    """
    if not config.data.sources:
        raise ConfigError("data.sources: name at least one source")
    sources = []
    for index, source in enumerate(config.data.sources):
        if source.weight <= 0:
            raise ConfigError(f"data.sources[{index}].weight: must be above 0")
        if source.limit < 0 or source.max_epochs < 0:
            raise ConfigError(f"data.sources[{index}]: limit and max_epochs are at least 0")
        if source.limit and source.balanced:
            raise ConfigError(
                f"data.sources[{index}].balanced: draws among all records, of which limit leaves "
                f"{source.limit}; set one of the two"
            )
        dataset = find_dataset(source.path, config.world)
        sources.append(TrainSource(source, dataset, rows, f"data.sources[{index}]"))
    return sources

"""Examples of a benchmark: annotations of a dataset, resolved to clips, queries and candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vljepa_jax.config import BenchmarkConfig, ConfigError
from vljepa_jax.data.records import Annotation


@dataclasses.dataclass(frozen=True, slots=True)
class ClipRef:
    """One X_V: media of a record, in order.

    Attributes:
        path, split: the dataset.
        record: index in the split.
        media: indices into the record's media.
    """

    path: str
    split: str
    record: int
    media: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """An annotation as a protocol uses it.

    Attributes:
        id: of the annotation.
        clip: X_V; ``None`` for text-only tasks.
        query: X_Q.
        texts: references, captions or the triplet.
        candidates: texts of each candidate answer; more than one text are averaged.
        candidate_clips: candidates that are clips.
        gold: index of the correct candidate; ``None`` if it is not among them.
        meaning: equal for examples that say the same in other words; "" if unknown.
        tags: strata of the annotation.
    """

    id: str
    clip: ClipRef | None
    query: str
    texts: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    candidate_clips: tuple[ClipRef, ...]
    gold: int | None
    meaning: str
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)


class EvaluationError(ValueError):
    """A benchmark that cannot be scored; the message names benchmark and example."""


class NoExamplesError(ConfigError):
    """A benchmark that its dataset has nothing for; the message names both."""


def fits(benchmark: BenchmarkConfig, annotation: Annotation) -> bool:
    """Whether the benchmark's filter, by task and by tags, lets an annotation through."""
    return all(
        (annotation.task if name == "task" else annotation.tags.get(name)) == value
        for name, value in benchmark.filter.items()
    )


def make_example(
    benchmark: BenchmarkConfig,
    record: int,
    annotation: Annotation,
    candidates: tuple[tuple[str, ...], ...],
) -> Example:
    """Resolves an annotation's query and media.

    Args:
        record: index in the benchmark's split.
        candidates: texts of each candidate answer, see ``Dataset.candidates``.
    """

    def clip(media: tuple[int, ...]) -> ClipRef:
        return ClipRef(benchmark.path, benchmark.split, record, media)

    return Example(
        id=annotation.id,
        clip=clip(annotation.inputs) if annotation.inputs else None,
        query=annotation.query if benchmark.query is None else benchmark.query,
        texts=annotation.texts,
        candidates=candidates,
        candidate_clips=tuple(clip((medium,)) for medium in annotation.candidate_media),
        gold=annotation.gold,
        meaning=annotation.tags.get("meaning", ""),
        tags=annotation.tags,
    )

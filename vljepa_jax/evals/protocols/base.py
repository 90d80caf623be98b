"""The interface of a protocol, and what protocols share: outcomes, choices made from scores.

A protocol sees neither model nor files. It names the (clip, query) pairs and texts it needs, so
that benchmarks over the same clips share their embeddings, and scores what it is handed. A clip
that could not be read is handed over as ``None`` and counts as wrong.
"""

from __future__ import annotations

import abc
import array
import dataclasses
import itertools
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from typing import Any, ClassVar, TypeVar, overload

import numpy as np
from jaxtyping import Float, Int

from vljepa_jax.config import BenchmarkConfig
from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import ClipRef, EvaluationError, Example
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.packed import Pairs

SHOWN = 5  # options kept of an outcome, best first

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Needs:
    """Texts and (clip, query) pairs that must be embedded before scoring."""

    videos: Set[tuple[ClipRef, str]] = frozenset()  # (X_V, X_Q)
    texts: frozenset[str] = frozenset()
    written: frozenset[tuple[ClipRef, str]] = frozenset()  # those of ``videos`` to put into words

    @classmethod
    def together(cls, parts: Sequence[Needs]) -> Needs:
        """What several benchmarks need."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            Pairs(itertools.chain.from_iterable(part.videos for part in parts)),
            frozenset().union(*(part.texts for part in parts)),
            frozenset().union(*(part.written for part in parts)),
        )


class Vectors(Mapping[K, "np.ndarray | None"]):
    """Vectors by key, as the rows of one matrix; ``None`` for a key without one.

    Args:
        rows: the row of each key, ``None`` where it has none.
        matrix: [rows, E].
    """

    def __init__(self, rows: Mapping[K, int | None], matrix: Float[np.ndarray, "n e"]) -> None:
        self._rows = rows
        self._matrix = matrix

    def __getitem__(self, key: K) -> np.ndarray | None:
        row = self._rows[key]
        return None if row is None else self._matrix[row]

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Embeddings of what was needed: [E] each, L2-normalised; ``None`` for an unreadable clip.

    ``written`` has the texts of the clips to put into words, as far as they can be read; it is
    ``None`` where the model writes no texts.
    """

    videos: Mapping[tuple[ClipRef, str], np.ndarray | None]
    texts: Mapping[str, np.ndarray]
    written: Mapping[tuple[ClipRef, str], str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """An answer that an example could have had.

    Attributes:
        item: a text or a clip.
        score: higher is better; ``None`` where it has none.
        correct: whether it is a correct one.
        label: shown in place of the score; "" for the score.
    """

    item: str | ClipRef
    score: float | None
    correct: bool
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One scored example, with what a report shows of it.

    Attributes:
        id: of the annotation.
        clip: what was asked about; ``None`` for retrieval and text-only tasks.
        question: the query, or the caption to be found.
        options: up to ``SHOWN``, best first.
        gold: the correct option (the best of them), ``None`` if there is none.
        rank: wrong options before it; ``None`` if there is no correct one or a clip is unreadable.
        unreadable: clips of this example that could not be read.
        values: by suffix, what this example adds to those metrics that are means of the examples'
            scores and not shares of ranks; CIDEr is one. ``None`` where it has no value.
        group: of which it is one where a metric is a mean over groups, say its class; "" for none.
    """

    id: str
    clip: ClipRef | None
    question: str
    options: tuple[Option, ...]
    gold: str | ClipRef | None
    rank: int | None
    unreadable: tuple[ClipRef, ...] = ()
    values: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    group: str = ""

    @property
    def correct(self) -> bool:
        return self.rank == 0


@dataclasses.dataclass(frozen=True)
class Scores:
    """A scored benchmark.

    Attributes:
        outcomes: one an example, or a caption.
        metrics: by suffix, e.g. "_top1".
        notes: what people should know of how it was measured.
    """

    outcomes: Sequence[Outcome]
    metrics: dict[str, Metric]
    notes: tuple[str, ...] = ()


class Protocol(abc.ABC):
    """How one kind of benchmark is asked, scored and shown.

    Attributes:
        intro: what the examples in the report show.
        judged: whether an example is correct or wrong; else it has its score alone.
        benchmark: what is run.
        parameters: the protocol's own, ``benchmark.protocol``.
    """

    intro: ClassVar[str]
    judged: ClassVar[bool] = True

    def __init__(self, benchmark: BenchmarkConfig) -> None:
        self.benchmark = benchmark
        self.parameters: Any = benchmark.protocol

    @property
    @abc.abstractmethod
    def suffixes(self) -> tuple[str, ...]:
        """Of the metrics that it yields, e.g. "_top1"."""

    @property
    def over_groups(self) -> Mapping[str, int]:
        """Of its metrics that are means over groups of the share whose rank is below k: the k."""
        return {}

    @property
    def bank_split(self) -> str | None:
        """A split of the benchmark's dataset that is read besides its own, or ``None``.

        The first text of each annotation there which passes the benchmark's filter is a candidate
        of every example, in place of the example's own candidates.
        """
        return None

    def keep(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Those of a benchmark's examples that are scored, in order."""
        return examples

    @abc.abstractmethod
    def needs(self, examples: Sequence[Example]) -> Needs:
        """Texts and pairs to embed; raises EvaluationError for an example that lacks something."""

    @abc.abstractmethod
    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        """Outcomes and metrics from what was embedded."""

    def require(self, example: Example, holds: bool, fault: str) -> None:
        """Raises EvaluationError, naming benchmark and example, where ``holds`` is not so."""
        if not holds:
            raise EvaluationError(
                f"benchmark '{self.benchmark.name}' ({self.parameters.name}): example "
                f"'{example.id}' {fault}"
            )


class Outcomes(Sequence[Outcome]):
    """Outcomes of which the ranks alone are kept; an ``Outcome`` is made when it is asked for.

    A hundred thousand questions with their best options as objects would take gigabytes.

    Args:
        ranks: of each, see ``Outcome.rank``.
        make: the outcome at an index.
    """

    def __init__(self, ranks: Iterable[int | None], make: Callable[[int], Outcome]) -> None:
        self._ranks = array.array("q", (-1 if rank is None else rank for rank in ranks))
        self._make = make

    @property
    def ranks(self) -> list[int | None]:
        """Of each, its rank."""
        return [None if rank < 0 else rank for rank in self._ranks]

    def __len__(self) -> int:
        return len(self._ranks)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> list[Outcome]: ...
    def __getitem__(self, index: int | slice) -> Outcome | list[Outcome]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} outcomes")
        return self._make(index % len(self))


def score_choices(
    examples: Sequence[Example],
    options: Sequence[Sequence[str | ClipRef]],
    scores: Iterable[Float[np.ndarray, " candidates"] | None],
    unreadable: Sequence[tuple[ClipRef, ...]],
    chances: Mapping[int, float],
    group: Callable[[int], str] = lambda index: "",
) -> Scores:
    """Choices among candidates, made from scores, wherever these come from.

    Args:
        examples: n of them; ``gold`` is the index of the correct candidate.
        options: the candidates of each.
        scores: [n, candidates], higher is better: cosines, likelihoods, ...; ``None`` in place of
            a row where a clip cannot be read. Examples may have different numbers of candidates.
            Rows are taken one after another and not kept.
        unreadable: such clips of each.
        chances: k -> chance of the correct candidate to be among the first k.
        group: of the example at an index, see ``Outcome.group``.

    Returns:
        Metrics "_top1", ... for each k.
    """
    best = np.full((len(examples), SHOWN), -1, np.int32)
    of_best = np.zeros((len(examples), SHOWN))
    ranks = array.array("q", [-1]) * len(examples)
    for index, (example, row) in enumerate(zip(examples, scores, strict=True)):
        if row is None:
            continue
        shown = best_options(row)
        best[index, : len(shown)] = shown
        of_best[index, : len(shown)] = row[shown]
        rank = metrics.rank(row, set() if example.gold is None else {example.gold})
        ranks[index] = -1 if rank is None else rank

    def outcome(index: int) -> Outcome:
        example, own = examples[index], options[index]
        return Outcome(
            id=example.id,
            clip=example.clip,
            question=example.query,
            options=shown_options(own, best[index], of_best[index], {example.gold}),
            gold=None if example.gold is None else own[example.gold],
            rank=None if ranks[index] < 0 else ranks[index],
            unreadable=unreadable[index],
            group=group(index),
        )

    outcomes = Outcomes((None if rank < 0 else rank for rank in ranks), outcome)
    return Scores(outcomes, {f"_top{k}": among_first(outcomes, k, chances[k]) for k in chances})


def candidate_lists(examples: Sequence[Example]) -> dict[int, tuple[tuple[str, ...], ...]]:
    """The different lists of candidates, by ``id``: examples with the same ones share the object.

    A thousand labels of fifty thousand images are so looked at once, and not for each image.
    """
    return {id(example.candidates): example.candidates for example in examples}


def best_options(scores: Float[np.ndarray, " options"]) -> list[int]:
    """Indices of up to ``SHOWN`` options, best first; what has no finite score is no option."""
    order = np.argsort(-scores, kind="stable")[:SHOWN]
    return [int(i) for i in order if np.isfinite(scores[i])]


def shown_options(
    options: Sequence[str | ClipRef],
    best: Int[np.ndarray, " shown"],
    scores: Float[np.ndarray, " shown"],
    positives: Collection[int | None],
) -> tuple[Option, ...]:
    """Options by their indices, best first; an index of -1 is none."""
    return tuple(
        Option(options[index], score, index in positives)
        for index, score in zip(best.tolist(), scores.tolist(), strict=True)
        if index >= 0
    )


def rank_options(
    example: Example,
    clip: ClipRef | None,
    options: Sequence[str | ClipRef],
    scores: Float[np.ndarray, " options"] | None,
    positives: Iterable[int],
    unreadable: tuple[ClipRef, ...],
) -> Outcome:
    """The outcome of an example whose options are ranked by their scores.

    Args:
        scores: higher is better; ``None`` where they cannot be had.
        positives: indices of the correct options.
    """
    positives = frozenset(positives)
    if scores is None:
        gold = options[min(positives)] if positives else None
        return Outcome(example.id, clip, example.query, (), gold, rank=None, unreadable=unreadable)
    order = np.argsort(-scores, kind="stable")
    return Outcome(
        id=example.id,
        clip=clip,
        question=example.query,
        options=tuple(
            Option(options[i], float(scores[i]), i in positives) for i in best_options(scores)
        ),
        gold=next((options[i] for i in order if int(i) in positives), None),
        rank=metrics.rank(scores, positives),
        unreadable=unreadable,
    )


def ranks_of(outcomes: Sequence[Outcome]) -> list[int | None]:
    """The rank of each."""
    return outcomes.ranks if isinstance(outcomes, Outcomes) else [o.rank for o in outcomes]


def among_first(outcomes: Sequence[Outcome], k: int, chance: float) -> Metric:
    """Share of outcomes whose correct option is among the first k."""
    return metrics.proportion(metrics.in_top_k(ranks_of(outcomes), k), chance)

"""Evaluation protocols: what a benchmark needs embedded, and how it is scored.

choose     open-vocabulary classification and discriminative VQA: the candidate text nearest to
           Ŝ_Y by cosine (paper, inference; a label of several texts is the mean of theirs)
retrieve   text-to-video: Ŝ_Y of every clip ranked against the caption
match      WorldPrediction-WM: Ŝ_Y of the pair (initial, final state) against Ŝ_Y of the
           candidate clips
triplets   SugarCrepe++ and VISLA: the Y-Encoder alone, strict rule
caption    CIDEr-D of what the Y-Decoder writes from Ŝ_Y, and of the bank's text nearest to it

A protocol sees neither model nor files. It names the (clip, query) pairs and texts it needs, so
that benchmarks over the same clips share their embeddings, and scores what it is handed. A clip
that could not be read is handed over as ``None`` and counts as wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from vljepa_jax.config import BenchmarkConfig
from vljepa_jax.evals import metrics
from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.examples import Clip, EvaluationError, Example
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.inference.labels import mean_embedding

SHOWN = 5  # options kept of an outcome, best first


@dataclasses.dataclass(frozen=True)
class Needs:
    """What must be embedded before scoring."""

    videos: frozenset[tuple[Clip, str]] = frozenset()  # (X_V, X_Q)
    texts: frozenset[str] = frozenset()
    written: frozenset[tuple[Clip, str]] = frozenset()  # those of ``videos`` to put into words

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.videos | other.videos, self.texts | other.texts, self.written | other.written
        )


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """What was embedded: [E] each, L2-normalised; ``None`` for a clip that cannot be read.

    ``written`` has the texts of the clips to put into words, as far as they can be read; it is
    ``None`` where the model has no Y-Decoder.
    """

    videos: Mapping[tuple[Clip, str], np.ndarray | None]
    texts: Mapping[str, np.ndarray]
    written: Mapping[tuple[Clip, str], str] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One scored example, with what a report shows of it.

    Attributes:
        id: of the annotation.
        clip: what was asked about; ``None`` for retrieval and text-only tasks.
        question: the query, or the caption to be found.
        options: up to ``SHOWN`` options, best first: texts or clips.
        scores: cosine of each option; of a caption, its CIDEr-D.
        right: whether each option is right.
        gold: the right option (the best of them), ``None`` if there is none.
        rank: wrong options before it; ``None`` if there is no right one or a clip is unreadable.
        unreadable: clips of this example that could not be read.
    """

    id: str
    clip: Clip | None
    question: str
    options: tuple[str | Clip, ...]
    scores: tuple[float, ...]
    right: tuple[bool, ...]
    gold: str | Clip | None
    rank: int | None
    unreadable: tuple[Clip, ...] = ()

    @property
    def correct(self) -> bool:
        return self.rank == 0


@dataclasses.dataclass(frozen=True)
class Scores:
    outcomes: tuple[Outcome, ...]
    metrics: dict[str, Metric]  # by suffix, e.g. "_top1"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How one kind of benchmark is run.

    Attributes:
        suffixes: of the metrics it yields.
        needs: (benchmark, examples) -> what to embed.
        score: (benchmark, examples, embeddings) -> outcomes and metrics.
    """

    suffixes: tuple[str, ...]
    needs: Callable[[BenchmarkConfig, Sequence[Example]], Needs]
    score: Callable[[BenchmarkConfig, Sequence[Example], Embeddings], Scores]


# ---------------------------------------------------------------------------------------------
# choose
# ---------------------------------------------------------------------------------------------
def _choose_needs(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> Needs:
    for example in examples:
        _require(benchmark, example, example.clip is not None, "has no media")
        _require(benchmark, example, len(example.candidates) > 1, "has fewer than two candidates")
    return Needs(
        frozenset((example.clip, example.query) for example in examples),
        frozenset(t for example in examples for texts in example.candidates for t in texts),
    )


def _choose_score(
    benchmark: BenchmarkConfig, examples: Sequence[Example], embeddings: Embeddings
) -> Scores:
    # Most benchmarks have one candidate list for all examples: its matrix is made once.
    matrices: dict[tuple[tuple[str, ...], ...], np.ndarray] = {}
    outcomes = []
    for example in examples:
        if example.candidates not in matrices:
            matrices[example.candidates] = np.stack(
                [mean_embedding([embeddings.texts[t] for t in c]) for c in example.candidates]
            )
        predicted = embeddings.videos[example.clip, example.query]
        options = tuple(texts[0] for texts in example.candidates)
        scores = None if predicted is None else matrices[example.candidates] @ predicted
        unreadable = (example.clip,) if predicted is None else ()
        positives = set() if example.gold is None else {example.gold}
        outcomes.append(_outcome(example, example.clip, options, scores, positives, unreadable))
    chance = metrics.choice_chance([e.candidates for e in examples], [e.gold for e in examples])
    return Scores(tuple(outcomes), {"_top1": _at(outcomes, 1, chance)})


# ---------------------------------------------------------------------------------------------
# retrieve
# ---------------------------------------------------------------------------------------------
def _captions(examples: Sequence[Example]) -> list[tuple[Example, str]]:
    """Every text is a query, as in MSVD; where an example stands for its meaning, its first."""
    return [(e, text) for e in examples for text in (e.texts[:1] if e.meaning else e.texts)]


def _gallery(captions: Sequence[tuple[Example, str]]) -> dict[Clip, str]:
    """Distinct clips, each with the query it is embedded under: that of its first caption."""
    gallery: dict[Clip, str] = {}
    for example, _ in captions:
        gallery.setdefault(example.clip, example.query)
    return gallery


def _retrieve_needs(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> Needs:
    for example in examples:
        _require(benchmark, example, example.clip is not None, "has no media")
        _require(benchmark, example, bool(example.texts), "has no caption")
    captions = _captions(examples)
    return Needs(frozenset(_gallery(captions).items()), frozenset(text for _, text in captions))


def _retrieve_score(
    benchmark: BenchmarkConfig, examples: Sequence[Example], embeddings: Embeddings
) -> Scores:
    captions = _captions(examples)
    gallery = list(_gallery(captions).items())
    row_of = {clip: row for row, (clip, _) in enumerate(gallery)}
    texts = [text for _, text in captions]
    text = np.stack([embeddings.texts[t] for t in texts])
    unreadable = np.full(text.shape[1], np.nan, text.dtype)
    embedded = [embeddings.videos[item] for item in gallery]
    video = np.stack([unreadable if e is None else e for e in embedded])
    positives = metrics.shared_positives(texts, [row_of[e.clip] for e, _ in captions])
    outcomes = []
    clips = tuple(clip for clip, _ in gallery)
    all_scores = metrics.text_to_video_scores(text, video)
    for (example, caption), scores, right in zip(captions, all_scores, positives, strict=True):
        # A caption whose every right clip is unreadable cannot be found: it is wrong.
        lost = tuple(clips[row] for row in right) if all(embedded[r] is None for r in right) else ()
        question = dataclasses.replace(example, query=caption)
        outcomes.append(_outcome(question, None, clips, None if lost else scores, right, lost))
    chance = {k: metrics.recall_chance(positives, len(gallery), k) for k in (1, 5)}
    return Scores(tuple(outcomes), {f"_r{k}": _at(outcomes, k, chance[k]) for k in (1, 5)})


# ---------------------------------------------------------------------------------------------
# match
# ---------------------------------------------------------------------------------------------
def _match_needs(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> Needs:
    for example in examples:
        _require(benchmark, example, example.clip is not None, "has no media")
        _require(benchmark, example, len(example.candidate_clips) > 1, "has no candidate clips")
    states = {(example.clip, example.query) for example in examples}
    actions = {(c, benchmark.candidate_query) for e in examples for c in e.candidate_clips}
    return Needs(frozenset(states | actions))


def _match_score(
    benchmark: BenchmarkConfig, examples: Sequence[Example], embeddings: Embeddings
) -> Scores:
    outcomes = []
    for example in examples:
        wanted = [(example.clip, example.query)]
        wanted += [(clip, benchmark.candidate_query) for clip in example.candidate_clips]
        state, *actions = [embeddings.videos[item] for item in wanted]
        unreadable = tuple(item[0] for item in wanted if embeddings.videos[item] is None)
        scores = None if unreadable else np.stack(actions) @ state
        positives = set() if example.gold is None else {example.gold}
        outcomes.append(
            _outcome(example, example.clip, example.candidate_clips, scores, positives, unreadable)
        )
    chance = np.mean([0 if e.gold is None else 1 / len(e.candidate_clips) for e in examples])
    return Scores(tuple(outcomes), {"_top1": _at(outcomes, 1, chance)})


# ---------------------------------------------------------------------------------------------
# triplets
# ---------------------------------------------------------------------------------------------
def _triplets_needs(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> Needs:
    for example in examples:
        _require(benchmark, example, len(example.texts) == 3, "is not a triplet of texts")
    return Needs(texts=frozenset(text for example in examples for text in example.texts))


def _triplets_score(
    benchmark: BenchmarkConfig, examples: Sequence[Example], embeddings: Embeddings
) -> Scores:
    outcomes = []
    for example in examples:
        first, second, negative = (embeddings.texts[text] for text in example.texts)
        # Shown from the side of the paraphrase that is nearer to the negative: the one decisive.
        decisive = first if first @ negative >= second @ negative else second
        scores = np.stack([first @ second, decisive @ negative])
        correct = metrics.triplet_is_right(first, second, negative)
        outcome = _outcome(
            dataclasses.replace(example, query=example.texts[0]),
            None,
            example.texts[1:],
            scores,
            {0},
            (),
        )
        outcomes.append(dataclasses.replace(outcome, rank=0 if correct else 1))
    return Scores(tuple(outcomes), {"": _at(outcomes, 1, metrics.TRIPLET_CHANCE)})


# ---------------------------------------------------------------------------------------------
# caption
# ---------------------------------------------------------------------------------------------
WRITTEN, NEAREST = "_cider", "_cider_nearest_neighbour"


def _caption_needs(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> Needs:
    for example in examples:
        _require(benchmark, example, example.clip is not None, "has no media")
        _require(benchmark, example, bool(example.texts), "has no caption")
    videos = frozenset((example.clip, example.query) for example in examples)
    return Needs(videos, frozenset(_bank(examples)), videos)


def _bank(examples: Sequence[Example]) -> list[str]:
    """The captions of the bank: every example has them as its candidates."""
    return sorted({texts[0] for texts in examples[0].candidates})


def _caption_score(
    benchmark: BenchmarkConfig, examples: Sequence[Example], embeddings: Embeddings
) -> Scores:
    bank = _bank(examples)
    matrix = np.stack([embeddings.texts[text] for text in bank])
    rng = np.random.default_rng(0)
    drawn = {"chance": [bank[index] for index in rng.integers(len(bank), size=len(examples))]}
    asked = [(example.clip, example.query) for example in examples]
    predicted = [embeddings.videos[video] for video in asked]
    if embeddings.written is not None:
        drawn[WRITTEN] = [embeddings.written.get(video, "") for video in asked]
    # An unreadable clip has no text, which scores 0.
    drawn[NEAREST] = ["" if p is None else bank[int(np.argmax(matrix @ p))] for p in predicted]
    score = CiderD([[tokenise(text) for text in example.texts] for example in examples])
    cider = {name: score([tokenise(text) for text in texts]) for name, texts in drawn.items()}
    chance = float(cider.pop("chance").mean())
    outcomes = tuple(
        Outcome(
            id=example.id,
            clip=example.clip,
            question=example.query,
            options=tuple(drawn[name][index] for name in cider),
            scores=tuple(float(scores[index]) for scores in cider.values()),
            right=(False,) * len(cider),
            gold=example.texts[0],
            rank=None,
            unreadable=() if predicted[index] is not None else (example.clip,),
        )
        for index, example in enumerate(examples)
    )
    return Scores(
        outcomes,
        {name: metrics.mean_score(scores, chance, "cider") for name, scores in cider.items()},
    )


# ---------------------------------------------------------------------------------------------
# shared
# ---------------------------------------------------------------------------------------------
def _require(benchmark: BenchmarkConfig, example: Example, holds: bool, fault: str) -> None:
    if not holds:
        raise EvaluationError(
            f"benchmark '{benchmark.name}' ({benchmark.protocol}): example '{example.id}' {fault}"
        )


def _outcome(
    example: Example,
    clip: Clip | None,
    options: Sequence[str | Clip],
    scores: np.ndarray | None,
    positives: Iterable[int],
    unreadable: tuple[Clip, ...],
) -> Outcome:
    positives = frozenset(positives)
    if scores is None:
        gold = options[min(positives)] if positives else None
        return Outcome(
            example.id, clip, example.query, (), (), (), gold, rank=None, unreadable=unreadable
        )
    order = np.argsort(-scores, kind="stable")
    gold = next((options[i] for i in order if int(i) in positives), None)
    shown = [int(i) for i in order[:SHOWN] if np.isfinite(scores[i])]
    return Outcome(
        id=example.id,
        clip=clip,
        question=example.query,
        options=tuple(options[i] for i in shown),
        scores=tuple(float(scores[i]) for i in shown),
        right=tuple(i in positives for i in shown),
        gold=gold,
        rank=metrics.rank(scores, positives),
        unreadable=unreadable,
    )


def _at(outcomes: Sequence[Outcome], k: int, chance: float) -> Metric:
    return metrics.proportion(metrics.in_top_k([o.rank for o in outcomes], k), chance)


PROTOCOLS: dict[str, Protocol] = {
    "choose": Protocol(("_top1",), _choose_needs, _choose_score),
    "retrieve": Protocol(("_r1", "_r5"), _retrieve_needs, _retrieve_score),
    "match": Protocol(("_top1",), _match_needs, _match_score),
    "triplets": Protocol(("",), _triplets_needs, _triplets_score),
    "caption": Protocol((WRITTEN, NEAREST), _caption_needs, _caption_score),
}

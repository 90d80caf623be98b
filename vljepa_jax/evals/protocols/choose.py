"""Choosing a text: the candidate nearest to Ŝ_Y by cosine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import ClipRef, Example
from vljepa_jax.evals.packed import Pairs
from vljepa_jax.evals.protocols.base import (
    Embeddings,
    Needs,
    Protocol,
    Scores,
    candidate_lists,
    ranks_of,
    score_choices,
)
from vljepa_jax.inference.labels import mean_embedding

# The texts of each candidate.
Candidates = tuple[tuple[str, ...], ...]


class Choose(Protocol):
    """Open-vocabulary classification and discriminative VQA."""

    intro = "The answer is the candidate text nearest to the predicted embedding."

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (
            *(f"_top{k}" for k in self.parameters.k),
            *(f"_r{k}" for k in self.parameters.recall),
        )

    @property
    def over_groups(self) -> Mapping[str, int]:
        return {f"_r{k}": k for k in self.parameters.recall}

    def keep(self, examples: Sequence[Example]) -> Sequence[Example]:
        """With fewer candidates, the examples whose answer is among them, or is nowhere."""
        count = self.parameters.candidates
        if not count:
            return examples
        first: dict[Candidates, Candidates] = {}  # one tuple for the many examples that share it
        return [
            dataclasses.replace(e, candidates=first.setdefault(e.candidates, e.candidates[:count]))
            for e in examples
            if e.gold is None or e.gold < count
        ]

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            self.require(example, len(example.candidates) > 1, "has fewer than two candidates")
            if self.parameters.recall:
                self.require(example, example.gold is not None, "has no correct candidate: a class")
        return Needs(
            Pairs((example.clip, example.query) for example in examples),
            candidate_texts(examples, self.benchmark.templates),
        )

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        return self.score_rows(
            examples,
            cosines(examples, embeddings, self.benchmark.templates),
            unreadable_clips(examples, embeddings),
        )

    def score_rows(
        self,
        examples: Sequence[Example],
        rows: Iterable[np.ndarray | None],
        unreadable: Sequence[tuple[ClipRef, ...]],
    ) -> Scores:
        """Scores choices, wherever the candidates' scores come from; see ``score_choices``."""
        candidates, gold = [], []
        for example in examples:
            candidates.append(example.candidates)
            gold.append(example.gold)
        scored = score_choices(
            examples,
            shown_candidates(examples),
            rows,
            unreadable,
            {k: metrics.choice_chance(candidates, gold, k) for k in self.parameters.k},
            lambda i: " | ".join(candidates[i][gold[i]]) if self.parameters.recall else "",
        )
        if not self.parameters.recall:
            return scored
        classes = [own[place] for own, place in zip(candidates, gold, strict=True)]
        ranks = ranks_of(scored.outcomes)
        recalls = {
            f"_r{k}": metrics.group_mean(
                metrics.in_top_k(ranks, k), classes, metrics.recall_of_classes(candidates, gold, k)
            )
            for k in self.parameters.recall
        }
        return dataclasses.replace(scored, metrics=scored.metrics | recalls)


def shown_candidates(examples: Sequence[Example]) -> list[list[str]]:
    """The first text of each candidate of each example; one object for all that share them."""
    shown = {key: [texts[0] for texts in own] for key, own in candidate_lists(examples).items()}
    return [shown[id(example.candidates)] for example in examples]


def unreadable_clips(
    examples: Sequence[Example], embeddings: Embeddings
) -> list[tuple[ClipRef, ...]]:
    """Of each example, its clip where that has no embedding."""
    found = (embeddings.videos[example.clip, example.query] for example in examples)
    return [() if f is not None else (e.clip,) for e, f in zip(examples, found, strict=True)]


def candidate_texts(examples: Sequence[Example], templates: Sequence[str]) -> frozenset[str]:
    """All texts whose embeddings ``cosines`` reads."""
    lists = candidate_lists(examples).values()
    return frozenset(t for own in lists for texts in own for t in worded(texts, templates))


def worded(texts: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Texts of a candidate in every template; as they are where there is none."""
    return [t.replace("{}", text) for text in texts for t in templates or ("{}",)]


def cosines(
    examples: Sequence[Example], embeddings: Embeddings, templates: Sequence[str]
) -> Iterator[np.ndarray | None]:
    """[candidates] cosines of each candidate's mean embedding with the prediction, n times."""
    lists = candidate_lists(examples)

    # Most benchmarks have one list for all examples, or a few; where each has its own, none stays.
    @functools.lru_cache(maxsize=16)
    def matrix(key: int) -> np.ndarray:
        return np.stack(
            [
                mean_embedding([embeddings.texts[t] for t in worded(texts, templates)])
                for texts in lists[key]
            ]
        )

    for example in examples:
        predicted = embeddings.videos[example.clip, example.query]
        yield None if predicted is None else matrix(id(example.candidates)) @ predicted

"""Choosing a text: the candidate nearest to Ŝ_Y by cosine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Protocol, Scores, score_choices
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

    def keep(self, examples: Sequence[Example]) -> list[Example]:
        """With fewer candidates, the examples whose answer is among them, or is nowhere."""
        count = self.parameters.candidates
        if not count:
            return list(examples)
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
            frozenset((example.clip, example.query) for example in examples),
            candidate_texts(examples, self.benchmark.templates),
        )

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        scores = cosines(examples, embeddings, self.benchmark.templates)
        candidates, gold = [e.candidates for e in examples], [e.gold for e in examples]
        scored = score_choices(
            examples,
            [tuple(texts[0] for texts in example.candidates) for example in examples],
            scores,
            [() if s is not None else (e.clip,) for e, s in zip(examples, scores, strict=True)],
            {k: metrics.choice_chance(candidates, gold, k) for k in self.parameters.k},
        )
        if not self.parameters.recall:
            return scored
        classes = [example.candidates[example.gold] for example in examples]
        ranks = [outcome.rank for outcome in scored.outcomes]
        recalls = {
            f"_r{k}": metrics.group_mean(
                metrics.in_top_k(ranks, k), classes, metrics.recall_of_classes(candidates, gold, k)
            )
            for k in self.parameters.recall
        }
        return dataclasses.replace(scored, metrics=scored.metrics | recalls)


def candidate_texts(examples: Sequence[Example], templates: Sequence[str]) -> frozenset[str]:
    """All texts whose embeddings ``cosines`` reads."""
    lists = dict.fromkeys(example.candidates for example in examples)
    return frozenset(t for own in lists for texts in own for t in _worded(texts, templates))


def _worded(texts: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Texts of a candidate in every template; as they are where there is none."""
    return [t.replace("{}", text) for text in texts for t in templates or ("{}",)]


def cosines(
    examples: Sequence[Example], embeddings: Embeddings, templates: Sequence[str]
) -> list[np.ndarray | None]:
    """[n, candidates] cosines of each candidate's mean embedding with the prediction."""
    # Most benchmarks have one candidate list for all examples: its matrix is made once.
    matrices: dict[Candidates, np.ndarray] = {}
    rows = []
    for example in examples:
        if example.candidates not in matrices:
            matrices[example.candidates] = np.stack(
                [
                    mean_embedding([embeddings.texts[t] for t in _worded(texts, templates)])
                    for texts in example.candidates
                ]
            )
        predicted = embeddings.videos[example.clip, example.query]
        rows.append(None if predicted is None else matrices[example.candidates] @ predicted)
    return rows

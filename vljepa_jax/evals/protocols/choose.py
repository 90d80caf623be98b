"""Choosing a text: the candidate nearest to Ŝ_Y by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Protocol, Scores, score_choices
from vljepa_jax.inference.labels import mean_embedding


class Choose(Protocol):
    """Open-vocabulary classification and discriminative VQA."""

    intro = "The answer is the candidate text nearest to the predicted embedding."

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(f"_top{k}" for k in self.parameters.k)

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            self.require(example, len(example.candidates) > 1, "has fewer than two candidates")
        return Needs(
            frozenset((example.clip, example.query) for example in examples),
            frozenset(t for example in examples for texts in example.candidates for t in texts),
        )

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        scores = cosines(examples, embeddings)
        candidates, gold = [e.candidates for e in examples], [e.gold for e in examples]
        return score_choices(
            examples,
            [tuple(texts[0] for texts in example.candidates) for example in examples],
            scores,
            [() if s is not None else (e.clip,) for e, s in zip(examples, scores, strict=True)],
            {k: metrics.choice_chance(candidates, gold, k) for k in self.parameters.k},
        )


def cosines(examples: Sequence[Example], embeddings: Embeddings) -> list[np.ndarray | None]:
    """[n, candidates] cosines of each candidate's mean embedding with the prediction."""
    # Most benchmarks have one candidate list for all examples: its matrix is made once.
    matrices: dict[tuple[tuple[str, ...], ...], np.ndarray] = {}
    rows = []
    for example in examples:
        if example.candidates not in matrices:
            matrices[example.candidates] = np.stack(
                [mean_embedding([embeddings.texts[t] for t in c]) for c in example.candidates]
            )
        predicted = embeddings.videos[example.clip, example.query]
        rows.append(None if predicted is None else matrices[example.candidates] @ predicted)
    return rows

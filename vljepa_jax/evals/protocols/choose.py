"""Choosing a text: the candidate nearest to Ŝ_Y by cosine."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.protocols.base import (
    Embeddings,
    Needs,
    Protocol,
    Scores,
    candidate_lists,
    score_choices,
)
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
            frozenset(
                text
                for candidates in candidate_lists(examples).values()
                for texts in candidates
                for text in texts
            ),
        )

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        lists = candidate_lists(examples)
        options = {key: [texts[0] for texts in lists[key]] for key in lists}
        candidates, gold = [options[id(e.candidates)] for e in examples], [e.gold for e in examples]
        asked = [(e.clip, e.query) for e in examples]
        return score_choices(
            examples,
            candidates,
            cosines(examples, embeddings),
            [() if embeddings.videos[item] is not None else (item[0],) for item in asked],
            {k: metrics.choice_chance(candidates, gold, k) for k in self.parameters.k},
        )


def cosines(examples: Sequence[Example], embeddings: Embeddings) -> Iterator[np.ndarray | None]:
    """[candidates] cosines of each candidate's mean embedding with the prediction, n times."""
    lists = candidate_lists(examples)

    # Most benchmarks have one list for all examples, or a few; where each has its own, none stays.
    @functools.lru_cache(maxsize=16)
    def matrix(key: int) -> np.ndarray:
        return np.stack([mean_embedding([embeddings.texts[t] for t in c]) for c in lists[key]])

    for example in examples:
        predicted = embeddings.videos[example.clip, example.query]
        yield None if predicted is None else matrix(id(example.candidates)) @ predicted

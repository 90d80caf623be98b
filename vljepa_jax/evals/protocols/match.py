"""Matching a clip: Ŝ_Y of (initial, final state) against Ŝ_Y of the candidate clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_jax.evals.examples import ClipRef, Example
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Protocol, Scores, score_choices


class Match(Protocol):
    """WorldPrediction-WM: which action leads from one state to the other."""

    intro = "Which clip leads from the first picture to the second?"

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(f"_top{k}" for k in self.parameters.k)

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            self.require(example, len(example.candidate_clips) > 1, "has no candidate clips")
        return Needs(frozenset(item for example in examples for item in self._asked(example)))

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        scores, unreadable = [], []
        for example in examples:
            asked = self._asked(example)
            lost = tuple(item[0] for item in asked if embeddings.videos[item] is None)
            state, *actions = [embeddings.videos[item] for item in asked]
            scores.append(None if lost else np.stack(actions) @ state)
            unreadable.append(lost)
        counts = [0 if e.gold is None else len(e.candidate_clips) for e in examples]
        return score_choices(
            examples,
            [example.candidate_clips for example in examples],
            scores,
            unreadable,
            {k: np.mean([min(k, n) / n if n else 0 for n in counts]) for k in self.parameters.k},
        )

    def _asked(self, example: Example) -> list[tuple[ClipRef, str]]:
        """The states under the example's query, then the candidates under theirs."""
        query = self.parameters.candidate_query
        return [(example.clip, example.query), *((c, query) for c in example.candidate_clips)]

"""Triplets of texts, two paraphrases and a hard negative: the Y-Encoder alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.protocols.base import (
    Embeddings,
    Needs,
    Protocol,
    Scores,
    among_first,
    rank_options,
)


class Triplets(Protocol):
    """SugarCrepe++ and VISLA, by the strict rule."""

    intro = "The first text must be nearer to its paraphrase than either is to the negative."

    @property
    def suffixes(self) -> tuple[str, ...]:
        return ("", "_macro") if self.parameters.macro else ("",)

    @property
    def over_groups(self) -> Mapping[str, int]:
        return {"_macro": 1} if self.parameters.macro else {}

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, len(example.texts) == 3, "is not a triplet of texts")
            tag = self.parameters.macro
            self.require(example, not tag or tag in example.tags, f"has no tag '{tag}'")
        return Needs(texts=frozenset(text for example in examples for text in example.texts))

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        outcomes = []
        for example in examples:
            first, second, negative = (embeddings.texts[text] for text in example.texts)
            # Shown from the side of the paraphrase nearer to the negative: the one decisive.
            decisive = first if first @ negative >= second @ negative else second
            scores = np.stack([first @ second, decisive @ negative])
            correct = metrics.triplet_is_correct(first, second, negative)
            asked = dataclasses.replace(example, query=example.texts[0])
            outcome = rank_options(asked, None, example.texts[1:], scores, {0}, ())
            group = example.tags[tag] if (tag := self.parameters.macro) else ""
            outcomes.append(dataclasses.replace(outcome, rank=0 if correct else 1, group=group))
        scored = {"": among_first(outcomes, 1, metrics.TRIPLET_CHANCE)}
        if self.parameters.macro:
            correct = [outcome.correct for outcome in outcomes]
            groups = [outcome.group for outcome in outcomes]
            scored["_macro"] = metrics.group_mean(correct, groups, metrics.TRIPLET_CHANCE)
        return Scores(tuple(outcomes), scored)

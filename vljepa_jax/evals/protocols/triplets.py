"""Triplets of texts, two paraphrases and a hard negative: the Y-Encoder alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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
    suffixes = ("",)

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, len(example.texts) == 3, "is not a triplet of texts")
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
            outcomes.append(dataclasses.replace(outcome, rank=0 if correct else 1))
        return Scores(tuple(outcomes), {"": among_first(outcomes, 1, metrics.TRIPLET_CHANCE)})

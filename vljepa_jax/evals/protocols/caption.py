"""Captions by CIDEr-D: those that are written from Ŝ_Y, and the bank's nearest to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.captions import CiderD, tokenise, tokenise_ptb
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Option, Outcome, Protocol, Scores

# Metric -> what its texts are called where they are shown.
WRITTEN, _NEAREST = "_cider", "_cider_nearest_neighbour"
_SHOWN_AS = {WRITTEN: "written", _NEAREST: "nearest"}
_TOKENISERS = {"words": tokenise, "ptb": tokenise_ptb}


class Caption(Protocol):
    """CIDEr-D, x 100, of all captions of the benchmark as one corpus."""

    intro = "What the model writes and the nearest training caption, each with its CIDEr."
    judged = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (WRITTEN, _NEAREST) if self.parameters.bank_split else (WRITTEN,)

    @property
    def bank_split(self) -> str | None:
        return self.parameters.bank_split or None

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            self.require(example, bool(example.texts), "has no caption")
        videos = frozenset((example.clip, example.query) for example in examples)
        return Needs(videos, frozenset(self._bank(examples)), videos)

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        asked = [(example.clip, example.query) for example in examples]
        predicted = [embeddings.videos[video] for video in asked]
        texts: dict[str, list[str]] = {}
        # An unreadable clip has no text, which scores 0.
        if embeddings.written is not None:
            texts[WRITTEN] = [embeddings.written.get(video, "") for video in asked]
        if bank := self._bank(examples):
            matrix = np.stack([embeddings.texts[text] for text in bank])
            nearest = ["" if p is None else bank[int(np.argmax(matrix @ p))] for p in predicted]
            texts[_NEAREST] = nearest
        unreadable = [p is None for p in predicted]
        notes = () if embeddings.written is not None else (self._unwritten,)
        return dataclasses.replace(self.score_texts(examples, texts, unreadable), notes=notes)

    def score_texts(
        self,
        examples: Sequence[Example],
        texts: Mapping[str, Sequence[str]],
        unreadable: Sequence[bool],
    ) -> Scores:
        """Scores texts about the examples' clips, wherever these come from.

        Args:
            texts: suffix of the metric, ``WRITTEN`` or that of the nearest -> [n] texts.
            unreadable: [n], whether a clip could not be read.
        """
        tokenised = _TOKENISERS[self.parameters.tokens]
        score = CiderD([[tokenised(text) for text in example.texts] for example in examples])
        rng = np.random.default_rng(0)
        guesses = self._bank(examples) or [example.texts[0] for example in examples]
        drawn = [guesses[index] for index in rng.integers(len(guesses), size=len(examples))]
        chance = float(score([tokenised(text) for text in drawn]).mean())
        cider = {name: score([tokenised(text) for text in texts[name]]) for name in texts}
        found = {name: metrics.mean_score(cider[name], chance, "cider") for name in texts}

        def value(name: str, index: int) -> float | None:
            return None if found[name].undefined else float(cider[name][index])

        outcomes = tuple(
            Outcome(
                id=example.id,
                clip=example.clip,
                question=example.query,
                options=(
                    *(_option(name, texts[name][i], value(name, i)) for name in texts),
                    Option(example.texts[0], None, True, label="reference"),
                ),
                gold=example.texts[0],
                rank=None,
                unreadable=(example.clip,) if unreadable[i] else (),
                values={name: value(name, i) for name in texts},
            )
            for i, example in enumerate(examples)
        )
        return Scores(outcomes, found)

    @property
    def _unwritten(self) -> str:
        if self.bank_split is None:
            return f"'{self.benchmark.name}' is not scored: this model writes no texts"
        return "this model writes no texts: captions are the nearest texts alone"

    def _bank(self, examples: Sequence[Example]) -> list[str]:
        """The captions of the bank: every example has them as its candidates."""
        if self.bank_split is None:
            return []
        return sorted({texts[0] for texts in examples[0].candidates})


def _option(metric: str, text: str, score: float | None) -> Option:
    shown = "–" if score is None else f"{score:.0f}"
    return Option(text, score, False, label=f"{_SHOWN_AS[metric]} {shown}")

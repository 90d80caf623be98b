"""Yes or no: whether an object is in an image (POPE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import Example
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.packed import Pairs
from vljepa_jax.evals.protocols.base import (
    Embeddings,
    Needs,
    Protocol,
    Scores,
    ranks_of,
    score_choices,
)
from vljepa_jax.evals.protocols.choose import (
    candidate_texts,
    cosines,
    shown_candidates,
    unreadable_clips,
)

_YES = "yes"
_FIGURES = ("accuracy", "precision", "recall", "f1", "yes_ratio")


class YesNo(Protocol):
    """POPE's figures (Li et al. 2023, arXiv 2305.10355), "yes" being the positive answer.

    The answer is the nearer of the two candidates. Where an image cannot be read, or both are
    alike near, it is the wrong one. A precision, recall or F1 whose denominator is 0 is 0. Chance
    is a coin's; of F1 what "yes" to all questions gets, of accuracy the better of both.
    """

    intro = 'Which is nearer to the predicted embedding, "yes" or "no"?'
    suffixes = tuple(f"_{name}" for name in _FIGURES)

    @property
    def over_groups(self) -> Mapping[str, int]:
        return {"_accuracy": 1} if self.parameters.macro else {}

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            answers = sorted(texts[0] for texts in example.candidates)
            self.require(example, answers == ["no", _YES], "has other candidates than yes and no")
            self.require(example, example.gold is not None, "has no correct candidate")
            tag = self.parameters.macro
            self.require(example, not tag or tag in example.tags, f"has no tag '{tag}'")
        return Needs(
            Pairs((example.clip, example.query) for example in examples),
            candidate_texts(examples, self.benchmark.templates),
        )

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        tag = self.parameters.macro
        scored = score_choices(
            examples,
            shown_candidates(examples),
            cosines(examples, embeddings, self.benchmark.templates),
            unreadable_clips(examples, embeddings),
            {},
            lambda i: examples[i].tags[tag] if tag else "",
        )
        truth = np.array([e.candidates[e.gold][0] == _YES for e in examples])
        said = truth == np.array([rank == 0 for rank in ranks_of(scored.outcomes)])
        groups = np.array([example.tags[tag] if tag else "" for example in examples])
        return Scores(scored.outcomes, _metrics(said, truth, groups))


def figures(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """POPE's five figures, in the order of ``_FIGURES``, of bool [n] answers "yes"."""
    both = np.sum(said & truth)
    precision, recall = both / max(1, np.sum(said)), both / max(1, np.sum(truth))
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return np.array([np.mean(said == truth), precision, recall, f1, np.mean(said)])


def _metrics(said: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> dict[str, Metric]:
    members = [groups == name for name in np.unique(groups)]

    def of(rows: np.ndarray) -> np.ndarray:
        """Means over the groups, [5]."""
        inside = [rows[own[rows]] for own in members]
        return np.mean([figures(said[own], truth[own]) for own in inside if len(own)], axis=0)

    n = len(said)
    values, intervals = of(np.arange(n)), metrics.resampled_intervals(n, of)
    yes = float(np.mean(truth))
    chances = (max(yes, 1 - yes), yes, 0.5, 2 * yes / (1 + yes), 0.5)
    return {
        f"_{name}": Metric(
            float(value),
            chance,
            n,
            interval,
            better="neither" if name == "yes_ratio" else "higher",
        )
        for name, value, chance, interval in zip(_FIGURES, values, chances, intervals, strict=True)
    }

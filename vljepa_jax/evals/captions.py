"""CIDEr-D, the score of written captions.

It (Vedantam et al. 2015, arXiv 1411.5726) compares n-grams weighted by how rare they are: the
formulas are those of pycocoevalcap's ``cider`` module, whose values these equal on texts that are
tokenised alike. All values are x 100, as in the paper of VL-JEPA.

Tokenizer rule: a text is put in lower case, and its tokens are runs of letters, digits and inner
apostrophes ("don't" is one token); everything else separates and is dropped. pycocoevalcap
tokenises with the Stanford PTB tokenizer in Java, which does nearly the same to captions; the
difference shows in contractions and hyphens. Of published figures one must know the tokenizer
before comparing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LONGEST = 4  # words of an n-gram
_SIGMA = 6.0  # of the Gaussian penalty on a difference in length

NGram = tuple[str, ...]


def tokenise(text: str) -> list[str]:
    """The words of a text, by the rule of this module: "It's a RED-car." -> it's a red car."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


class CiderD:
    """CIDEr-D against a corpus of references, x 100; the score of the corpus is the mean.

    All references together are the corpus in which the rarity of n-grams is counted, so that a
    pair's score depends on the others. With one pair alone every n-gram is in every document, and
    the score is 0. As in the reference, a text's length is counted in bigrams.

    Args:
        references: [n] one or more references of each text, as tokens.

    Raises:
        ValueError: there are none, or a text has none.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        if not references or not all(references):
            raise ValueError(
                f"{len(references)} sets of references: each text needs at least one reference"
            )
        counted = [[_ngrams(reference) for reference in group] for group in references]
        self._documents: Counter[NGram] = Counter()
        for group in counted:
            self._documents.update(set().union(*group))
        self._log_pairs = math.log(len(references))
        self._references = [[self._weighted(counts) for counts in group] for group in counted]

    def __call__(self, candidates: Sequence[Sequence[str]]) -> np.ndarray:
        """Float64 [n], between 0 and 1000, of the tokens of each written text.

        Raises:
            ValueError: there are not as many as sets of references.
        """
        if len(candidates) != len(self._references):
            raise ValueError(
                f"{len(candidates)} texts and {len(self._references)} sets of references"
            )
        scores = np.empty(len(candidates))
        for index, (candidate, group) in enumerate(zip(candidates, self._references, strict=True)):
            written = self._weighted(_ngrams(candidate))
            similar = [written.similarity(reference) for reference in group]
            scores[index] = 1000 * np.mean(similar)  # the module's factor 10, x 100
        return scores

    def _weighted(self, counts: Counter[NGram]) -> _Vector:
        return _Vector(counts, self._documents, self._log_pairs)


class _Vector:
    """The n-grams of a text, of each length n apart, weighted by frequency and rarity."""

    def __init__(self, counts: Counter[NGram], documents: Counter[NGram], log_pairs: float) -> None:
        self.weights: list[dict[NGram, float]] = [{} for _ in range(_LONGEST)]
        for ngram, count in counts.items():
            rarity = log_pairs - math.log(max(1, documents[ngram]))
            self.weights[len(ngram) - 1][ngram] = count * rarity
        self.norms = [math.sqrt(sum(w * w for w in group.values())) for group in self.weights]
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def similarity(self, reference: _Vector) -> float:
        """The mean over n of the clipped cosine, with the penalty on the length."""
        total = 0.0
        for own, other, norm, other_norm in zip(
            self.weights, reference.weights, self.norms, reference.norms, strict=True
        ):
            if norm and other_norm:
                dot = sum(min(w, other[g]) * other[g] for g, w in own.items() if g in other)
                total += dot / (norm * other_norm)
        penalty = math.exp(-((self.length - reference.length) ** 2) / (2 * _SIGMA**2))
        return total / _LONGEST * penalty


def _ngrams(tokens: Sequence[str]) -> Counter[NGram]:
    return Counter(
        tuple(tokens[start : start + n])
        for n in range(1, _LONGEST + 1)
        for start in range(len(tokens) - n + 1)
    )

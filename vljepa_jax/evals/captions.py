"""CIDEr-D, the score of written captions.

It (Vedantam et al. 2015, arXiv 1411.5726) compares n-grams weighted by how rare they are: the
formulas are those of pycocoevalcap's ``cider`` module, whose values these equal on texts that are
tokenised alike. All values are x 100, as in the paper of VL-JEPA.

There are two rules of tokens. ``tokenise``: a text is put in lower case, and its tokens are runs of
letters, digits and inner apostrophes ("don't" is one token); everything else separates and is
dropped. ``tokenise_ptb``: those of the Penn Treebank, as pycocoevalcap has them, which runs
Stanford's tokenizer (CoreNLP 3.4.1) in Java and drops a list of punctuation; published figures are
of these. Without Java it is done here by a regular expression, which differs where words run into
signs (5.5mm, end.Begin); ``make test-parity`` compares both where there is a Java.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# Other quotes and dashes, as the Treebank writes them.
_PTB_PLAIN = str.maketrans({"‘": "`", "’": "'", "“": '"', "”": '"', "–": "--", "—": "--"})
# In lower case, as the brackets come, pycocoevalcap does not know them for punctuation.
_PTB_REPLACED = {
    "(": ("-lrb-",),
    "[": ("-lsb-",),
    "{": ("-lcb-",),
    ")": ("-rrb-",),
    "]": ("-rsb-",),
    "}": ("-rcb-",),
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
}
_PTB_DROPPED = frozenset(['"', "`", "'", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
_PTB_TOKEN = re.compile(
    r"""
      https?://\S+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | (?:[a-z]\.){2,}  # u.s., a.m.
    | (?:mr|mrs|ms|dr|prof|rev|st|mt|ave|blvd|jr|sr|vs|etc|inc|ltd|co|corp|gen|rep|sen|ph\.d
        |jan|feb|mar|apr|jun|jul|aug|sept|oct|nov|dec)\.
    | [#@][^\W\d]\w*
    | \d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s)?(?![\w-])  # 1,000 and 3.5, not the 8 of 8-wheeler
    | o'clock\b | ma'am\b | 'n' | '\d0s\b
    | [^\W\d_]+?(?=n't\b) | n't\b | '(?:s|m|d|ll|re|ve)\b  # do n't, it 's
    | \w+(?:[-/_&]\w+)*?(?=n't\b) | \w+(?:[-/_&]\w+)*
    | \.{3,} | -{2,} | [?!]+ | \S
    """,
    re.VERBOSE,
)
_LONGEST = 4  # words of an n-gram
_SIGMA = 6.0  # of the Gaussian penalty on a difference in length

NGram = tuple[str, ...]


def tokenise(text: str) -> list[str]:
    """The words of a text, by the rule of this module: "It's a RED-car." -> it's a red car."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def tokenise_ptb(text: str) -> list[str]:
    """The Treebank's tokens without punctuation: "It's a RED-car." -> it 's a red-car."""
    tokens: list[str] = []
    for token in _PTB_TOKEN.findall(text.translate(_PTB_PLAIN).lower()):
        tokens += _PTB_REPLACED.get(token, (token,))
    return [token for token in tokens if token not in _PTB_DROPPED]


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

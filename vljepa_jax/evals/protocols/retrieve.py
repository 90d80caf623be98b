"""Retrieval: Ŝ_Y of every clip ranked against S_Y of a caption, and captions against a clip."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vljepa_jax.evals import metrics
from vljepa_jax.evals.examples import ClipRef, Example
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.protocols.base import (
    SHOWN,
    Embeddings,
    Needs,
    Outcome,
    Outcomes,
    Protocol,
    Scores,
    shown_options,
)
from vljepa_jax.inference.search.exact import rank


class Retrieve(Protocol):
    """Recall at k and the median rank among the clips of the benchmark, or among its captions.

    Perception Encoder's rules: equal captions share their clips, and one correct item among the
    first k is enough, whichever of several it is.
    """

    intro = f"The {SHOWN} clips nearest to the caption, best first, out of the whole gallery."

    @property
    def suffixes(self) -> tuple[str, ...]:
        own = [f"_r{k}" for k in self.parameters.k]
        own += ["_median_rank"] if self.parameters.median_rank else []
        return (*own, *([f"_v2t{name}" for name in own] if self.parameters.video_to_text else ()))

    def keep(self, examples: Sequence[Example]) -> list[Example]:
        """The first example of each meaning, where meanings are known.

        Two captions of one meaning cannot be told apart by a correct model; the gallery holds the
        clip of the first alone.
        """
        seen: set[str] = set()
        kept = []
        for example in examples:
            if not example.meaning or example.meaning not in seen:
                kept.append(example)
            seen.add(example.meaning)
        return kept

    def needs(self, examples: Sequence[Example]) -> Needs:
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
            self.require(example, bool(example.texts), "has no caption")
        captions = _captions(examples)
        return Needs(frozenset(_gallery(captions).items()), frozenset(text for _, text in captions))

    def score(self, examples: Sequence[Example], embeddings: Embeddings) -> Scores:
        captions = _captions(examples)
        gallery = list(_gallery(captions).items())
        row_of = {clip: row for row, (clip, _) in enumerate(gallery)}
        texts = [text for _, text in captions]
        text = np.stack([embeddings.texts[t] for t in texts])
        unreadable = np.full(text.shape[1], np.nan, text.dtype)
        embedded = [embeddings.videos[item] for item in gallery]
        video = np.stack([unreadable if e is None else e for e in embedded])
        positives = metrics.shared_positives(texts, [row_of[e.clip] for e, _ in captions])
        clips = [clip for clip, _ in gallery]
        found = rank(text, video, positives, SHOWN)
        # A caption whose every correct clip is unreadable cannot be found: it is wrong.
        lost = [all(embedded[row] is None for row in rows) for rows in positives]
        ranks = [None if gone else n for gone, n in zip(lost, found.ranks.tolist(), strict=True)]

        def outcome(index: int) -> Outcome:
            example, caption = captions[index]
            best, gone = found.nearest, lost[index]
            correct = positives[index]
            shown = shown_options(clips, best.rows[index], best.scores[index], correct)
            return Outcome(
                id=example.id,
                clip=None,
                question=caption,
                options=() if gone else shown,
                gold=clips[min(correct) if gone else found.correct[index]],
                rank=ranks[index],
                unreadable=tuple(clips[row] for row in sorted(correct)) if gone else (),
            )

        measured = self._metrics(ranks, positives, len(clips))
        if self.parameters.video_to_text:
            inverted: list[set[int]] = [set() for _ in clips]
            for caption, rows in enumerate(positives):
                for row in rows:
                    inverted[row].add(caption)
            backwards = rank(video, text, inverted, 1).ranks.tolist()
            ranks_of_clips = [
                None if e is None else n for e, n in zip(embedded, backwards, strict=True)
            ]
            own = self._metrics(ranks_of_clips, inverted, len(captions))
            measured |= {f"_v2t{name}": metric for name, metric in own.items()}
        return Scores(Outcomes(ranks, outcome), measured)

    def _metrics(
        self, ranks: Sequence[int | None], positives: Sequence[Collection[int]], items: int
    ) -> dict[str, Metric]:
        found = {
            f"_r{k}": metrics.proportion(
                metrics.in_top_k(ranks, k), metrics.recall_chance(positives, items, k)
            )
            for k in self.parameters.k
        }
        if self.parameters.median_rank:
            found["_median_rank"] = metrics.median_rank(ranks, items)
        return found


def _captions(examples: Sequence[Example]) -> list[tuple[Example, str]]:
    """Every text is a query, as in MSVD; where an example stands for its meaning, its first."""
    return [(e, text) for e in examples for text in (e.texts[:1] if e.meaning else e.texts)]


def _gallery(captions: Sequence[tuple[Example, str]]) -> dict[ClipRef, str]:
    """Distinct clips, each with the query it is embedded under: that of its first caption."""
    gallery: dict[ClipRef, str] = {}
    for example, _ in captions:
        gallery.setdefault(example.clip, example.query)
    return gallery

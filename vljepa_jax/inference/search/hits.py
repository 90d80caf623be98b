"""Hits of a search: the nearest rows of an index, with those that say the same folded into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vljepa_jax.data.collection import Item, Span

if TYPE_CHECKING:  # an index picks hits by this module
    from vljepa_jax.inference.search.index import Entry

# Cosine of two rows from which on commands show one hit. With the demo, no two of the 875 inputs of
# the world's test split are nearer than 0.974, and copies of half the size have 0.993 or more.
FOLD = 0.99


class Hit(NamedTuple):
    """A clip, or a window of one, that a search found.

    Attributes:
        name: of the clip; a path, where it is a file.
        start, end: seconds of the window; ``None`` where the clip was embedded whole.
        score: cosine similarity to the query.
        item: to read it by.
        novelty: over 1, it is unlike what the model was trained on; ``None`` if not known.
        match: whether its model's calibration takes it for a match; ``None`` where none tells.
        folded: rows that are not shown for its sake, best first (``VideoIndex.search``).
    """

    name: str
    start: float | None
    end: float | None
    score: float
    item: Item
    novelty: float | None = None
    match: bool | None = None
    folded: tuple[Hit, ...] = ()

    def overlaps(self, span: Span | None) -> bool:
        """Whether a span of the same clip has a moment in common with it."""
        if self.start is None or span is None:
            return True
        return self.start < span[1] and span[0] < self.end


class Row(NamedTuple):
    """One embedding of an index: the ``place``-th of a clip."""

    entry: Entry
    place: int

    @property
    def span(self) -> Span | None:
        return self.entry.spans[self.place]

    @property
    def novelty(self) -> float | None:
        return self.entry.novelty[self.place] if self.entry.novelty else None


class Picker:
    """Takes the rows nearest to one query, best first, and picks hits among them.

    Attributes:
        hits: so far.
        vectors: their embeddings, where ``fold`` is given.
    """

    def __init__(
        self,
        row_of: Callable[[int], Row],
        vector_of: Callable[[int], Float[np.ndarray, " e"]],
        top: int,
        each_once: bool,
        fold: float | None,
        threshold: float | None,
    ) -> None:
        """See ``VideoIndex.search``.

        Args:
            row_of: a row by its number.
            vector_of: its embedding.

        Raises:
            ValueError: the threshold is no cosine, or ``fold`` is none above 0.
        """
        if threshold is not None and not -1 <= threshold <= 1:
            raise ValueError(
                f"threshold is {threshold}, where a cosine, from -1 to 1, is asked for"
            )
        if fold is not None and not 0 < fold <= 1:
            raise ValueError(f"fold is {fold}, where a cosine over 0 is asked for")
        self.hits: list[Hit] = []
        self.vectors: list[np.ndarray] = []
        self._row_of, self._vector_of, self._top = row_of, vector_of, top
        self._each_once, self._fold, self._threshold = each_once, fold, threshold

    def take(self, scores: Float[np.ndarray, " k"], rows: Int[np.ndarray, " k"]) -> bool:
        """Takes rows, none of them better than one before, -1 for none.

        Returns:
            Whether rows that come after these may be hits.
        """
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row < 0 or (self._threshold is not None and score < self._threshold):
                return False
            entry, place = found = self._row_of(row)
            hit = Hit(
                entry.item.name, *(found.span or (None, None)), score, entry.item, found.novelty
            )
            vector = None if self._fold is None else self._vector_of(row)
            own = self._covers(hit, found.span, vector)
            if own is not None:
                kept = self.hits[own]
                self.hits[own] = kept._replace(folded=(*kept.folded, hit))
            elif len(self.hits) < self._top:
                self.hits.append(hit)
                if vector is not None:
                    self.vectors.append(vector)
        return len(self.hits) < self._top

    def _covers(self, hit: Hit, span: Span | None, vector: np.ndarray | None) -> int | None:
        """The number of the hit that this one is folded into."""
        for number, kept in enumerate(self.hits):
            if kept.name == hit.name and (self._each_once or kept.overlaps(span)):
                return number
        if vector is not None and self.hits:
            cosines = np.stack(self.vectors) @ vector
            if cosines.max() >= self._fold:
                return int(cosines.argmax())
        return None

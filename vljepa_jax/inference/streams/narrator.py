"""Saying what a stream shows, only when it changes.

A ``Narrator`` takes the embedding of each window, finds the segments online and says each once:
when it has ended or, so that something lasting is told while it lasts, when it has been open for
``patience`` seconds. What would repeat the text before is not said. This is plain numpy; reading
the source is ``window_reader``'s, and what is told to people ``launch/stream.py``'s.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from vljepa_jax.inference.labels import mean_embedding
from vljepa_jax.inference.streams.online_segmentation import Change, OnlineSegmenter
from vljepa_jax.inference.streams.timeline import FRAMES, Spoken, Timeline, thumbnail
from vljepa_jax.json_text import other_encoding, text_encoding

_TICKS_KEPT, _TEXTS_KEPT = 4_096, 64  # of a timeline, however long the stream
_WINDOWS_JUDGED, _EXCEPTIONS = 8, 1
NONE = "none of these"  # said where no label holds


@dataclasses.dataclass(frozen=True)
class Said:
    """One line.

    Attributes:
        start, end: seconds of the stream that it is said of; ``end`` is the latest known.
        text: decoded, or the best label.
        scores: cosine of every label, best first; empty without labels.
        new: whether it differs from what was said before: only then it is printed.
    """

    start: float
    end: float
    text: str
    scores: Mapping[str, float]
    new: bool


def read_lines(path: str, encoding: str | None = None) -> list[str]:
    """The lines of a text file that a person wrote, stripped, without empty ones.

    Args:
        encoding: of the file; ``None`` for UTF-8 or UTF-16, as it shows.

    Raises:
        ValueError: it is in another encoding.
        OSError: it cannot be read.
    """
    encoding = encoding or text_encoding(Path(path))
    try:
        with open(path, encoding=encoding) as file:
            return [line.strip() for line in file if line.strip()]
    except UnicodeError as error:
        raise ValueError(other_encoding(path, encoding, error)) from error


class Labels:
    """Open-vocabulary labels to choose from, each of one text or several of one meaning.

    A label holds where its cosine reaches its threshold; one without a threshold, where it is the
    best of all.
    """

    def __init__(
        self,
        names: Sequence[str],
        embeddings: Float[np.ndarray, "n e"],
        thresholds: Sequence[float | None] | None = None,
        floor: Callable[[], float | None] = lambda: None,
    ) -> None:
        """See the class.

        Args:
            thresholds: of each label; ``None`` takes the floor.
            floor: the threshold of the others at present; ``None`` for none.
        """
        self.names = tuple(names)
        self._embeddings = embeddings
        own = [None] * len(self.names) if thresholds is None else thresholds
        self._thresholds = dict(zip(self.names, own, strict=True))
        self._floor = floor

    @classmethod
    def read(
        cls,
        path: str,
        embed_text: Callable[[Sequence[str]], Float[np.ndarray, "n e"]],
        encoding: str | None = None,
        floor: Callable[[], float | None] = lambda: None,
    ) -> Labels:
        """Reads a file of labels, one a line: "a dog", "a dog | a puppy", "a dog | a puppy >= 0.4".

        Raises:
            ValueError: it holds no label, one of them twice, a threshold that is no cosine, or a
                single label without a threshold; or it is in another encoding, see ``read_lines``.
            OSError: it cannot be read.
        """
        groups, thresholds = [], []
        for line in read_lines(path, encoding):
            wordings, least, number = line.partition(">=")
            if texts := [text.strip() for text in wordings.split("|") if text.strip()]:
                groups.append(texts)
                thresholds.append(_cosine(path, line, number) if least else None)
        counts = collections.Counter(texts[0] for texts in groups)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{path}: the label '{twice[0]}' is there more than once; remove one")
        if not groups:
            raise ValueError(f"{path}: holds no labels; write one a line")
        if thresholds == [None] and floor() is None:
            raise ValueError(
                f"{path}: a single label is always the best; give it a threshold, as in "
                f"'{groups[0][0]} >= 0.4', or calibrate the model (launch/calibrate.py)"
            )
        embedded = iter(embed_text([text for texts in groups for text in texts]))
        rows = [mean_embedding([next(embedded) for _ in texts]) for texts in groups]
        return cls([texts[0] for texts in groups], np.stack(rows), thresholds, floor)

    def scores(self, embedding: Float[np.ndarray, " e"]) -> dict[str, float]:
        """Cosine of every label, best first."""
        scores = self._embeddings @ embedding
        return {self.names[i]: float(scores[i]) for i in np.argsort(-scores, kind="stable")}

    def holding(self, scores: Mapping[str, float]) -> list[str]:
        """The labels that hold, best first; none is "none of these"."""
        floor, best = self._floor(), max(scores, key=scores.get)
        holding = []
        for name, score in scores.items():
            threshold = floor if self._thresholds[name] is None else self._thresholds[name]
            if name == best if threshold is None else score >= threshold:
                holding.append(name)
        return holding

    def say(self, embedding: Float[np.ndarray, " e"]) -> tuple[str, Mapping[str, float]]:
        """The best label that holds, or ``NONE``; and the scores of all."""
        scores = self.scores(embedding)
        return next(iter(self.holding(scores)), NONE), scores


def _cosine(path: str, line: str, number: str) -> float:
    try:
        threshold = float(number)
    except ValueError:
        threshold = math.nan
    if not -1 <= threshold <= 1:
        raise ValueError(
            f"{path}: '{line}': after >= comes a number from -1 to 1, not '{number.strip()}'"
        )
    return threshold


class Narrator:
    """Embeddings in, lines out.

    Attributes:
        windows: embeddings taken.
        decoded: how often a text was decoded, or labels were scored.
        time: seconds that the last embedding tells of, the middle of its window.
        change: its distance from the one before.
    """

    def __init__(
        self,
        say: Callable[[Float[np.ndarray, " e"]], tuple[str, Mapping[str, float]]],
        segmenter: Callable[[], OnlineSegmenter],
        *,
        window: float,
        patience: float,
    ) -> None:
        """See the module.

        Args:
            say: the text of an embedding, and scores if there are any.
            segmenter: makes a new one, where a stream begins anew.
            window: seconds that an embedding sees; what it tells of lies in the middle.
            patience: seconds; 0 waits for the end of every segment.
        """
        self.windows = self.decoded = 0
        self.time = self.change = 0.0
        self._say, self._make, self._window, self._patience = say, segmenter, window, patience
        self._last_text: str | None = None
        self._restart()

    def restart(self) -> Said | None:
        """Says what is open, and begins anew: what comes next does not follow."""
        said = self._close(self._segmenter.so_far())
        self._restart()
        self._last_text = None
        return said

    def feed(self, end: float, embedding: Float[np.ndarray, " e"]) -> list[Said]:
        """Takes the embedding of a window that ends at ``end`` seconds; gives what to say."""
        self.windows += 1
        time = self.time = end - self._window / 2
        self._times.append(time)
        self.change = (
            0.0 if self._before is None else float(np.linalg.norm(embedding - self._before))
        )
        self._before = embedding
        change = self._segmenter.update(embedding)
        said = []
        if change is not None:
            said.append(self._close(change))
            self._open_at, self._told = self._time_of(change.end), False
        elif self._open_at is None:
            self._open_at = time
        if self._patience and not self._told and time - self._open_at >= self._patience:
            self._told = True
            said.append(self._tell(self._open_at, time, self._segmenter.so_far().averaged))
        return [line for line in said if line is not None]

    def _restart(self) -> None:
        self._segmenter = self._make()
        # Times of the last ticks: splits lie among them.
        self._times: collections.deque[float] = collections.deque(maxlen=self._segmenter.window)
        self._before: np.ndarray | None = None
        self._open_at: float | None = None  # seconds at which the open segment began
        self._until = -math.inf  # seconds up to which something was said
        self._told = False  # whether the open segment was said already

    def _close(self, change: Change | None) -> Said | None:
        if change is None or self._told:
            return None
        # A segment lasts until the next begins; of the last, nobody knows more than its ticks.
        end = min(change.end, self._segmenter.tick - 1)
        return self._tell(self._open_at, self._time_of(end), change.averaged)

    def _tell(self, start: float, end: float, embedding: np.ndarray) -> Said:
        # A split may be found before what was told while it lasted: no second is told of twice.
        start = min(max(start, self._until), end)
        self._until = end
        text, scores = self._say(embedding)
        self.decoded += 1
        new = text != self._last_text
        self._last_text = text
        return Said(start, end, text, scores, new)

    def _time_of(self, tick: int) -> float:
        """Seconds that a recent tick tells of."""
        return self._times[tick - self._segmenter.tick]


class Familiarity:
    """Whether a stream is like the clips that its model was trained on."""

    def __init__(self) -> None:
        self._latest: collections.deque[float] = collections.deque(maxlen=_WINDOWS_JUDGED)
        self._unlike = False

    def feed(self, novelty: float) -> bool:
        """Takes the novelty of the next window; whether the stream is unlike training by now.

        That changes when all of the latest windows but one say the same: a single event may look
        like nothing in training. NaN, of no calibration, never does.
        """
        self._latest.append(novelty)
        votes = sum(number > 1 for number in self._latest)
        if votes >= _WINDOWS_JUDGED - _EXCEPTIONS:
            self._unlike = True
        elif votes <= _EXCEPTIONS:
            self._unlike = False
        return self._unlike


class TimelineRecorder:
    """Gathers a picture of a stream in constant memory: a longer stream is shown more coarsely.

    Of the texts, the latest are kept.
    """

    def __init__(self) -> None:
        self._ticks = _Thinned(_TICKS_KEPT)
        self._frames = _Thinned(2 * FRAMES)
        self._spoken: collections.deque[Spoken] = collections.deque(maxlen=_TEXTS_KEPT)

    def tick(self, time: float, change: float, frame: np.ndarray) -> None:
        """Takes one window's embedding change and one of its frames, uint8 [H, W, 3]."""
        self._ticks.add(lambda: (time, change))
        self._frames.add(lambda: (time, thumbnail(Image.fromarray(frame))))

    def say(self, said: Said) -> None:
        self._spoken.append(Spoken(said.start, said.end, (said.start + said.end) / 2, said.text))

    def timeline(self) -> Timeline:
        """The picture of all that was gathered so far."""
        ticks = np.array(self._ticks.items, float).reshape(-1, 2)
        frames = self._frames.items
        shown = [frames[i * len(frames) // FRAMES] for i in range(FRAMES)] if frames else []
        return Timeline(shown, ticks[:, 0], ticks[:, 1], tuple(self._spoken))


class _Thinned:
    """Every n-th of what it is given, n doubling whenever there are too many."""

    def __init__(self, limit: int) -> None:
        self.items: list = []
        self._limit, self._stride, self._seen = limit, 1, 0

    def add(self, item: Callable[[], object]) -> None:
        if self._seen % self._stride == 0:
            self.items.append(item())
            if len(self.items) >= self._limit:
                self.items = self.items[::2]
                self._stride *= 2
        self._seen += 1

"""Frames one at a time -> the clips of windows that slide over them.

The clip of a window is what ``load_clip`` gives for that span of the file. Windows overlap, and
what they share is prepared once: a frame is converted and resized when it comes, if some window
shows it, and is kept only as long as one can. So memory is constant and frames that no window
shows cost nothing.

The X-Encoder itself cannot share work between overlapping windows without changing results: its
attention is bidirectional over the whole clip, so every token depends on every frame.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vljepa_jax.config import VideoInput
from vljepa_jax.data.records import ROUNDING
from vljepa_jax.data.video import fit_frame

_EPSILON = 1e-9  # seconds; of ticks that are sums of floats


@dataclasses.dataclass(frozen=True)
class Window:
    """One window of a stream.

    Attributes:
        end: seconds of the stream at which it ends.
        clip: [frames, size, size, 3], ready for the model.
    """

    end: float
    clip: UInt8[np.ndarray, "T H W 3"]


class SlidingWindow:
    """Cuts windows of a fixed length from a stream of frames, at a fixed rate.

    The first window begins with the first frame; windows end ``1 / ticks_per_second`` apart.

    Attributes:
        seconds: length of a window.
    """

    def __init__(self, video: VideoInput, *, seconds: float, ticks_per_second: float) -> None:
        """Takes number, size and preprocessing of the clip's frames from ``video``.

        Raises:
            ValueError: a length or a rate that is not positive.
        """
        if not seconds > 0 or not ticks_per_second > 0:
            raise ValueError(
                f"window = {seconds} s at {ticks_per_second} per second: both must be positive"
            )
        self.seconds = seconds
        self._step = 1 / ticks_per_second
        self._video = video
        # Moments of a window's frames, from its end: negative.
        self._moments = ((np.arange(video.frames) + 0.5) / video.frames - 1) * seconds
        self.restart()

    def restart(self) -> None:
        """Forgets all frames: what comes next does not follow them."""
        self._first = 0.0  # when the stream began
        self._ticks = 0  # windows given since
        self._shown: collections.deque[tuple[float, np.ndarray]] = collections.deque()
        self._latest: tuple[float, Callable[[], Image.Image]] | None = None

    def push(self, time: float, frame: Callable[[], Image.Image]) -> Iterator[Window]:
        """Takes the next frame and yields the windows that end at or before it.

        Args:
            time: seconds at which it begins to be shown; at the same time as the frame before, it
                takes its place.
            frame: gives the frame, RGB; called once at most, and only if a window shows it.

        Raises:
            ValueError: the time is before that of the frame before.
        """
        begins = time - ROUNDING  # as in VideoFile: containers round
        if self._latest is None:
            self._first = time
        elif begins < self._latest[0]:
            last = self._latest[0] + ROUNDING
            raise ValueError(f"a frame at {time:.3f} s follows one at {last:.3f} s")
        elif begins > self._latest[0]:
            yield from self._show_until(begins)
        self._latest = (begins, frame)

    def finish(self, end: float) -> Iterator[Window]:
        """Yields the last windows, those that end by ``end``, when the last frame stops showing."""
        if self._latest is not None:
            yield from self._show_until(end + _EPSILON)

    def _show_until(self, time: float) -> Iterator[Window]:
        """Yields windows ending by ``time``, until which the latest frame is shown."""
        begins, frame = self._latest
        if self._is_shown(begins, time):
            self._shown.append((begins, fit_frame(frame(), self._video)))
        while (end := self._end()) <= time + ROUNDING:
            yield Window(end, self._clip(end))
            self._ticks += 1
            # The oldest frame that a later window shows is the last one at its first moment.
            oldest = self._end() + self._moments[0]
            while len(self._shown) > 1 and self._shown[1][0] <= oldest + _EPSILON:
                self._shown.popleft()

    def _end(self) -> float:
        return self._first + self.seconds + self._ticks * self._step

    def _is_shown(self, begins: float, ends: float) -> bool:
        """Whether a moment of any window that is still to come lies in [begins, ends)."""
        base = self._first + self.seconds + self._moments  # moments of the first window
        ticks = np.ceil((begins - base - _EPSILON) / self._step)
        ticks = np.maximum(ticks, self._ticks)
        return bool((base + ticks * self._step < ends - _EPSILON).any())

    def _clip(self, end: float) -> np.ndarray:
        times = [time for time, _ in self._shown]
        indices = np.searchsorted(times, end + self._moments + _EPSILON, side="right") - 1
        return np.stack([self._shown[max(0, index)][1] for index in indices])


def window_count(seconds: float, window: float, ticks_per_second: float) -> int:
    """How many windows a stream of so many seconds has."""
    return max(0, math.floor((seconds - window) * ticks_per_second + 1e-6) + 1)

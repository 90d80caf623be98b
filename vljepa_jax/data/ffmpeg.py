"""Reading video files through PyAV (FFmpeg's libraries).

One pass over a span's packets, undecoded, finds the timestamps and the keyframes; of the same
packets only what the wanted frames need is decoded. A file's time starts where its container's
does, and timestamps are the file's own, so variable frame rates are right. Neither seeks nor the
leaving out of frames are trusted: the frame that comes must have the timestamp that the packets
promised, else the file is decoded from its first frame.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, NoReturn

import av
from PIL import Image

from vljepa_jax.data.media_errors import reading
from vljepa_jax.data.packet_reader import PacketReader
from vljepa_jax.data.records import ROUNDING, ClipError, Medium, clip_error

# Frames that must be left out before a seek is cheaper than decoding through them.
_SEEK_GAIN = 8
# Spans that start before this are read from the beginning of the file.
_SEEK_SECONDS = 2.0
# A file whose frames end this much before its header says is truncated.
_MISSING_SECONDS, _MISSING_SHARE = 0.5, 0.1
# Timestamps beyond this are damaged: windows over such a video would never end.
_LONGEST_SECONDS = 1e7  # four months


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Where the frames of a video's span are.

    Attributes:
        origin: where the file's time starts, in ticks.
        tick: seconds of one tick.
        stamps: sorted timestamps of the frames read, in ticks.
        keyframes: sorted timestamps from which decoding can start; empty where frames must be
            decoded from the file's first one on, as their timestamps are known in no other way.
        end: seconds of the file at which the last frame read ends.
    """

    origin: int
    tick: Fraction
    stamps: list[int]
    keyframes: list[int]
    end: float

    def stamp(self, seconds: float) -> int:
        """The timestamp at or before which the frame shown at ``seconds`` begins."""
        return self.origin + int((seconds + ROUNDING) // float(self.tick))

    def seconds(self, stamp: int) -> float:
        """Seconds of the file at a timestamp."""
        return float((stamp - self.origin) * self.tick)

    def shown(self, stamp: int) -> int:
        """The timestamp of the frame that is shown at ``stamp``: the first one before it begins."""
        return self.stamps[max(0, bisect.bisect_right(self.stamps, stamp) - 1)]

    def keyframe(self, stamp: int) -> int | None:
        """The last keyframe at or before ``stamp``, if any."""
        index = bisect.bisect_right(self.keyframes, stamp)
        return self.keyframes[index - 1] if index else None

    def seek_pays(self, position: int, keyframe: int) -> bool:
        """Whether a seek to ``keyframe`` beats decoding on from ``position``.

        Packets before the span were not read, so frames there cannot be counted: that is far.
        """
        if keyframe <= position:
            return False
        between = bisect.bisect_left(self.stamps, keyframe) - bisect.bisect_left(
            self.stamps, position
        )
        return position < self.stamps[0] or between > _SEEK_GAIN


class PlayedFrame(NamedTuple):
    """A frame of a video that is played from its beginning.

    Attributes:
        begin, end: seconds of the video between which it is shown.
        image: gives it as RGB.
    """

    begin: float
    end: float
    image: Callable[[], Image.Image]


class _Trust(enum.IntEnum):
    """Degrees of trust in a file's index, from much to little."""

    SKIP = 0  # its keyframes, and that what nothing is built on can be left out
    SEEK = 1  # its keyframes
    NOTHING = 2


@dataclasses.dataclass
class _Run:
    """Frames that are decoded one after the other.

    Attributes:
        frames: those to come, with their timestamps.
        sound: whether the first one is the keyframe that the file promised.
        shown: the frame that is shown at the moment reached, with its timestamp.
        ahead: the one after it.
    """

    frames: Iterator[tuple[int, av.VideoFrame]]
    sound: bool
    shown: tuple[int, av.VideoFrame] | None
    ahead: tuple[int, av.VideoFrame] | None

    @property
    def position(self) -> int:
        return (self.ahead or self.shown)[0]

    def advance(self, stamp: int) -> None:
        while self.ahead is not None and (self.shown is None or self.ahead[0] <= stamp):
            # Moments before the first frame show the first.
            self.shown, self.ahead = self.ahead, next(self.frames, None)


class VideoFile:
    """A video opened for reading; a context manager."""

    def __init__(self, medium: Medium):
        """Opens it.

        Args:
            medium: the encoded file and the span of it that is wanted.

        Raises:
            ClipError: it is missing, or no video.
        """
        self._reader = PacketReader(medium)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.__exit__(*exception)

    @property
    def form(self) -> str:
        """FFmpeg's name of the container's format, several where they are one format."""
        return self._reader.form

    def timeline(self) -> Timeline:
        """Reads the packets of the span, from the keyframe before it to its end.

        Raises:
            ClipError: the file is truncated or damaged, or has no frames in the span.
        """
        timeline, at_end = self._scan() or self._decoded()
        medium, seconds = self._reader.medium, timeline.end
        declared = self._reader.declared_end(timeline.origin)
        if not timeline.stamps:
            raise clip_error(medium, "has no frames")
        self._check_time(seconds)
        whole = at_end and self._reader.is_whole()
        missing = declared - seconds > max(_MISSING_SECONDS, _MISSING_SHARE * declared)
        if at_end and missing and not whole:
            raise clip_error(medium, f"truncated, {seconds:.2f} of {declared:.2f} s are there")
        if at_end and (whole or "matroska" in self._reader.form):
            # Matroska's blocks need not say how long the last frame is shown. MP4 stores lengths in
            # the order of decoding, in which the frame shown last need not be the last.
            timeline = dataclasses.replace(timeline, end=max(seconds, declared))
        if at_end and medium.start is not None and medium.start >= timeline.end:
            raise clip_error(
                medium, f"starts at {medium.start} s, but is {timeline.end:.2f} s long"
            )
        return timeline

    def decode(self, timeline: Timeline, targets: Sequence[int]) -> Iterator[Image.Image]:
        """Decodes the frame shown at each of the ascending timestamps ``targets``.

        Yields:
            One RGB image a target; the same object again where the same frame is shown.

        Raises:
            ClipError: the file is damaged.
        """
        wanted = {timeline.shown(target) for target in targets}
        trust = _Trust.SKIP if timeline.keyframes else _Trust.NOTHING
        run: _Run | None = None
        image, imaged = None, None  # of the frame ``imaged``
        for target in targets:
            while True:
                try:
                    if run is None or self._starts_anew(timeline, target, run, trust):
                        run = self._run(timeline, target, wanted, trust)
                    run.advance(target)
                    if _is_right(run, timeline.shown(target), trust):
                        break
                except ClipError:  # a decoder may not take a false keyframe
                    if trust is _Trust.NOTHING:
                        raise
                trust, run = _Trust(trust + 1), None
            if run.shown[1] is not imaged:
                imaged = run.shown[1]
                image = self._image(imaged)
            yield image

    def play(self) -> Iterator[PlayedFrame]:
        """Every frame of the file, span or not, from the first on, in constant memory.

        Their times never descend; where two are equal, the second is shown.

        Raises:
            ClipError: the file is damaged.
        """
        self._reader.rewind()
        decoder, origin = self._reader.decoder, self._reader.decoder.start
        for stamp, frame in self._play():
            origin = stamp if origin is None else origin
            begin = float((stamp - origin) * decoder.tick)
            end = begin + float((frame.duration or decoder.frame_ticks) * decoder.tick)
            self._check_time(end)
            yield PlayedFrame(begin, end, functools.partial(self._image, frame))

    # -----------------------------------------------------------------------------------------
    # Timestamps
    # -----------------------------------------------------------------------------------------
    def _scan(self) -> tuple[Timeline, bool] | None:
        """The frames that the packets announce, and whether they were read to the end of the file.

        ``None`` if the frames' timestamps cannot be told from them.
        """
        decoder, medium = self._reader.decoder, self._reader.medium
        origin = self._reader.origin()
        span = None  # where a seek has to land before
        if decoder.restarts and not self._reader.ascends():
            return None
        if medium.start is not None and medium.start > _SEEK_SECONDS:
            span = origin + int(medium.start // decoder.tick)
        stamps, keyframes, counted = [], [], False
        last, length = origin, 0  # the frame that is shown last, and for how long
        at_end = True
        with reading(self._reader.medium):
            packets = self._reader.from_keyframe(span, self._reader.limit(origin))
            for index, packet in enumerate(packets):
                if packet is None:
                    at_end = False
                    break
                if packet.is_corrupt:
                    raise clip_error(medium, "truncated, or parts are missing")
                if index == 0:
                    counted = decoder.counts(packet)
                stamp = packet.dts if counted else packet.pts
                if stamp is None:
                    return None
                if packet.is_keyframe and packet.size and not counted:
                    keyframes.append(stamp)
                if packet.is_discard:  # decoded, but not in what an edit list shows
                    continue
                if packet.size:  # an empty one repeats the frame before
                    stamps.append(stamp)
                if stamp >= last:
                    last, length = stamp, packet.duration or decoder.frame_ticks
        stamps.sort()
        keyframes.sort()
        seconds = float((last + length - origin) * decoder.tick)
        return Timeline(origin, decoder.tick, stamps, keyframes, seconds), at_end

    def _decoded(self) -> tuple[Timeline, bool]:
        """The same from the frames, all of them decoded from the first one on."""
        decoder, stamps, end, at_end = self._reader.decoder, [], 0, True
        self._reader.rewind()
        origin = decoder.start
        for stamp, frame in self._play():
            origin = stamp if origin is None else origin
            if stamps and stamp > self._reader.limit(origin):
                at_end = False
                break
            stamps.append(stamp)
            end = stamp + (frame.duration or decoder.frame_ticks)
        seconds = float((end - origin) * decoder.tick) if stamps else 0.0
        return Timeline(origin or 0, decoder.tick, stamps, [], seconds), at_end

    # -----------------------------------------------------------------------------------------
    # Packets and frames
    # -----------------------------------------------------------------------------------------
    def _run(self, timeline: Timeline, target: int, wanted: Collection[int], trust: _Trust) -> _Run:
        """Starts decoding where the frame shown at ``target`` can be reached."""
        keyframe = timeline.keyframe(target)
        if trust is _Trust.NOTHING:
            self._reader.rewind()
            frames = self._play()
            ahead = next(frames, None)
            if ahead is None:
                raise clip_error(self._reader.medium, "no frame could be decoded")
            return _Run(frames, True, None, ahead)
        start, packets = self._reader.seek(timeline.keyframes[0] if keyframe is None else keyframe)
        frames = self._stamped(packets, wanted if trust is _Trust.SKIP else None)
        if start is not None:  # pictures that lead the keyframe lack what they are built on
            frames = itertools.dropwhile(lambda frame: frame[0] < start.pts, frames)
        ahead = next(frames, None)
        sound = start is None or start.is_discard  # an edit list shows what comes after it
        if ahead is not None and not sound:
            sound = ahead[0] == start.pts and self._reader.decoder.is_key(ahead[1])
        return _Run(frames, sound, None, ahead)

    def _starts_anew(self, timeline: Timeline, target: int, run: _Run, trust: _Trust) -> bool:
        """Whether a seek is the shorter way to the frame shown at ``target``."""
        keyframe = timeline.keyframe(target)
        return (
            trust is not _Trust.NOTHING
            and self._reader.decoder.seekable
            and keyframe is not None
            and timeline.seek_pays(run.position, keyframe)
        )

    def _stamped(
        self, packets: Iterable[av.Packet], wanted: Collection[int] | None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with the timestamps that their packets have.

        A damaged frame is an error even where it is not wanted: the frames after it are built on
        it.
        """
        with reading(self._reader.medium):
            for frame in self._reader.decoder.frames(packets, wanted):
                if frame.is_corrupt:
                    self._refuse_frame(frame)
                if frame.pts is not None:
                    yield frame.pts, frame

    def _play(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """All frames, from where the file is opened on."""
        with reading(self._reader.medium):
            for stamp, frame in self._reader.decoder.play(self._reader.demux()):
                if frame.is_corrupt:
                    self._refuse_frame(frame)
                yield stamp, frame

    def _image(self, frame: av.VideoFrame) -> Image.Image:
        with reading(self._reader.medium):
            return self._reader.decoder.image(frame)

    def _check_time(self, seconds: float) -> None:
        if seconds > _LONGEST_SECONDS:
            raise clip_error(self._reader.medium, f"a frame is said to be {seconds:.1e} s in")

    def _refuse_frame(self, frame: av.VideoFrame) -> NoReturn:
        tick = self._reader.decoder.tick
        where = "" if frame.pts is None else f" at {float(frame.pts * tick):.2f} s"
        raise clip_error(self._reader.medium, f"the frame{where} is damaged")


def _is_right(run: _Run, expected: int, trust: _Trust) -> bool:
    """Whether a run of frames has come to the one that the packets promised.

    Without leaving any out, a frame missing is one that its packet never gave.
    """
    if run.shown is None or not run.sound:
        return False
    return trust is not _Trust.SKIP or run.shown[0] == expected

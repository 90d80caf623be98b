"""Reading and cutting video files through PyAV (FFmpeg's libraries).

One pass over a span's packets, undecoded, finds the timestamps and the keyframes; a second
decodes only what the wanted frames need. Timestamps are the file's own, so variable frame rates
are right. Decoding is single-threaded: loader workers are the parallelism.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, NoReturn

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from vljepa_jax.data.records import ROUNDING, Medium, clip_error

# Frames that must be left out before a seek is cheaper than decoding through them.
_SEEK_GAIN = 8
# Spans that start before this are read from the beginning of the file.
_SEEK_SECONDS = 2.0
# A file whose frames end this much before its header says is truncated.
_MISSING_SECONDS, _MISSING_SHARE = 0.5, 0.1
# AVI stores no presentation times: its frames are evenly spaced, in the order they are decoded.
_EVENLY_SPACED = {"avi"}

_ROTATIONS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Where the frames of a video's span are.

    Attributes:
        origin: timestamp of the video's first frame, in ticks.
        tick: seconds of one tick.
        stamps: sorted timestamps of the packets read, in ticks.
        keyframes: sorted timestamps from which decoding can start; empty where the format
            cannot seek exactly.
        end: seconds from the origin to the end of the last frame read.
    """

    origin: int
    tick: Fraction
    stamps: list[int]
    keyframes: list[int]
    end: float

    def stamp(self, seconds: float) -> int:
        """The timestamp at or before which the frame shown at ``seconds`` begins."""
        return self.origin + int((seconds + ROUNDING) // self.tick)

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


class VideoFile:
    """A video opened for reading; a context manager.

    Attributes:
        medium: the encoded file and the span of it that is wanted.
    """

    def __init__(self, medium: Medium):
        """Opens it.

        Raises:
            ClipError: it is missing, or no video.
        """
        self.medium = medium
        self._open()

    def _open(self) -> None:
        try:
            self._container = av.open(self.medium.path or io.BytesIO(self.medium.data))
        except FileNotFoundError as error:
            raise clip_error(self.medium, "no such file") from error
        except av.FFmpegError as error:
            self._refuse(error)
        if not self._container.streams.video:
            self._container.close()
            raise clip_error(self.medium, "holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self._evenly_spaced = self._container.format.name in _EVENLY_SPACED
        self._at_start = True

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def timeline(self) -> Timeline:
        """Reads the packets of the span, from the keyframe before it to its end.

        Raises:
            ClipError: the file is truncated, or has no frames in the span.
        """
        stream, medium = self._stream, self.medium
        tick, origin = stream.time_base, stream.start_time or 0
        stamps, keyframes, end, at_end = [], [], 0, True
        for packet in self._packets():
            if packet is None:
                at_end = False
                break
            stamp = len(stamps) if self._evenly_spaced else _stamp(packet)
            if packet.is_keyframe and not self._evenly_spaced:
                keyframes.append(stamp)
            stamps.append(stamp)
            end = max(end, stamp - origin + (packet.duration or _frame_ticks(stream)))
        seconds, declared = float(end * tick), _declared_seconds(self._container, stream)
        if not stamps:
            raise clip_error(medium, "has no frames")
        if at_end and declared - seconds > max(_MISSING_SECONDS, _MISSING_SHARE * declared):
            raise clip_error(medium, f"truncated, {seconds:.2f} of {declared:.2f} s are there")
        if at_end and medium.start is not None and medium.start >= seconds:
            raise clip_error(medium, f"starts at {medium.start} s, but is {seconds:.2f} s long")
        return Timeline(origin, tick, sorted(stamps), sorted(keyframes), seconds)

    def decode(self, timeline: Timeline, targets: Sequence[int]) -> Iterator[Image.Image]:
        """Decodes the frame shown at each of the ascending timestamps ``targets``.

        Yields:
            One RGB image a target; the same object again where the same frame is shown.

        Raises:
            ClipError: the file is damaged.
        """
        reformatter = VideoReformatter()  # one a video: setting it up costs more than its work
        wanted = {timeline.shown(target) for target in targets}
        seek = bool(timeline.keyframes)
        if not seek:
            self._rewind()
        frames, position = self._frames(wanted), None
        shown = ahead = image = None  # (timestamp, frame) not after the target; the next; shown's
        for target in targets:
            keyframe = timeline.keyframe(target)
            if seek and keyframe is None:
                keyframe = timeline.keyframes[0]
            if seek and (position is None or timeline.seek_pays(position, keyframe)):
                self._seek(keyframe)
                frames, shown = self._frames(wanted), None
                ahead = next(frames, None)
                if ahead is None or ahead[0] > max(target, keyframe):
                    self._rewind()  # the file's index is wrong: read it all
                    frames, ahead, seek = self._frames(wanted), None, False
            if shown is None and ahead is None:
                ahead = next(frames, None)
            before = shown
            while ahead is not None and ahead[0] <= target:
                shown, ahead = ahead, next(frames, None)
            shown = shown or ahead  # moments before the first frame show the first
            if shown is None:
                raise clip_error(self.medium, "no frame could be decoded")
            position = (ahead or shown)[0]
            if image is None or shown is not before:
                image = _image(shown[1], reformatter)
            yield image

    def play(self) -> Iterator[PlayedFrame]:
        """Every frame of the file, span or not, from the first on, in constant memory.

        Their times ascend: a frame that does not begin after the one before is left out.

        Raises:
            ClipError: the file is damaged.
        """
        self._rewind()
        stream, reformatter = self._stream, VideoReformatter()
        tick, origin = stream.time_base, 0 if self._evenly_spaced else stream.start_time or 0
        last = None
        for stamp, frame in self._frames():
            if last is not None and stamp <= last:
                continue
            last = stamp
            begin = float((stamp - origin) * tick)
            end = begin + float((frame.duration or _frame_ticks(stream)) * tick)
            yield PlayedFrame(begin, end, functools.partial(_image, frame, reformatter))

    def cut(self) -> Medium:
        """Copies the packets of the span, undecoded, into an embedded file of their own.

        Nothing is encoded anew, so the same frames come out; the copy begins at the keyframe
        before the span, and its start and end are moved accordingly. Sound is left out. AVI,
        which has no timestamps to cut at, is embedded whole.

        Raises:
            ClipError: the file cannot be read.
        """
        medium, timeline = self.medium, self.timeline()
        if self._evenly_spaced:
            data = medium.data or pathlib.Path(medium.path).read_bytes()
            return dataclasses.replace(medium, data=data, path="")
        first = timeline.keyframe(timeline.stamp(max(0.0, medium.start or 0.0)))
        if first is None:
            raise clip_error(medium, "has no keyframe at or before its start")
        form = "mp4" if "mp4" in self._container.format.name.split(",") else "matroska"
        buffer = io.BytesIO()
        self._rewind()
        with av.open(buffer, "w", format=form) as output:
            copy = output.add_stream_from_template(self._stream)
            copy.time_base = self._stream.time_base
            for packet in self._packets():
                if packet is None:
                    break
                stamp = _stamp(packet)
                if stamp < first:  # an earlier group, or frames that hang on one
                    continue
                packet.pts, packet.stream = stamp - first, copy
                packet.dts = None if packet.dts is None else packet.dts - first
                output.mux(packet)
        shift = float((first - timeline.origin) * timeline.tick)
        return Medium(
            data=buffer.getvalue(),
            start=None if medium.start is None else medium.start - shift,
            end=None if medium.end is None else medium.end - shift,
        )

    def _packets(self) -> Iterator[av.Packet | None]:
        """Packets from a keyframe before the span to its end; then ``None`` if more follow."""
        medium, tick, origin = self.medium, self._stream.time_base, self._stream.start_time or 0
        limit = None if medium.end is None else origin + int(max(0.0, medium.end) // tick) + 1
        if not self._evenly_spaced and medium.start is not None and medium.start > _SEEK_SECONDS:
            self._seek(origin + int(medium.start // tick))
        self._at_start = False
        first = True
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is None and packet.dts is None:  # the one that flushes the decoder
                    continue
                if packet.is_corrupt:
                    raise clip_error(medium, "truncated")
                # A frame before the limit may follow one after it, until the decoding time, which
                # is never after a frame's own, has passed it. One packet at least is given.
                passed = limit is not None and packet.dts is not None and packet.dts > limit
                if passed and not first:
                    yield None
                    return
                first = False
                yield packet
        except av.FFmpegError as error:
            self._refuse(error)

    def _frames(self, wanted: Collection[int] | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames with their timestamps, from where the file stands.

        A damaged frame is an error even where it is not wanted: the frames after it are built on
        it.

        Args:
            wanted: timestamps; others may be left out, where no frame is built on them.
        """
        self._at_start = False
        decoder, index = self._stream.codec_context, 0
        if self._evenly_spaced:
            wanted = None
        try:
            for packet in self._container.demux(self._stream):
                spared = wanted is not None and packet.pts is not None and packet.pts not in wanted
                decoder.skip_frame = "NONREF" if spared else "DEFAULT"
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise clip_error(self.medium, f"the frame at {frame.time:.2f} s is damaged")
                    if self._evenly_spaced:
                        yield index, frame
                    elif frame.pts is not None:
                        yield frame.pts, frame
                    index += 1
        except av.FFmpegError as error:
            self._refuse(error)

    def _seek(self, stamp: int) -> None:
        try:
            self._container.seek(stamp, stream=self._stream)
        except av.FFmpegError as error:
            self._refuse(error)

    def _rewind(self) -> None:
        """Back to the first packet, in any format."""
        if not self._at_start:
            self._container.close()
            self._open()

    def _refuse(self, error: av.FFmpegError) -> NoReturn:
        raise clip_error(self.medium, f"cannot be decoded ({error.strerror})") from error


def _stamp(packet: av.Packet) -> int:
    return packet.dts if packet.pts is None else packet.pts


def _image(frame: av.VideoFrame, reformatter: VideoReformatter) -> Image.Image:
    """The frame as RGB, turned as the file's display matrix says (phones record sideways)."""
    rgb = reformatter.reformat(frame, format="rgb24", threads=1)
    (plane,) = rgb.planes
    image = Image.frombuffer(
        "RGB", (rgb.width, rgb.height), plane, "raw", "RGB", plane.line_size, 1
    )
    rotation = frame.rotation % 360
    return image.transpose(_ROTATIONS[rotation]) if rotation in _ROTATIONS else image


def _frame_ticks(stream: av.VideoStream) -> int:
    rate = stream.average_rate or stream.guessed_rate
    return max(1, round(1 / (rate * stream.time_base))) if rate else 1


def _declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Length of the video stream as the header says; 0 where it does not."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska: "00:00:06.000000000"
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return 0.0

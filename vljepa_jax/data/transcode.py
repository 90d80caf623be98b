"""Encoding a span of a video anew, small and with many keyframes, so that any clip of it is cheap.

One encoder on one thread does it, so that the bytes depend on the file, the settings and the
version of FFmpeg alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from vljepa_jax.config import nearest
from vljepa_jax.data.ffmpeg import Timeline, VideoFile
from vljepa_jax.data.media_errors import reading
from vljepa_jax.data.records import ROUNDING, Medium, clip_error

# Of each codec FFmpeg's encoder, and options of one thread and about the quality of x264's default.
_ENCODERS = {
    # x264's macroblock tree gives other bytes from run to run on frames below 128 pixels.
    "h264": ("libx264", {"crf": "23", "preset": "veryfast", "x264-params": "mbtree=0"}),
    "hevc": (
        "libx265",
        {
            "crf": "26",
            "preset": "veryfast",
            "forced-idr": "1",  # else a picture that is asked for is no keyframe
            "x265-params": "pools=none:frame-threads=1:log-level=none",
        },
    ),
    "vp9": (
        "libvpx-vp9",
        {"crf": "32", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "0"},
    ),
    "av1": ("libsvtav1", {"crf": "32", "preset": "8", "svtav1-params": "lp=1"}),
}
_TICKS = 90_000  # a second
_SMPTE_170M = 6  # BT.601's matrix, as ITU-T H.273 numbers it


class EncodingError(ValueError):
    """Settings that no video can be encoded with; the message names the setting."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How videos are encoded.

    Attributes:
        codec: "h264", "hevc", "vp9" or "av1".
        short_side: pixels of the shorter side, even; smaller videos keep their size, 0 keeps all.
        fps: at most so many frames a second; 0 keeps all.
        keyframe_seconds: at most so long from a keyframe to the next.
    """

    codec: str = "h264"
    short_side: int = 0
    fps: float = 0.0
    keyframe_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.codec not in _ENCODERS:
            raise EncodingError(
                f"codec '{self.codec}' is none of {', '.join(_ENCODERS)}"
                f"{nearest(self.codec, _ENCODERS)}"
            )
        if self.short_side < 0 or self.short_side % 2:
            raise EncodingError(f"short_side = {self.short_side}: codecs want an even number")
        if self.fps < 0 or self.keyframe_seconds <= 0:
            raise EncodingError("fps is at least 0, and keyframe_seconds above 0")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, both even, of a picture that has these."""
        share = min(1.0, self.short_side / min(width, height)) if self.short_side else 1.0
        return tuple(max(2, 2 * round(side * share / 2)) for side in (width, height))


def transcode(medium: Medium, encoding: Encoding) -> Medium:
    """Encodes the frames of a span into an embedded MP4 of their own; sound is left out.

    Frames keep their times, so that each moment of the span shows the same one as before or, where
    ``encoding.fps`` leaves it out, the last before it. They are turned, of square pixels, and over
    white, as ``load_clip`` shows them. The new file's time starts at its first frame, and the
    span moves accordingly.

    Args:
        medium: a video with a path or data, and maybe a start or an end.

    Raises:
        ClipError: the file cannot be read, or its frames have several shapes.
    """
    with VideoFile(medium) as video:
        timeline = video.timeline()
        stamps, end = _kept(medium, timeline, encoding.fps)
        first = timeline.seconds(stamps[0])
        ticks = [round((timeline.seconds(stamp) - first) * _TICKS) for stamp in stamps]
        until = max(ticks[-1] + 1, round((end - first) * _TICKS))
        with reading(medium):
            images = video.decode(timeline, stamps)
            data = _encode(medium, encoding, [*ticks, until], images)
    with VideoFile(Medium(data)) as video:
        encoded = video.timeline()
    begins = np.array([encoded.seconds(stamp) for stamp in encoded.stamps])
    if len(begins) != len(ticks) or abs(begins - np.array(ticks) / _TICKS).max() > ROUNDING:
        raise clip_error(medium, f"its frames get other times from the encoder of {encoding.codec}")
    # Of VP9 in MP4 FFmpeg does not tell how long the last frame is shown.
    tells = medium.end is None and abs(encoded.end - (end - first)) < ROUNDING
    return Medium(
        data,
        start=None if medium.start is None and first == 0 else (medium.start or 0.0) - first,
        end=None if tells else (end if medium.end is None else medium.end) - first,
    )


def _kept(medium: Medium, timeline: Timeline, fps: float) -> tuple[list[int], float]:
    """The timestamps of the frames to encode, ascending, and the seconds at which the last ends."""
    begin = max(0.0, medium.start or 0.0)
    end = timeline.end if medium.end is None else min(medium.end, timeline.end)
    if fps:
        moments = begin + np.arange(max(1, np.ceil((end - begin) * fps - ROUNDING))) / fps
        return sorted({timeline.shown(timeline.stamp(time)) for time in moments.tolist()}), end
    first = bisect.bisect_left(timeline.stamps, timeline.shown(timeline.stamp(begin)))
    # A frame that begins when the span ends is beyond it.
    last = bisect.bisect_right(timeline.stamps, timeline.stamp(end - 2 * ROUNDING))
    return sorted(set(timeline.stamps[first : max(last, first + 1)])), end


def _encode(
    medium: Medium, encoding: Encoding, ticks: Sequence[int], images: Iterable[Image.Image]
) -> bytes:
    """An MP4 of RGB images; ``ticks`` are when they begin and, after the last, when it ends."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 tells of itself on stderr otherwise
    rate = Fraction((len(ticks) - 1) * _TICKS, ticks[-1]).limit_denominator(1001)
    name, options = _ENCODERS[encoding.codec]
    durations = {tick: end - tick for tick, end in zip(ticks[:-1], ticks[1:], strict=True)}
    buffer, size, keyframe = io.BytesIO(), None, 0
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream(name, rate=rate, options=options)
        context = stream.codec_context
        context.pix_fmt, context.thread_count = "yuv420p", 1
        context.colorspace, context.color_range = _SMPTE_170M, ColorRange.MPEG
        context.time_base = Fraction(1, _TICKS)
        # Frames, which need not come at a steady rate: each keyframe is asked for below.
        context.gop_size = len(ticks)

        def mux(frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(frame):
                packet.duration = durations[packet.pts]
                output.mux(packet)

        for tick, image in zip(ticks[:-1], images, strict=True):
            wanted = encoding.size(*image.size)
            if size is None:
                size = context.width, context.height = wanted
            if wanted != size:
                raise clip_error(medium, "its frames have several shapes, which no encoding keeps")
            frame = _frame(image, size, tick)
            if tick + durations[tick] - keyframe > encoding.keyframe_seconds * _TICKS:
                frame.pict_type, keyframe = PictureType.I, tick  # the next would be too far
            mux(frame)
        mux(None)
    return buffer.getvalue()


def _frame(image: Image.Image, size: tuple[int, int], tick: int) -> av.VideoFrame:
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
    )
    frame.pts, frame.time_base = tick, Fraction(1, _TICKS)
    return frame

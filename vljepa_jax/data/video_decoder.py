"""The decoder of an open container: which stream is the video, when its frames are shown, and how.

Files (``ffmpeg.VideoFile``) and live sources (``live_source``) decode through it, so that both show
the same pictures: turned and mirrored as the display matrix says, of square pixels, on a white
ground where they are transparent. docs/media.md has the rules.
"""

from __future__ import annotations

import collections
import functools
import re
import struct
from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import Image

from vljepa_jax.data.images import to_rgb
from vljepa_jax.data.media_errors import MAX_PIXELS, check_size

# Formats whose timestamps may start anew inside a file, as where two are joined: a frame more than
# these seconds before the last one, or after it, follows it. Transport streams store every time, so
# that none goes back otherwise; the others are the thresholds of FFmpeg's own program.
_RESTARTING = {"mpegts": 0.0, "mpeg": 0.1}
_AHEAD_SECONDS = 10.0
# Formats in which a seek may land inside a frame, and the next one gets a wrong timestamp.
_INEXACT = ("mpeg", "avi")
# Decoders that can be told frame by frame to leave out what no frame is built on. libdav1d takes
# the setting only when it opens, and VP9 marks no such frames.
_SKIPPING = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
# Decoders that refuse a frame whose references are missing; theirs need not say what a keyframe is,
# as one that is not shown may stand before it in its packet.
_STRICT = ("vp8", "vp9", "libvpx", "libvpx-vp9")
# FFmpeg's own decoders of these leave out the transparency, a second picture in each packet.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Width of a pixel over its height, or the reverse, beyond which a file is damaged: pictures of
# such pixels made square would fill the memory. Wide screens on old discs have 2 or less.
_WIDEST = 20.0
# How tags that are no UTF-8 are decoded; PyAV 19 does so by itself, and can be told nothing else.
_TAGS = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "surrogateescape"}

# FFmpeg's own name of the most pixels that it decodes a picture of.
_LIMITS = {"max_pixels": str(MAX_PIXELS)}


class NoVideo(ValueError):
    """Why the video of an open container cannot be decoded."""


def fraction(rate: object) -> Fraction | None:
    """A rate or time base of PyAV, whichever type its version gives; ``None`` where unknown."""
    return Fraction(rate.numerator, rate.denominator) if rate else None


def open_media(source: str | BinaryIO, **options: Any) -> av.container.InputContainer:
    """``av.open`` of files whose tags may be in any encoding, and whose pictures of any size.

    Without the limit a small file may fill the memory as soon as FFmpeg looks what it holds.
    """
    limited = _LIMITS | options.pop("options", {})
    return av.open(source, options=limited, **_TAGS, **options)


class VideoDecoder:
    """Decodes the video stream that a player picks.

    Attributes:
        stream: its video stream.
        tick: seconds of one tick of the stream's timestamps.
        start: where the container's time starts, in ticks; ``None`` if it does not say.
        frame_ticks: length of a frame at the stream's rate.
        restarts: whether timestamps may start anew inside the file.
        seekable: whether packets after a seek have the timestamps that they have without it.
    """

    def __init__(self, container: av.container.InputContainer):
        """Chooses the stream and its decoder.

        Raises:
            NoVideo: there is none, or none that can be shown.
            DecompressionBombError: its pictures are too large (``media_errors.check_size``).
        """
        self._container = container
        self.stream = _choose(container)
        self.tick = fraction(self.stream.time_base)
        start = container.start_time
        self.start = None if start is None else round(Fraction(start, av.time_base) / self.tick)
        rate = fraction(self.stream.average_rate) or fraction(self.stream.guessed_rate)
        self.frame_ticks = max(1, round(1 / (rate * self.tick))) if rate else 1
        self.restarts = container.format.name in _RESTARTING
        self._back = _RESTARTING.get(container.format.name, 0.0) / self.tick
        self._ahead = _AHEAD_SECONDS / self.tick
        self.seekable = container.format.name not in _INEXACT
        self._context = _context(self.stream)
        self._context.options = _LIMITS
        self._context.thread_count = 1  # loader workers are the parallelism
        self._skips = self._context.name in _SKIPPING
        self._reformatter = VideoReformatter()  # setting it up costs more than its work
        check_size((self.stream.width, self.stream.height))
        aspect = fraction(self.stream.sample_aspect_ratio)
        self._aspect = float(aspect) if aspect and aspect > 0 else 1.0
        if not 1 / _WIDEST <= self._aspect <= _WIDEST:
            raise NoVideo(f"says that its pixels are {self._aspect:g} times as wide as high")

    def counts(self, first: av.Packet) -> bool:
        """Whether frames must be counted: the n-th one shown has the n-th decoding time.

        So where frames are not shown in the order they are decoded, in AVI, which does not store
        when they are shown, and in MXF without that order in its index (H.264 by FFmpeg).

        Args:
            first: the first packet of the file.
        """
        form = self._container.format.name
        if form == "mxf":
            return first.pts == first.dts and self._context.has_b_frames
        return form == "avi" and first.pts != first.dts

    def jumps(self, last: int, following: int) -> bool:
        """Whether timestamps start anew between two decoding times."""
        return self.restarts and not last - self._back <= following <= last + self._ahead

    def is_key(self, frame: av.VideoFrame) -> bool:
        """Whether the first frame decoded after a seek is built on none before."""
        return bool(frame.key_frame) or self._context.name in _STRICT

    def packets(self) -> Iterator[av.Packet]:
        """All packets of the stream from where the container stands, ``is_last`` at the end."""
        for packet in self._container.demux(self.stream):
            yield packet
            if is_last(packet):  # PyAV goes on to streams that began inside the file, and fails
                return

    def flush(self) -> None:
        """Forgets what was decoded, after a seek."""
        self._context.flush_buffers()

    def frames(
        self, packets: Iterable[av.Packet], wanted: Collection[int] | None = None
    ) -> Iterator[av.VideoFrame]:
        """Decodes packets into frames, in the order in which they are shown.

        Args:
            wanted: timestamps; other frames may be left out, where no frame is built on them.
        """
        skipping = None
        for packet in packets:
            if not packet.size and not is_last(packet):  # repeats the frame before
                continue
            if self._skips:
                spared = wanted is not None and packet.pts is not None and packet.pts not in wanted
                if spared != skipping:  # telling it takes longer than asking
                    self._context.skip_frame = "NONREF" if spared else "DEFAULT"
                    skipping = spared
            yield from self._context.decode(None if is_last(packet) else packet)

    def play(self, packets: Iterable[av.Packet]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with their timestamps, which never descend.

        What has no timestamp follows the frame before it, and so does what starts anew in a
        transport or program stream. A frame that belongs before the last one is left out.

        Args:
            packets: of the stream, from the file's first one on.
        """
        times: collections.deque[int] | None = None  # decoding times, where frames are counted

        def fed() -> Iterator[av.Packet]:
            nonlocal times
            for index, packet in enumerate(packets):
                if index == 0 and self.counts(packet):
                    times = collections.deque()
                if times is not None and packet.size and packet.dts is not None:
                    times.append(packet.dts)
                yield packet

        last, end, shift = None, self.start or 0, 0  # end: of the frame before
        for frame in self.frames(fed()):
            if times:
                stamp = times.popleft()
            elif frame.pts is None or times is not None:  # a damaged file gave more than it told
                stamp = end
            else:
                stamp = frame.pts + shift
                if last is not None and self.jumps(last, stamp):
                    shift += end - stamp
                    stamp = end
            if last is not None and stamp < last:
                continue
            last, end = stamp, stamp + (frame.duration or self.frame_ticks)
            yield stamp, frame

    def image(self, frame: av.VideoFrame) -> Image.Image:
        """The frame as a player shows it, RGB."""
        mode, form = ("RGBA", "rgba") if _is_transparent(frame.format.name) else ("RGB", "rgb24")
        converted = self._reformatter.reformat(frame, format=form, threads=1)
        size = converted.width, converted.height
        (plane,) = converted.planes
        image = Image.frombuffer(mode, size, plane, "raw", mode, plane.line_size, 1)
        if mode == "RGBA":
            image = to_rgb(image)
        if self._aspect != 1.0:  # the smaller side grows: nothing is lost
            wide, high = max(1.0, self._aspect), max(1.0, 1 / self._aspect)
            size = round(image.width * wide), round(image.height * high)
            image = image.resize(size, Image.Resampling.BILINEAR)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        turn = None if matrix is None else _turn(bytes(matrix))
        return image if turn is None else image.transpose(turn)


def is_last(packet: av.Packet) -> bool:
    """Whether it is the empty one at the end, which flushes the decoder."""
    return packet.size == 0 and packet.pts is None and packet.dts is None


def _choose(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that a player picks; cover art is none."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise NoVideo("holds no video stream")
    best = container.streams.best("video")
    chosen = best if best in streams else streams[0]
    if chosen.codec_context is None:
        name = _codec(container, chosen)
        raise NoVideo(f"its video codec, {name}, has no decoder in this build of FFmpeg")
    return chosen


def _codec(container: av.container.InputContainer, stream: av.VideoStream) -> str:
    """The codec of a stream that has no decoder, which PyAV tells in its log alone."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        log = container.dumps_format()
    finally:
        av.logging.set_level(level)
    found = re.search(rf"Stream #0:{stream.index}\b.*?: Video: ([^,]+)", log)
    return found[1] if found else "unknown"


def _context(stream: av.VideoStream) -> av.VideoCodecContext:
    """The stream's decoder; one that gives the transparency where there is some."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        context = av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError as error:
        raise NoVideo(f"is transparent, and this build of FFmpeg lacks {name}") from error
    context.extradata = stream.codec_context.extradata
    return context


@functools.cache
def _is_transparent(form: str) -> bool:
    """Whether frames of a pixel format, by FFmpeg's name, have an alpha channel."""
    return any(part.is_alpha for part in av.VideoFormat(form).components)


def _turn(matrix: bytes) -> Image.Transpose | None:
    """Turns and mirrors a picture as a display matrix says, to the nearest quarter turn.

    The matrix, ISO 14496-12's, maps the point (x, y) to (a x + c y, b x + d y).
    """
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {
            (True, True): Image.Transpose.ROTATE_180,
            (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
            (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
        }.get((a < 0, d < 0))
    return {
        (False, False): Image.Transpose.TRANSPOSE,
        (False, True): Image.Transpose.ROTATE_270,
        (True, False): Image.Transpose.ROTATE_90,
        (True, True): Image.Transpose.TRANSVERSE,
    }[b < 0, c < 0]

"""The packets of a video file, undecoded, and where the file starts and ends.

No seek is trusted: it has landed right where the first packet is a keyframe at or before the moment
that was aimed at, else the file is read from its first packet on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import av

from vljepa_jax.data.media_bytes import open_bytes
from vljepa_jax.data.media_errors import reading
from vljepa_jax.data.records import Medium, clip_error
from vljepa_jax.data.video_decoder import NoVideo, VideoDecoder, is_last, open_media

# How far before the wanted moment seeks aim, until one lands at a keyframe before it.
_SEEK_BACK = (0.0, 0.5, 4.0, 30.0)  # seconds
# Formats that say how long each stream is, not the file alone.
_STREAM_DURATIONS = {"mov", "avi"}
# Packets among which the first frame shown is, whatever the order of decoding.
_REORDERED = 32
# Packets of a span that are kept to be decoded; of a longer one they are read from the file again.
_KEPT_BYTES = 16 << 20


class PacketReader:
    """A video file opened for reading; a context manager.

    Attributes:
        medium: the encoded file and the span of it that is wanted.
        decoder: of the video stream; another one after a ``rewind``.
    """

    def __init__(self, medium: Medium):
        """Opens it.

        Raises:
            ClipError: it is missing, or no video.
        """
        self.medium = medium
        self._open()

    def _open(self) -> None:
        medium = self.medium
        if medium.path and medium.length is None:
            self._source: str | BinaryIO = os.path.abspath(medium.path)  # never a protocol
        else:
            self._source = open_bytes(medium)
        with reading(medium):
            try:
                self._container = open_media(self._source)
            except FileNotFoundError as error:
                raise clip_error(medium, "no such file") from error
            try:
                self.decoder = VideoDecoder(self._container)
            except NoVideo as error:
                self._close()
                raise clip_error(medium, str(error)) from error
        self._at_start = True
        self._last: int | None = None  # decoding time of the packet read last
        self._kept: list[av.Packet] | None = None  # the last ones read, to where the file stands

    def __enter__(self) -> PacketReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        self._container.close()
        if not isinstance(self._source, str):
            self._source.close()

    @property
    def form(self) -> str:
        """FFmpeg's name of the container's format, several where they are one format."""
        return self._container.format.name

    def origin(self) -> int:
        """Where the file's time starts, in ticks; at the first frame if the container is silent."""
        if self.decoder.start is not None:
            return self.decoder.start
        self.rewind()
        packets = itertools.islice(self.demux(), _REORDERED)
        with reading(self.medium):
            return min((packet.pts for packet in packets if packet.pts is not None), default=0)

    def limit(self, origin: int) -> float:
        """The last tick of the span."""
        if self.medium.end is None:
            return float("inf")
        return origin + int(max(0.0, self.medium.end) // self.decoder.tick) + 1

    def ascends(self) -> bool:
        """Whether decoding times ascend all through the file; else a moment is at several places.

        Joined files look like others, so that all packets are read; once a state of a file.

        Raises:
            ClipError: the file cannot be read.
        """
        if not self.medium.path:
            return self._read_ascends()
        status = os.stat(self.medium.path)
        whole = dataclasses.replace(self.medium, start=None, end=None)
        return _ascends(whole, status.st_size, status.st_mtime_ns)

    def _read_ascends(self) -> bool:
        self.rewind()
        last = None
        with reading(self.medium):
            for packet in self.demux():
                if packet.dts is None:
                    continue
                if last is not None and self.decoder.jumps(last, packet.dts):
                    return False
                last = packet.dts
        return True

    def declared_end(self, origin: int) -> float:
        """Where the file ends as its header says, in seconds of the file; 0 if it does not."""
        stream, container = self.decoder.stream, self._container
        forms = set(container.format.name.split(","))
        if "matroska" in forms:  # written by FFmpeg as the end, by mkvmerge as the length
            end = _seconds(stream.metadata.get("DURATION", ""))
            if end:
                return end - float(origin * self.decoder.tick)
        if stream.duration is not None and forms & _STREAM_DURATIONS:
            end = (stream.start_time or 0) + stream.duration - origin
            return float(end * self.decoder.tick)
        if len(container.streams) == 1 and container.duration is not None:
            end = container.duration / av.time_base
            # A length in some formats, but where the last frame ends in others (ASF, NUT, FLV).
            return end if "matroska" in forms else end - max(0.0, float(origin * self.decoder.tick))
        return 0.0

    def is_whole(self) -> bool:
        """Whether the packet read last is the last one of MP4's index."""
        index = self.decoder.stream.index_entries
        return "mov" in self.form and len(index) > 0 and index[-1].timestamp == self._last

    def from_keyframe(self, stamp: int | None, limit: float) -> Iterator[av.Packet | None]:
        """Packets from a keyframe at or before a timestamp to ``limit``; ``None`` if more follow.

        From the file's first one if no seek finds such a keyframe, or ``stamp`` is ``None``. They
        are kept for a ``seek`` among them, unless they are large.
        """
        first, size = True, 0
        packets = self.seek(stamp)[1]
        self._kept = []
        for packet in packets:
            size += packet.size
            if size > _KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(packet)
            if is_last(packet):
                continue
            # A frame before the limit may follow one after it, until the decoding time, which is
            # never after a frame's own, has passed it. One packet at least is given.
            time = packet.dts
            self._last = time
            if time is not None and time > limit and not first:
                yield None
                return
            first = False
            yield packet

    def seek(self, stamp: int | None) -> tuple[av.Packet | None, Iterator[av.Packet]]:
        """A keyframe at or before ``stamp``, and all packets from it on.

        ``None``, and the packets of the whole file, if ``stamp`` is ``None`` or no seek finds one.
        """
        seeks = stamp is not None and self.decoder.seekable
        for index in reversed(range(len(self._kept or ()) if seeks else 0)):
            packet = self._kept[index]
            if packet.is_keyframe and packet.pts is not None and packet.pts <= stamp:
                self.decoder.flush()
                return packet, self._replay(index)
        self._kept = None
        for seconds in _SEEK_BACK if seeks else ():
            with contextlib.suppress(av.FFmpegError):  # no index, or nothing so early in it
                aim = int(stamp - seconds / self.decoder.tick)
                self._at_start = False  # even a seek that fails may read on to the end
                self._container.seek(aim, stream=self.decoder.stream)
                self.decoder.flush()
                packets = self.demux()
                for packet in packets:
                    if packet.is_keyframe and packet.pts is not None and packet.pts <= stamp:
                        return packet, itertools.chain([packet], packets)
                    if packet.is_keyframe or (packet.dts is not None and packet.dts > stamp):
                        break
        self.rewind()
        return None, self.demux()

    def _replay(self, index: int) -> Iterator[av.Packet]:
        """The packets kept, from one on, and those that follow them in the file."""
        kept = self._kept
        yield from itertools.islice(kept, index, None)
        if not is_last(kept[-1]):
            self._kept = None
            yield from self.demux()

    def demux(self) -> Iterator[av.Packet]:
        """All packets from where the file stands."""
        self._at_start = False
        return self.decoder.packets()

    def rewind(self) -> None:
        """Back to the first packet, in any format."""
        self._kept = None
        if not self._at_start:
            self._close()
            self._open()


@functools.lru_cache(maxsize=1024)
def _ascends(medium: Medium, size: int, changed: int) -> bool:
    """``PacketReader.ascends`` of a file in one state: a long recording has many spans."""
    with PacketReader(medium) as reader:
        return reader._read_ascends()


def _seconds(text: str) -> float:
    """Matroska's DURATION, "00:00:06.000000000", in seconds; 0 for anything else."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0

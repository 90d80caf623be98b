"""Where live frames come from: a file, a camera, an RTSP or HTTP address, or standard input.

Frames come one at a time, in order, with the seconds since the first; nothing is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Iterator
from typing import BinaryIO, Literal

import av
from PIL import Image

from vljepa_jax.data import video
from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.records import Medium, shown
from vljepa_jax.data.video_decoder import NoVideo, VideoDecoder, open_media
from vljepa_jax.places import why_not, without_login

_TIMEOUT = 10.0  # seconds without a connection or a frame after which a source counts as broken
_JUMP = 10.0  # seconds between two frames after which the second does not follow the first
# FFmpeg's device for cameras, and the name of the n-th, by platform.
_CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
}
_RTSP_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


class SourceError(ValueError):
    """A source that cannot be read; the message names it and the reason."""


class NoSource(SourceError):
    """A source that no later attempt will read either: its address is wrong."""


class SourceEnded(Exception):
    """A recording at an address is over: it has a length, and this was its end."""


class RecordedFrame(PlayedFrame):
    """A frame of a recording at an address: it can be waited for, and had again."""


@dataclasses.dataclass(frozen=True)
class LiveSource:
    """The source that ``--source`` names.

    Attributes:
        kind: "file", "camera", "network" or "stdin".
        name: path, address or device.
        form: FFmpeg's input format of a camera; "" lets it guess.
        size: (width, height) of raw frames on standard input.
        rate: their number per second.
    """

    kind: Literal["file", "camera", "network", "stdin"]
    name: str
    form: str = ""
    size: tuple[int, int] = (0, 0)
    rate: float = 0.0

    @property
    def reconnects(self) -> bool:
        """Whether its end is a fault, after which it may come back."""
        return self.kind in ("camera", "network")

    def __str__(self) -> str:
        """For people: without what an address says to be let in, a name with a password or keys."""
        if self.kind != "network":
            return shown(self.name)
        address = re.sub(r"[?#].*", "", without_login(self.name))
        # Some cameras take name and password in the path: /user=NAME&password=WORD&channel=1
        return shown(re.sub(r"(?<=/)[^/=]*=[^/]*", "…", address))


def parse_source(text: str, *, size: str = "", rate: float = 0.0) -> LiveSource:
    """Reads ``--source``: a path, "camera", "camera:N", an address with "://", or "-".

    Args:
        text: as written.
        size: "WIDTHxHEIGHT" of raw RGB frames (rgb24) on standard input.
        rate: their number per second.

    Raises:
        SourceError: there is no such file, no camera support, or raw frames of unknown form.
    """
    if text == "-":
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match or rate <= 0:
            raise SourceError(
                "raw frames on standard input need --size=WIDTHxHEIGHT and --fps=FRAMES_PER_SECOND"
            )
        return LiveSource("stdin", "-", size=(int(match[1]), int(match[2])), rate=rate)
    if os.path.isfile(text):  # whatever its name looks like
        return LiveSource("file", os.path.abspath(text))
    if match := re.fullmatch(r"camera(?::(\d+))?", text):
        if sys.platform not in _CAMERAS:
            raise SourceError(f"cameras are not known on {sys.platform}: give an address instead")
        form, name = _CAMERAS[sys.platform]
        return LiveSource("camera", name.format(match[1] or 0), form)
    if text.startswith(("gs:/", "s3:/")):  # FFmpeg knows no such protocol
        raise NoSource(f"'{shown(text)}' {why_not(text)}")
    if "://" in text:
        return LiveSource("network", text)
    raise SourceError(f"there is no file '{shown(text)}' (nor is it 'camera', an address, or '-')")


def play(source: LiveSource, stdin: BinaryIO | None = None) -> Iterator[PlayedFrame]:
    """Opens a source and yields its frames until it ends.

    Args:
        stdin: what "-" reads, unbuffered; standard input by default.

    Those of a recording at an address, a file or a finished HLS playlist, are ``RecordedFrame``.

    Raises:
        SourceEnded: an address that holds a recording, at its end.
        SourceError: it cannot be opened, is silent for some seconds, or breaks off.
        ClipError: a file is damaged.
    """
    if source.kind == "stdin":
        # Not sys.stdin: a thread that waits in its lock would stop Python from ending.
        yield from _raw_frames(source, stdin or open(0, "rb", buffering=0, closefd=False))  # noqa: SIM115
    elif source.kind == "file":
        yield from video.play(Medium(path=source.name))
    else:
        yield from _live_frames(source)


def _raw_frames(source: LiveSource, stdin: BinaryIO) -> Iterator[PlayedFrame]:
    width, height = source.size
    wanted, count, data = width * height * 3, 0, b""
    while part := stdin.read(wanted - len(data)):
        data += part
        if len(data) == wanted:
            image = functools.partial(Image.frombytes, "RGB", source.size, data)
            yield PlayedFrame(count / source.rate, (count + 1) / source.rate, image)
            count, data = count + 1, b""
    if data:
        raise SourceError(
            f"standard input ended inside a frame: {len(data)} of {wanted} bytes. Are the frames "
            f"{width}x{height} in rgb24?"
        )


def _live_frames(source: LiveSource) -> Iterator[PlayedFrame]:
    options = _RTSP_OPTIONS if source.name.startswith("rtsp") else {}
    try:
        with open_media(
            source.name, format=source.form or None, options=options, timeout=_TIMEOUT
        ) as container:
            decoder = VideoDecoder(container)
            recorded = source.kind == "network" and bool(container.duration)
            kind = RecordedFrame if recorded else PlayedFrame
            first = last = None
            for stamp, frame in decoder.play(decoder.packets()):
                if frame.is_corrupt:
                    continue
                first = stamp if first is None else first
                now = float((stamp - first) * decoder.tick)
                if last is not None and now > last + _JUMP:
                    raise SourceError(f"{source}: its clock jumps from {last:.1f} s to {now:.1f}")
                last = now
                end = now + float((frame.duration or decoder.frame_ticks) * decoder.tick)
                yield kind(now, end, functools.partial(decoder.image, frame))
            if recorded:
                raise SourceEnded
    except NoVideo as error:
        raise SourceError(f"{source}: {error}") from error
    except av.error.ProtocolNotFoundError as error:
        raise NoSource(f"{source}: FFmpeg knows no such protocol") from error
    except av.error.ExitError as error:  # PyAV's answer where its timeout has passed
        raise SourceError(f"{source}: silent for {_TIMEOUT:.0f} s") from error
    except (av.FFmpegError, OSError) as error:
        # Its own text names the address as it is.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(f"{source}: {reason}") from error

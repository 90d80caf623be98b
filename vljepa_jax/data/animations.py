"""Frames in the containers of GIF, WebP and APNG, each as an image file of its own.

Nothing is decoded here. The containers say when and where a frame is drawn, so that a reader
decodes only what a wanted moment needs, and each frame once.

Sources: GIF89a (W3C), RFC 9649 (WebP), PNG third edition (W3C; APNG is a part of it).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

# Browsers (Blink, Gecko, WebKit) show a frame of any format whose delay is this or less
# as if nothing were said of it.
_SHORTEST_DELAY = 0.010  # seconds
_DEFAULT_DELAY = 0.1  # seconds

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNG's colour types without an alpha channel; they are transparent where a tRNS chunk says so.
_PNG_WITHOUT_ALPHA = (0, 2, 3)


class AnimationError(ValueError):
    """A file that is no whole animation; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of an animation.

    Attributes:
        corner: (x, y) of its left upper corner on the canvas, pixels.
        size: (width, height), pixels; may reach over the canvas.
        delay: seconds for which it is shown.
        disposal: what becomes of its rectangle afterwards: it stays, is cleared to transparent,
            or becomes again what it was before the frame.
        replaces: whether its pixels replace the canvas's, alpha and all, or lie over them.
        still: gives the encoded frame as an image file of its own.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    delay: float
    disposal: Literal["keep", "clear", "restore"]
    replaces: bool
    still: Callable[[], bytes]

    def covers(self, canvas: tuple[int, int]) -> bool:
        """Whether it fills a canvas of (width, height)."""
        left, top = self.corner
        return (
            left <= 0
            and top <= 0
            and all(
                begin + length >= whole
                for begin, length, whole in zip(self.corner, self.size, canvas, strict=True)
            )
        )


@dataclasses.dataclass(frozen=True)
class Animation:
    """The frames of one file, one at least.

    Attributes:
        size: (width, height) of the canvas, pixels. It is transparent at first.
        frames: in the order in which they are drawn.
        exif: EXIF data, or nothing.
    """

    size: tuple[int, int]
    frames: list[Frame]
    exif: bytes = b""

    def independent(self, index: int) -> bool:
        """Whether nothing drawn before a frame is seen once it is drawn."""
        frame, before = self.frames[index], self.frames[max(0, index - 1)]
        return (
            index == 0
            or (frame.replaces and frame.covers(self.size))
            or (before.disposal == "clear" and before.covers(self.size))
        )


def read_animation(data: bytes) -> Animation | None:
    """Takes an encoded file apart; ``None`` if it is no GIF and holds no animation.

    Delays of 10 ms or less become 100 ms in every format, as browsers have it.

    Raises:
        AnimationError: the file is truncated or malformed.
    """
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                animation = read(data)
            except (IndexError, struct.error) as error:
                raise AnimationError("truncated or malformed") from error
            if animation and not animation.frames:
                raise AnimationError("holds no frames")
            return animation
    return None


def browser_delay(seconds: float) -> float:
    """Seconds for which browsers show a frame whose delay is given as ``seconds``."""
    return seconds if seconds > _SHORTEST_DELAY else _DEFAULT_DELAY


# ---------------------------------------------------------------------------------------------
# GIF
# ---------------------------------------------------------------------------------------------
def _read_gif(data: bytes) -> Animation:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette_length(flags)
    palette, control, frames = data[13:position], b"", []
    while position < len(data) and data[position] != 0x3B:  # the trailer, which some leave out
        begin, kind = position, data[position]
        if kind == 0x21:  # an extension
            position = _skip_blocks(data, begin + 2)
            if data[begin + 1] == 0xF9:
                control = data[begin:position]
        elif kind == 0x2C:  # an image
            position = _skip_blocks(data, begin + 11 + _palette_length(data[begin + 9]))
            image = memoryview(data)[begin:position]
            frames.append(_gif_frame(image, control, flags, palette))
            control = b""
        else:  # padding
            position += 1
    if frames:  # browsers widen a screen that does not hold the first frame
        (left, top), (columns, rows) = frames[0].corner, frames[0].size
        width, height = max(width, left + columns), max(height, top + rows)
    return Animation((width, height), frames)


def _gif_frame(image: memoryview, control: bytes, screen: int, palette: bytes) -> Frame:
    """A frame from its image block, its graphic control extension (or nothing), and the file's
    flags and palette."""
    left, top, width, height = struct.unpack_from("<4H", image, 1)
    flags, hundredths = struct.unpack_from("<BH", control, 3) if control else (0, 0)
    parts = (
        b"GIF89a" + struct.pack("<HHBxx", width, height, screen) + palette + control,
        struct.pack("<BxxxxHH", 0x2C, width, height),
        image[9:],
        b";",
    )
    return Frame(
        (left, top),
        (width, height),
        browser_delay(hundredths / 100),
        {2: "clear", 3: "restore", 4: "restore"}.get(flags >> 2 & 7, "keep"),
        not flags & 1,
        functools.partial(b"".join, parts),
    )


def _palette_length(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int) -> int:
    """Where the sub-blocks that begin at ``position`` end."""
    while length := data[position]:
        position += length + 1
    return position + 1


# ---------------------------------------------------------------------------------------------
# WebP
# ---------------------------------------------------------------------------------------------
def _read_webp(data: bytes) -> Animation | None:
    if data[8:12] != b"WEBP":
        return None
    if len(data) < struct.unpack_from("<I", data, 4)[0] + 8:
        raise AnimationError("truncated")
    size, exif, frames = (0, 0), b"", []
    for name, chunk in _riff_chunks(memoryview(data)[12:]):
        if name == b"VP8X":
            size = (_uint24(chunk, 4) + 1, _uint24(chunk, 7) + 1)
        elif name == b"EXIF":
            exif = bytes(chunk)
        elif name == b"ANMF":
            frames.append(_webp_frame(chunk))
    return Animation(size, frames, exif) if frames else None


def _webp_frame(chunk: memoryview) -> Frame:
    flags, parts = chunk[15], dict(_riff_chunks(chunk[16:]))
    alpha = b"ALPH" in parts or (b"VP8L" in parts and parts[b"VP8L"][4] & 0x10)
    return Frame(
        (2 * _uint24(chunk, 0), 2 * _uint24(chunk, 3)),
        (_uint24(chunk, 6) + 1, _uint24(chunk, 9) + 1),
        browser_delay(_uint24(chunk, 12) / 1000),
        "clear" if flags & 1 else "keep",
        bool(flags & 2) or not alpha,
        functools.partial(_webp_still, chunk[6:12], parts),
    )


def _webp_still(size: memoryview, parts: dict[bytes, memoryview]) -> bytes:
    # Alpha beside lossy pixels needs the extended header.
    header = [(b"VP8X", b"\x10\0\0\0" + size)] if b"ALPH" in parts else []
    pixels = [(name, parts[name]) for name in (b"ALPH", b"VP8 ", b"VP8L") if name in parts]
    return _riff_chunk(b"RIFF", b"WEBP" + b"".join(itertools.starmap(_riff_chunk, header + pixels)))


def _riff_chunk(name: bytes, data: bytes | memoryview) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def _riff_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > len(data):
            raise AnimationError("truncated")
        yield name, data[position + 8 : position + 8 + length]
        position += 8 + length + (length & 1)


def _uint24(data: memoryview, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


# ---------------------------------------------------------------------------------------------
# APNG
# ---------------------------------------------------------------------------------------------
def _read_png(data: bytes) -> Animation | None:
    header, shared, exif, count = b"", [], b"", 0
    drawn: list[tuple[memoryview, list[memoryview]]] = []  # fcTL, and the parts of the pixels
    for name, chunk in _png_chunks(memoryview(data)[len(_PNG_SIGNATURE) :]):
        if name == b"IHDR":
            header = bytes(chunk)
        elif name == b"acTL":
            count = struct.unpack_from(">I", chunk)[0]
        elif name in (b"PLTE", b"tRNS"):
            shared.append((name, chunk))
        elif name == b"eXIf":
            exif = bytes(chunk)
        elif name == b"IDAT" and not count:
            return None
        elif name == b"fcTL":
            drawn.append((chunk, []))
        elif name == b"IDAT" and drawn:  # otherwise the default image, which is no frame
            drawn[-1][1].append(chunk)
        elif name == b"fdAT":
            drawn[-1][1].append(chunk[4:])
    if len(drawn) < count:
        raise AnimationError("truncated")
    alpha = header[9] not in _PNG_WITHOUT_ALPHA or any(name == b"tRNS" for name, _ in shared)
    frames = []
    for control, parts in drawn[:count]:
        fields = struct.unpack_from(">4I2H2B", control, 4)
        width, height, left, top, numerator, denominator, disposal, blend = fields
        frames.append(
            Frame(
                (left, top),
                (width, height),
                browser_delay(numerator / (denominator or 100)),
                {1: "clear", 2: "restore"}.get(disposal, "keep"),
                blend == 0 or not alpha,
                functools.partial(_png_still, bytes(control[4:12]) + header[8:], shared, parts),
            )
        )
    return Animation(struct.unpack_from(">II", header), frames, exif)


def _png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position, name = 0, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            raise AnimationError("truncated")
        yield name, data[position + 8 : position + 8 + length]
        position += 12 + length


def _png_still(
    header: bytes, shared: list[tuple[bytes, memoryview]], parts: list[memoryview]
) -> bytes:
    pixels = [(b"IDAT", part) for part in parts]
    chunks = [(b"IHDR", header), *shared, *pixels, (b"IEND", b"")]
    return _PNG_SIGNATURE + b"".join(itertools.starmap(_png_chunk, chunks))


def _png_chunk(name: bytes, data: bytes | memoryview) -> bytes:
    check = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


_READERS = {b"GIF8": _read_gif, b"RIFF": _read_webp, _PNG_SIGNATURE: _read_png}

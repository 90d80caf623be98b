"""Encoded images and animations, and PIL's own images -> upright RGB of 8 bits.

PNG, APNG, JPEG, GIF, BMP, WebP and AVIF are read by Pillow, HEIC by its plugin pillow-heif.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps, features

from vljepa_jax.data.animations import Animation, AnimationError, browser_delay, read_animation
from vljepa_jax.data.kinds import REFUSED_IMAGES, image_format
from vljepa_jax.data.media_bytes import read_bytes
from vljepa_jax.data.media_errors import check_size, reading
from vljepa_jax.data.records import ROUNDING, ClipError, Medium, clip_error

# What shows through transparent pixels: white, as img2dataset (which downloads DataComp and its
# like) composites it, and as most pages that the images come from.
BACKGROUND = (255, 255, 255)
# Greys of fewer than 8 bits: Pillow scales the pixels by this, but not the transparent grey.
_GREY_STEP = {"L;2": 85, "L;4": 17}


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as upright RGB; of an animation, the frame at which it stands.

    EXIF orientation is applied, and alpha composited over ``BACKGROUND``. Greys of 16 bits lose
    their lower 8, as Pillow has it for colours of 16 bits.

    Raises:
        ClipError: mode F, or mode I beyond 16 bits, which do not say what white is.
    """
    image.load()
    with contextlib.suppress(SyntaxError):  # what is no EXIF turns nothing, as in browsers
        image = ImageOps.exif_transpose(image)
    image = _rgb_or_rgba(image)
    if image.mode == "RGB":
        return image
    canvas = Image.new("RGB", image.size, BACKGROUND)
    _draw(image, canvas, (0, 0))
    return canvas


def read_images(
    medium: Medium,
    times: Callable[[float], Sequence[float]],
    render: Callable[[Image.Image], np.ndarray],
) -> list[np.ndarray]:
    """Decodes the frames of an image file that are shown at some times.

    A file of several pictures is an animation if it is GIF, WebP, APNG or an AVIF sequence. In
    any other (a phone's JPEG with a second picture, a HEIC burst) the first, or the one that the
    file calls primary, is the image. Delays of 10 ms or less become 100 ms, as browsers have it.

    Args:
        times: gives ascending seconds for the animation's length in seconds; only their number
            counts for a still, whose length is given as 0.
        render: turns an RGB image into what is returned; called once a distinct frame.

    Returns:
        One rendered frame a time.

    Raises:
        ClipError: the medium cannot be read, or its span begins after its last frame.
    """
    pictures = _opened(medium)
    if pictures.end is None:
        indices = [0] * len(times(0.0))
    elif medium.start is not None and medium.start >= pictures.end:
        raise clip_error(medium, f"starts at {medium.start} s, but is {pictures.end:.2f} s long")
    else:
        stamps = [0.0, *itertools.accumulate(pictures.delays[:-1])]
        indices = [
            max(0, bisect.bisect_right(stamps, time + ROUNDING) - 1) for time in times(pictures.end)
        ]
    wanted = sorted(set(indices))
    decoded = _named(medium, pictures.decode(wanted))
    rendered = {index: render(image) for index, image in zip(wanted, decoded, strict=True)}
    return [rendered[index] for index in indices]


def play_images(medium: Medium) -> Iterator[tuple[float, float, Image.Image]]:
    """Every frame of an animation, in order: the seconds between which it is shown, and RGB.

    Raises:
        ClipError: the medium cannot be read, or is a still image.
    """
    pictures, begin = _opened(medium), 0.0
    if pictures.end is None:
        raise clip_error(medium, "is a still image: a stream needs a video or an animation")
    decoded = _named(medium, pictures.decode(range(len(pictures.delays))))
    for delay, image in zip(pictures.delays, decoded, strict=True):
        yield begin, begin + delay, image
        begin += delay


def animation_end(medium: Medium) -> float | None:
    """Seconds of an animation, ``None`` for a still image.

    Raises:
        ClipError: the medium cannot be read.
    """
    return _opened(medium).end


# ---------------------------------------------------------------------------------------------
# Pixels
# ---------------------------------------------------------------------------------------------
def _rgb_or_rgba(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.mode == "La":  # which Pillow turns into nothing else
        image = image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _draw(image: Image.Image, canvas: Image.Image, corner: tuple[int, int]) -> None:
    """Lays an RGB or RGBA image over an RGB canvas."""
    canvas.paste(image, corner, image if image.mode == "RGBA" else None)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes I;16 (of any byte order) and I as L, or LA where a grey is transparent."""
    if image.mode == "F":
        raise ClipError(
            "a PIL image of mode F does not say which value is white: scale it to 0 to 255 and "
            'convert it with image.convert("L")'
        )
    values = np.asarray(image.convert("I"))
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ClipError(
            f"a PIL image of mode I with values from {values.min()} to {values.max()} does not "
            "say which value is white: scale it to 16 bits, 0 to 65535"
        )
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Pictures:
    """The picture that a file shows.

    Attributes:
        delays: seconds for which each frame is shown; of a still image, one of any length.
        decode: gives the frames at ascending indices, upright RGB.
    """

    delays: list[float]
    decode: Callable[[Sequence[int]], Iterable[Image.Image]]

    @property
    def end(self) -> float | None:
        return sum(self.delays) if len(self.delays) > 1 else None


def _opened(medium: Medium) -> _Pictures:
    with reading(medium):
        data = read_bytes(medium)
        form = image_format(data[:64])
        try:
            animation = read_animation(data)
        except AnimationError as error:
            raise clip_error(medium, f"cannot be decoded ({error})") from error
        if animation:
            check_size(animation.size)
            delays = [frame.delay for frame in animation.frames]
            return _Pictures(delays, lambda indices: _composed(animation, form, indices))
        _refuse_unread(medium, form)
        image = _still(data, form)
        if form == "AVIF" and image.n_frames > 1:
            return _Pictures(_avif_delays(image), lambda indices: _avif_frames(image, indices))
        return _Pictures([0.0], lambda _: map(to_rgb, [image]))


def _named(medium: Medium, images: Iterable[Image.Image]) -> Iterator[Image.Image]:
    with reading(medium):
        yield from images


def _refuse_unread(medium: Medium, form: str | None) -> None:
    if form is None:
        raise clip_error(medium, "is no image")
    if form in REFUSED_IMAGES.values():
        raise clip_error(medium, f"is {form}, which is not read: convert it to PNG or JPEG")
    if form == "HEIC":
        try:
            import pillow_heif
        except ImportError as error:
            raise clip_error(medium, "is HEIC: pip install 'vljepa_jax[heic]'") from error
        pillow_heif.register_heif_opener(decode_threads=1)  # loader workers are the parallelism
    if form == "AVIF":
        if "avif" not in features.get_supported_modules():
            reason = "is AVIF, which this build of Pillow does not read: pip install 'pillow>=11.3'"
            raise clip_error(medium, reason)
        from PIL import AvifImagePlugin  # not in Pillow below 11.3

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # as for HEIC


def _still(data: bytes, form: str) -> Image.Image:
    """An image file, opened but not decoded, by no other reader than that of its format."""
    image = Image.open(io.BytesIO(data), formats=["HEIF" if form == "HEIC" else form])
    check_size(image.size)
    if form == "PNG" and isinstance(key := image.info.get("transparency"), (int, tuple)):
        depth = image.tile[0][3]
        if depth in _GREY_STEP:
            image.info["transparency"] = key * _GREY_STEP[depth]
        elif depth == "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in key)
    return image


def _composed(animation: Animation, form: str, indices: Sequence[int]) -> Iterator[Image.Image]:
    """The canvas with each of the frames at ascending indices drawn on it.

    As the background is opaque and the same everywhere, frames are laid over it at once: an
    RGB canvas gives what one with alpha, laid over the background in the end, would.
    """
    canvas, position = Image.new("RGB", animation.size, BACKGROUND), 0
    canvas.info["exif"] = animation.exif
    for index in indices:
        begin = next(i for i in range(index, -1, -1) if i == position or animation.independent(i))
        if begin > position:
            canvas.paste(BACKGROUND, (0, 0, *canvas.size))
            position = begin
        while position <= index:
            frame = animation.frames[position]
            left, top = frame.corner
            box = (left, top, left + frame.size[0], top + frame.size[1])
            image = _rgb_or_rgba(_still(frame.still(), form))
            before = canvas.crop(box) if frame.disposal == "restore" else None
            if frame.replaces:
                canvas.paste(BACKGROUND, box)
            _draw(image, canvas, frame.corner)
            if position == index:
                yield to_rgb(canvas)
            if frame.disposal == "clear":
                canvas.paste(BACKGROUND, box)
            elif before is not None:
                canvas.paste(before, box)
            position += 1


def _avif_delays(image: Image.Image) -> list[float]:
    """Decodes all of a sequence: Pillow tells times, in whole milliseconds, with pixels only."""
    stamps = []
    for index in range(image.n_frames):
        image.seek(index)
        image.load()
        stamps.append(image.info["timestamp"] / 1000)
    stamps.append(stamps[-1] + image.info["duration"] / 1000)
    return [browser_delay(after - before) for before, after in itertools.pairwise(stamps)]


def _avif_frames(image: Image.Image, indices: Sequence[int]) -> Iterator[Image.Image]:
    for index in indices:
        image.seek(index)
        yield to_rgb(image)

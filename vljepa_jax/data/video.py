"""Encoded video and images -> clips, arrays uint8 [frames, size, size, 3].

A clip is sampled in *time*: its span is cut into equal parts, and each part gives the frame that
a player would show at one moment of it. Videos (mp4, webm, mkv, mov, avi, ...) are read by PyAV;
images and animations (images.py) by Pillow.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from jaxtyping import Float
from PIL import Image

from vljepa_jax.config import Preprocessing, VideoInput
from vljepa_jax.data.ffmpeg import PlayedFrame, VideoFile
from vljepa_jax.data.images import animation_end, play_images, read_images
from vljepa_jax.data.kinds import kind_of
from vljepa_jax.data.media_errors import reading
from vljepa_jax.data.records import ClipError, Medium, clip_error

# Distance of keyframes written by write_mp4, so that a span of a long video is near one.
_KEYFRAME_SECONDS = 2.0
_KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# A crop: its sides as a share of the whole, and its place from left and from top in [0, 1].
_CENTRE = (1.0, 0.5, 0.5)


def load_clip(
    media: Sequence[Medium],
    video: VideoInput,
    rng: np.random.Generator | None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes X_V.

    Several media (the two states of a state pair) share the frames equally, in order; an image
    is repeated to fill its share. Moments of a span before the first frame give the first frame
    (as V-JEPA 2 does for anticipation), those after the last frame the last. All media of a clip
    get the same crop. The area of a random crop is ``video.crop_scale`` of the largest square, or
    of the frame where the whole frame becomes the square.

    Args:
        media: one or more videos or images.
        video: number of frames, size, sampling, crop and preprocessing.
        rng: draws the jitter and the crop where ``video`` asks for them; ``None`` is the
            deterministic form for evaluation: centres of equal spans, centre crop.
        out: the array that is returned, a part of a batch for example; ``None`` makes one.

    Returns:
        uint8 [video.frames, video.image_size, video.image_size, 3], RGB.

    Raises:
        ClipError: a medium cannot be read; ``out`` may hold a part of the clip then.
        ValueError: the media cannot share ``video.frames`` equally.
    """
    if not media or video.frames % len(media):
        raise ValueError(f"{len(media)} media cannot share data.video.frames = {video.frames}")
    spans = video.frames // len(media)
    crop = _CENTRE
    if rng is not None and video.crop == "random":
        crop = (np.sqrt(rng.uniform(*video.crop_scale)), *rng.uniform(size=2))
    if out is None:
        out = np.empty((video.frames, video.image_size, video.image_size, 3), np.uint8)
    for number, medium in enumerate(media):
        jittered = rng is not None and video.sampling == "jittered"
        within = rng.uniform(size=spans) if jittered else 0.5
        moments = _moments(spans, video, within)
        frames = read_frames(medium, moments, lambda image: _fit(image, video, crop))
        for index, frame in enumerate(frames, number * spans):
            out[index] = frame
    return out


def clip_from_frames(frames: np.ndarray, video: VideoInput) -> np.ndarray:
    """The evaluation form of ``load_clip``, for frames that are decoded already.

    Args:
        frames: uint8 [T, H, W, 3], RGB, of any number and size, evenly spaced in time; T = 1 is
            an image.
        video: number of frames, size and preprocessing.

    Returns:
        uint8 [video.frames, video.image_size, video.image_size, 3].

    Raises:
        ClipError: ``frames`` have another shape or dtype.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ClipError(
            f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    indices = (_moments(video.frames, video) * len(frames)).astype(int)
    fitted = {index: fit_frame(Image.fromarray(frames[index]), video) for index in set(indices)}
    return np.stack([fitted[index] for index in indices])


def thumbnails(frames: int, side: int) -> VideoInput:
    """A clip as people are shown it: evenly spaced frames, the largest square at the centre."""
    plain = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), fit="short_side", kernel="bilinear")
    return VideoInput(frames, side, "uniform", "centre", (1.0, 1.0), plain)


def fit_frame(image: Image.Image, video: VideoInput) -> np.ndarray:
    """The evaluation form of one RGB frame, uint8 [video.image_size, video.image_size, 3]."""
    return _fit(image, video, _CENTRE)


def read_frames(
    medium: Medium, moments: Sequence[float], render: Callable[[Image.Image], np.ndarray]
) -> list[np.ndarray]:
    """Decodes the frames shown at ``moments``, ascending shares in [0, 1) of the medium's span.

    Args:
        render: turns an RGB image into what is returned; called once a distinct frame.

    Raises:
        ClipError: the medium cannot be read.
    """
    if medium.start is not None and medium.end is not None and medium.end <= medium.start:
        raise clip_error(medium, f"ends at {medium.end} s, but starts at {medium.start} s")
    if kind_of(medium) == "image":
        return read_images(medium, lambda end: _times(medium, end, moments), render)
    rendered: list[np.ndarray] = []
    last = None
    with reading(medium), VideoFile(medium) as video:
        timeline = video.timeline()
        targets = [timeline.stamp(time) for time in _times(medium, timeline.end, moments)]
        for image in video.decode(timeline, targets):
            rendered.append(rendered[-1] if image is last else render(image))
            last = image
    return rendered


def play_time(medium: Medium) -> tuple[float, float] | None:
    """Start and end of what a medium shows, in seconds of its file; ``None`` for a still image.

    Raises:
        ClipError: the medium cannot be read.
    """
    if kind_of(medium) == "image":
        end = animation_end(medium)
        if end is None:
            return None
    else:
        with reading(medium), VideoFile(medium) as video:
            end = video.timeline().end
    first, last = _times(medium, end, (0.0, 1.0))
    if first >= end:
        raise clip_error(medium, f"starts at {first} s, but is {end:.2f} s long")
    return first, min(last, end)


def play(medium: Medium) -> Iterator[PlayedFrame]:
    """Every frame of a video or an animation, span or not, from the first on, in constant memory.

    Raises:
        ClipError: the medium cannot be read, or is a still image.
    """
    if kind_of(medium) == "image":
        for begin, end, image in play_images(medium):
            yield PlayedFrame(begin, end, lambda image=image: image)
    else:
        with reading(medium), VideoFile(medium) as video:
            yield from video.play()


def write_mp4(frames: Iterable[np.ndarray], fps: int | Fraction, crf: int = 23) -> bytes:
    """Encodes frames as H.264 in MP4.

    Args:
        frames: uint8 [height, width, 3] each, RGB; height and width even.
        fps: frames per second.
        crf: x264's constant rate factor, 0 (best) to 51 (smallest).

    Raises:
        ValueError: no frames, or an odd height or width.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs an even height and width, got {height} x {width}")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        stream.codec_context.gop_size = max(1, round(_KEYFRAME_SECONDS * fps))
        # x264's macroblock tree gives other bytes from run to run on frames below 128 pixels.
        stream.options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"}
        for frame in itertools.chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _moments(
    spans: int, video: VideoInput, within: float | np.ndarray = 0.5
) -> Float[np.ndarray, " spans"]:
    """One share of a video for each of so many equal spans of ``video.window``.

    Args:
        within: the place in its span, in [0, 1).
    """
    first, last = video.window
    return first + (last - first) * (np.arange(spans) + within) / spans


def _times(medium: Medium, end: float, moments: Sequence[float]) -> list[float]:
    """Seconds of the moments of a medium's span; ``end`` is where its last frame ends."""
    first = 0.0 if medium.start is None else medium.start
    last = end if medium.end is None else medium.end
    return [max(0.0, first + float(moment) * (last - first)) for moment in moments]


def _fit(image: Image.Image, video: VideoInput, crop: tuple[float, float, float]) -> np.ndarray:
    """Crops a frame and resizes it to a square, antialiased."""
    share, from_left, from_top = crop
    if video.preprocessing.fit == "resize_crop" and crop == _CENTRE:
        return _resize_crop(image, video.image_size, _KERNELS[video.preprocessing.kernel])
    squash = video.preprocessing.fit == "squash"
    width, height = image.size if squash else [min(image.size)] * 2
    width, height = share * width, share * height
    left, top = (image.width - width) * from_left, (image.height - height) * from_top
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    size = video.image_size, video.image_size
    return np.asarray(image.resize(size, _KERNELS[video.preprocessing.kernel], box=box))


def _resize_crop(image: Image.Image, size: int, kernel: Image.Resampling) -> np.ndarray:
    """The centre, by the whole pixels of torchvision's Resize and CenterCrop."""
    width, height = (int(size * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), kernel)
    return np.asarray(resized.crop((left, top, left + size, top + size)))

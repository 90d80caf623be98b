"""Videos as people have them -> clips as a model reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from vljepa_jax.config import VideoInput
from vljepa_jax.data.images import to_rgb
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import clip_from_frames, load_clip

# A path, a span of a file, uint8 frames [T, H, W, 3], a uint8 image [H, W, 3], or a PIL image.
Video = str | os.PathLike | Medium | np.ndarray | PIL.Image.Image


def is_batch(videos: Any) -> bool:
    """Whether these are several videos: a list of them, or an array [n, T, H, W, 3]."""
    if isinstance(videos, np.ndarray):
        return videos.ndim == 5
    return isinstance(videos, Sequence) and not isinstance(videos, str)


def read_video(video: Video, config: VideoInput) -> UInt8[np.ndarray, "T H W 3"]:
    """One clip, of the frames and size that ``config`` says.

    Raises:
        ClipError: a file cannot be read, or an array has another form.
        TypeError: it is no video at all.
    """
    if isinstance(video, np.ndarray):
        return clip_from_frames(video[None] if video.ndim == 3 else video, config)
    if isinstance(video, PIL.Image.Image):
        return clip_from_frames(np.asarray(to_rgb(video))[None], config)
    if isinstance(video, (str, os.PathLike)):
        video = Medium(path=os.path.abspath(video))
    if not isinstance(video, Medium):
        raise TypeError(
            "a video is a path, an array of frames uint8 [T, H, W, 3], a PIL image or a "
            f"Medium, not {type(video).__name__}; stack the frames of a clip to one array"
        )
    return load_clip([video], config, rng=None)

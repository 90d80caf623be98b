"""Embedding video files, against the script that one would write with PyAV and transformers.

    python benchmarks/embedding_vs_script.py --checkpoint=runs/demo
    python benchmarks/embedding_vs_script.py --checkpoint=runs/demo --clips=32 --seconds=10

It needs the environment of ``make test-parity``. The files are made on the spot: H.264 of 854 x 480
pixels, 24 frames a second, a camera that moves over a picture. Ours is ``model.embed_video(paths,
question)``. The script decodes each file with PyAV up to the last of the frames that it wants, as
transformers' documentation does, resizes and crops them in torch, and runs transformers' modules of
the same sizes over batches, from random weights. The two take turns, every other time in reverse;
the JSON that is printed holds the medians of the ratios of one turn, script over ours, by the clock
and by the processors' time, and of ours alone the clips a second of a processor, with the shares of
it that reading the files and the model take, each measured alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references
QUESTION = "What is the action shown?"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--clips", type=int, default=16, help="%(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each; %(default)s")
    parser.add_argument("--batch_size", type=int, default=16, help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=9, help="turns; %(default)s")
    return parser.parse_args()


OPTIONS = arguments()
host.set_up()

import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from both_steps import TorchVLJEPA  # noqa: E402
from footage import write_clip  # noqa: E402
from machine import processor  # noqa: E402
from torch.nn import functional  # noqa: E402

import vljepa_jax  # noqa: E402
from vljepa_jax.inference.videos import read_video  # noqa: E402


def main() -> None:
    torch.set_num_threads(host.available_cpus())
    model = vljepa_jax.load(OPTIONS.checkpoint, batch_size=OPTIONS.batch_size)
    script = Script(model)
    with tempfile.TemporaryDirectory() as directory:
        paths = [str(Path(directory) / f"{number}.mp4") for number in range(OPTIONS.clips)]
        for seed, path in enumerate(paths):
            write_clip(Path(path), seed, OPTIONS.seconds)
        report = compared(model, script, paths)
    print(json.dumps(report, indent=2))


def compared(model: vljepa_jax.Model, script: Script, paths: list[str]) -> dict:
    clips = np.stack([read_video(path, model.video) for path in paths])
    works = {
        "ours": lambda: model.embed_video(paths, QUESTION),
        "script": lambda: script.embed(paths),
        "reading": lambda: [read_video(path, model.video) for path in paths],
        "model": lambda: model.embed_video(clips, QUESTION),
    }
    for work in works.values():  # compiled, and files in the system's cache
        work()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    order = list(works)
    for _ in range(OPTIONS.repetitions):
        for name in order:
            taken[name].append(_timed(works[name]))
        order.reverse()

    def ratio(over: str, under: str, which: int) -> float:
        pairs = zip(taken[over], taken[under], strict=True)
        return round(statistics.median(a[which] / b[which] for a, b in pairs), 3)

    ours = statistics.median(processors for _, processors in taken["ours"])
    return {
        "script_over_ours": {
            "clock": ratio("script", "ours", 0),
            "work": ratio("script", "ours", 1),
        },
        "our_clips_a_processor_second": round(len(paths) / ours, 2),
        "our_shares": {part: ratio(part, "ours", 1) for part in ("reading", "model")},
        "clips": len(paths),
        "seconds_of_each": OPTIONS.seconds,
        "batch_size": OPTIONS.batch_size,
        "repetitions": OPTIONS.repetitions,
        "processor": processor(),
        "processors": host.available_cpus(),
    }


class Script:
    """What one would write without this package."""

    def __init__(self, model: vljepa_jax.Model) -> None:
        self._video, text = model.video, model.config.data.text
        self._model = TorchVLJEPA(model.config).eval()
        self._queries = torch.ones((1, text.query_length), dtype=torch.long)

    @torch.inference_mode()
    def embed(self, paths: list[str]) -> np.ndarray:
        found = []
        for start in range(0, len(paths), OPTIONS.batch_size):
            clips = torch.stack([self._read(p) for p in paths[start : start + OPTIONS.batch_size]])
            found.append(self._model.predict(clips, self._queries.expand(len(clips), -1)))
        return torch.cat(found).numpy()

    def _read(self, path: str) -> torch.Tensor:
        """Frames [T, H, W, 3], evenly over the file."""
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            wanted = np.linspace(0, stream.frames - 1, self._video.frames).round().astype(int)
            frames = []
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if index >= wanted[-1]:
                    break
        side = self._video.image_size
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
        height, width = pixels.shape[2:]
        scale = side / min(height, width)
        size = round(height * scale), round(width * scale)
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return pixels[:, :, top : top + side, left : left + side].permute(0, 2, 3, 1)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processors."""
    processors, start = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - start, time.process_time() - processors


if __name__ == "__main__":
    main()

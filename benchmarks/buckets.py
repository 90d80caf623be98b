"""A dataset in a bucket against the same on a disk: clips a second, and what a training waits for.

    pip install 'vljepa_jax[emulators]'
    python benchmarks/buckets.py
    python benchmarks/buckets.py --seconds=0.05

Records of one small image and one caption (of a file above some 1 MiB array_record reads nothing
from the emulator) are copied to an emulated gs:// that waits so long before each
answer, as a distant bucket does. Both are read as training reads them, in one process: as fast as
they come, and with pauses, which are the steps of a training. The JSON that is printed has seconds
a batch: of reading alone, and that a step waited for its batch.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import logging
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image
from recipes import ROOT, recipe

from vljepa_jax import host
from vljepa_jax.config import SourceConfig, TrainConfig
from vljepa_jax.data.pipeline import TrainPipeline
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.places import place

sys.path.insert(0, str(ROOT))  # tests.helpers: the emulator

from tests.helpers.subprocesses import PROGRAMS, free_port, serving

_BATCH, _STEPS = 32, 6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.02, help="before answers; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    logging.getLogger("gcsfs").setLevel(logging.ERROR)  # which looks for credentials
    with tempfile.TemporaryDirectory() as folder, _bucket(options.seconds) as bucket:
        on_disk = pathlib.Path(folder, "images")
        _write(on_disk)
        there = f"{bucket}/images"
        for path in on_disk.iterdir():
            (place(there) / path.name).write_bytes(path.read_bytes())
        report = {"seconds_before_answers": options.seconds, "batch_size": _BATCH}
        places = {"disk": str(on_disk), "bucket": there}
        for name, path in places.items():
            report[name] = {"read": round(_read(path), 3)}
        pause = 1.5 * report["bucket"]["read"]
        report["seconds_of_a_step"] = round(pause, 3)
        for name, path in places.items():
            report[name]["waited"] = round(_read(path, pause), 3)
    print(json.dumps(report, indent=2))


def _write(directory: pathlib.Path) -> None:
    rng = np.random.default_rng(0)

    def record(index: int) -> Record:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "jpeg")
        annotation = Annotation(str(index), "caption", texts=(f"image number {index}",))
        return Record(str(index), (Medium(data=file.getvalue()),), (annotation,))

    records = map(record, range(_BATCH * (_STEPS + 1)))
    write_dataset(directory, {"train": records}, name="images", description="", labels={})


def _config(path: str) -> TrainConfig:
    config = recipe("configs/demo.py", "captions")
    source = SourceConfig(path=path, split="train", weight=1.0, tasks={}, tags={})
    data = dataclasses.replace(
        config.data, sources=(source,), visual_tokens="compute", num_workers=0
    )
    return dataclasses.replace(config, data=data, batch_size=_BATCH, steps=_STEPS + 1)


def _read(path: str, pause: float = 0.0) -> float:
    """Seconds a batch that are waited for, once the first is there."""
    batches = TrainPipeline(_config(path)).batches(0)
    with contextlib.closing(batches):
        next(batches)
        waited = 0.0
        for _ in range(_STEPS):
            time.sleep(pause)
            began = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - began
        return waited / _STEPS


@contextlib.contextmanager
def _bucket(seconds: float) -> Iterator[str]:
    """The address of an empty bucket; environment variables lead to its emulator."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    for name in ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        os.environ[name] = url
    command = [sys.executable, PROGRAMS / "gcs_emulator.py", str(port), str(seconds)]
    with serving(command, url):
        yield "gs://bucket"


if __name__ == "__main__":
    host.set_up()
    main()

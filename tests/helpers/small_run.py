"""Twelve clips, one of which cannot be read, and a config that trains on them in seconds."""

import dataclasses

import numpy as np

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import BenchmarkConfig, EvalConfig, RetrieveConfig, SourceConfig
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.run_dir import read_metrics


def write_clips(directory):
    rng = np.random.default_rng(0)

    def record(index):
        frames = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
        data = b"no video" if index == 5 else write_mp4(frames, 6)
        annotation = Annotation(f"clip-{index}/caption", "caption", texts=(f"clip number {index}",))
        return Record(f"clip-{index}", (Medium(data=data),), (annotation,))

    write_dataset(
        directory, {"train": map(record, range(12))}, name="clips", description="", labels={}
    )


def small_config(dataset, **overrides):
    config = tiny_train_config(**overrides)
    source = SourceConfig(str(dataset), "train", weight=1.0, tasks={"caption": 1.0}, tags={})
    return dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(source,)))


def small_evaluation(config):
    """Finding each clip by its caption."""
    benchmark = BenchmarkConfig(
        name="clips/t2v",
        suffix="",
        protocol=RetrieveConfig(),
        path=config.data.sources[0].path,
        split="train",
        filter={"task": "caption"},
        query=None,
        limit=0,
    )
    return EvalConfig(
        frames=0,
        batch_size=4,
        world=config.world,
        num_workers=0,
        benchmarks=(benchmark,),
        stream=None,
    )


def computed(workdir):
    """The rows of metrics.jsonl without what the clock and the machine decide."""
    measured = {"examples_per_second", "wall_seconds", "data/wait", "mfu"}
    measured |= {"memory/host_gib", "memory/device_gib"}
    return [{k: v for k, v in row.items() if k not in measured} for row in read_metrics(workdir)]

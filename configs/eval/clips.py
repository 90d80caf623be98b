"""Benchmarks on a dataset of your own: --config=configs/eval/clips.py:DATASET (its split "test").

    python launch/eval.py --config=configs/eval/clips.py:datasets/clips --checkpoint=runs/clips

Benchmarks that the dataset has nothing for are skipped and named; --benchmarks selects.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(dataset: str = "") -> ConfigDict:
    if not dataset:
        raise ValueError("name a dataset: --config=configs/eval/clips.py:DATASET")
    config = ConfigDict()
    config.step = 0  # of the run's checkpoint; 0: the newest
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 32  # clips and texts embedded at once
    config.num_workers = 0  # decoding processes; 0 decodes in this one
    config.world = None  # no benchmark is on "@world", the bundled world
    config.benchmarks = (
        _benchmark("t2v", common.retrieve(), dataset, "caption"),
        _benchmark("vqa", common.choose(), dataset, "vqa"),
        _benchmark("classification", common.choose(), dataset, "classification"),
        _benchmark("state_match", common.match(candidate_query=""), dataset, "state"),
        _benchmark("caption", common.caption(), dataset, "caption"),
        _benchmark("triplets", common.triplets(), dataset, "triplet"),
    )
    config.stream = None  # the study of selective decoding needs the world's streams
    return config


def _benchmark(name: str, protocol: ConfigDict, dataset: str, task: str) -> ConfigDict:
    return common.benchmark(f"clips/{name}", protocol, path=dataset, split="test", task=task)

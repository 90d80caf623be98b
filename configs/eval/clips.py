"""Benchmarks on a dataset of your own: --config=configs/eval/clips.py:DATASET (its split "test").

    python launch/eval.py --config=configs/eval/clips.py:datasets/clips --checkpoint=runs/clips

Benchmarks that the dataset has nothing for are skipped and named; --benchmarks selects.
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "") -> ConfigDict:
    if not dataset:
        raise ValueError("name a dataset: --config=configs/eval/clips.py:DATASET")
    config = ConfigDict()
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 32  # clips and texts embedded at once
    config.num_workers = 0  # decoding processes; 0 decodes in this one
    config.world = None  # no benchmark is on "@world", the bundled world
    config.benchmarks = (
        # Text to video: every text is a query, its video among all videos the answer.
        _benchmark("t2v", "retrieve", dataset, "caption"),
        # The candidate answer, or the label, nearest to the predicted embedding.
        _benchmark("vqa", "choose", dataset, "vqa"),
        _benchmark("classification", "choose", dataset, "classification"),
        # Which of several clips leads from the first state to the second.
        _benchmark("state_match", "match", dataset, "state"),
        # What the Y-Decoder writes, and the nearest caption of training.
        _benchmark("caption", "caption", dataset, "caption"),
        # Two paraphrases and a hard negative: the Y-Encoder alone.
        _benchmark("triplets", "triplets", dataset, "triplet"),
    )
    config.stream = None  # the study of selective decoding needs the world's streams
    return config


def _benchmark(name: str, protocol: str, dataset: str, task: str) -> ConfigDict:
    return ConfigDict(
        {
            "name": f"clips/{name}",
            "suffix": "",
            "protocol": protocol,
            "path": dataset,
            "split": "test",
            "filter": {"task": task},  # task and tags that an annotation must have
            "query": None,  # the annotation's own
            "candidate_query": "",
            "bank_split": "train" if protocol == "caption" else "",
            "limit": 0,  # first n examples, 0 for all
        }
    )

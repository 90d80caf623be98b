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
    # The bundled world, for benchmarks on "@world"; there are none here.
    config.world = ConfigDict(
        {
            "seed": 0,
            "cache_dir": ".cache/world",
            "train_clips": 0,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 0,
            "compositional_clips": 0,
            "streams": 0,
            "stream_density": 0.40,
            "image_size": 96,
            "frames": 16,
            "fps": 8,
        }
    )
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

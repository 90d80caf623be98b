"""The benchmarks of the open model (configs/vljepa_open.py): splits that it does not train on.

    python launch/eval.py --config=configs/eval/open.py --checkpoint=runs/vljepa_open_small

A dataset that is not there is an error; --benchmarks=coco/t2v,tallyqa selects.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.step = 0  # of the run's checkpoint; 0: the newest
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 32  # clips and texts embedded at once
    config.num_workers = 4  # decoding processes
    config.world = None  # no benchmark is on "@world", the bundled world
    config.benchmarks = (
        common.benchmark("coco/t2v", common.retrieve(), path="datasets/coco_captions", split="val"),
        common.benchmark(
            "coco/caption", common.caption(), path="datasets/coco_captions", split="val"
        ),
        common.benchmark("vatex/t2v", common.retrieve(), path="datasets/vatex", split="val"),
        common.benchmark("gqa", common.choose(), path="datasets/gqa", split="testdev"),
        common.benchmark("tallyqa", common.choose(), path="datasets/tallyqa", split="test"),
        common.benchmark(
            "clevr", common.choose(), path="datasets/clevr", split="val", limit=20_000
        ),
    )
    config.stream = None  # the study of selective decoding needs the world's streams
    return config

"""What comes next in the world's scripted streams: the second half of each, after the first.

    python launch/eval.py --config=configs/eval/world_steps.py --checkpoint=runs/steps

configs/anticipation.py trains on the first halves. The measures are EPIC-KITCHENS' recall at 5, a
mean over the motions that occur, and COIN's accuracy.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 64  # clips and texts embedded at once
    config.num_workers = 0  # decoding processes; 0 decodes in this one
    config.world = common.steps_world()
    config.stream = None
    config.benchmarks = (
        _benchmark("anticipation", common.choose(recall=(5,))),
        _benchmark("next_step", common.choose(recall=(5,))),
    )
    return config


def _benchmark(kind: str, protocol: ConfigDict) -> ConfigDict:
    return common.benchmark(
        f"world/{kind}",
        protocol,
        path="@world",
        split="steps_test",
        task="classification",
        kind=kind,
    )

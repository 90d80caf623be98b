"""Adapts the small VL-JEPA to clips of your own, in minutes on a laptop.

It goes on from the demo's run, on a dataset that launch/prepare.py has made of your files:

    python launch/train.py --config=configs/finetune.py:DATASET --workdir=runs/clips \
        --config.init_from=runs/demo:params

What is not named here is the demo's. The README has a worked example, with the figures before and
after.
"""

from ml_collections import ConfigDict

from configs import common, demo


def get_config(dataset: str = "") -> ConfigDict:
    if not dataset:
        raise ValueError("name a dataset: --config=configs/finetune.py:DATASET")
    config = demo.get_config()
    config.steps = 100
    # All of the dataset's tasks; {"caption": 1.0, "vqa": 2.0} would take these two alone.
    config.data.sources = (common.source(dataset, {}),)
    config.evaluations = ()  # the demo's are on the world; name benchmarks on your dataset here
    # The predictor can read, and is to lose nothing of it.
    *first, all_others = config.optimizer.rules
    config.optimizer.rules = (*first, common.rule(r"^predictor/", lr_multiplier=0.3), all_others)
    return config

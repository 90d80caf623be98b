"""Fine-tunes a model that was trained with queries (SFT) to tell what comes next, and nothing else.

    :ek100  EPIC-KITCHENS-100, action anticipation, from runs/vljepa_1b_sft
    :coin   COIN, next steps, from runs/vljepa_1b_sft
    (none)  the steps of the bundled world's procedures, from the demo's run, in minutes on a laptop

    python launch/train.py --config=configs/anticipation.py --workdir=runs/steps \
        --config.init_from=runs/demo:params
    python launch/eval.py --config=configs/eval/world_steps.py --checkpoint=runs/steps

The benchmarks of the first two are in configs/eval/paper.py:world_modeling. Clips and questions are
rows of launch/prepare.py --dataset=epic_kitchens_100_anticipation and =coin_next_step, whose query
is empty: there is one question. The paper fine-tunes for these two from its SFT model and does not
say how; what is set here is ours.
"""

from ml_collections import ConfigDict

from configs import common, demo, vljepa_1b

_SOURCES = {
    # All four times before the action, in equal shares; tags {"tau": "1"} would take one.
    "ek100": ("datasets/epic_kitchens_100_anticipation", "train"),
    "coin": ("datasets/coin_next_step", "training"),
    "": ("@world", "steps_train"),
}
_STEPS = {"ek100": 10_000, "coin": 3_000, "": 150}


def get_config(variant: str = "") -> ConfigDict:
    if variant not in _SOURCES:
        raise ValueError(f"no variant '{variant}': there are 'ek100', 'coin' and none")
    config = vljepa_1b.get_config("sft") if variant else demo.get_config()
    config.steps = _STEPS[variant]
    config.init_from = "runs/vljepa_1b_sft" if variant else ""
    if variant:
        config.batch_size = 512
    else:
        config.batch_size = 32
        config.world = common.steps_world()
        config.data.visual_tokens = "compute"  # a record has many clips
        config.evaluations = ()  # the demo's are on its world
        # The predictor can read, and is to lose nothing of it.
        *first, all_others = config.optimizer.rules
        predictor = common.rule(r"^predictor/", lr_multiplier=0.3)
        config.optimizer.rules = (*first, predictor, all_others)
    path, split = _SOURCES[variant]
    source = common.source(path, {"classification": 1.0})
    source.split = split
    config.data.sources = (source,)
    return config

"""Adapts the small VL-JEPA to clips of your own, in minutes on a laptop.

``vljepa finetune`` is this recipe with all around it: it reads a table or a folder, holds clips
out, trains a Y-Decoder too, and evaluates before and after. By itself the recipe takes a dataset
that launch/prepare.py has made of your files, and goes on from a run:

    python launch/train.py --config=configs/finetune.py:DATASET --workdir=runs/clips \
        --config.init_from=runs/demo:params

    DATASET        the X-Encoder stays frozen: its tokens are computed once
    DATASET:video  the X-Encoder is trained too, on other frames and crops each time
    DATASET:text   the Y-Encoder and its head stay as they are, as those of a published one should;
                   DATASET:video:text for both

What is not named here is the demo's.
"""

from ml_collections import ConfigDict

from configs import common, demo

_VIDEO, _TEXT = ":video", ":text"


def get_config(variant: str = "") -> ConfigDict:
    without_text = variant.removesuffix(_TEXT)
    dataset = without_text.removesuffix(_VIDEO)
    if not dataset:
        raise ValueError("name a dataset: --config=configs/finetune.py:DATASET")
    config = demo.get_config()
    config.steps = 100
    # All of the dataset's tasks; {"caption": 1.0, "vqa": 2.0} would take these two alone.
    # Classes of one's own clips differ in number, and the rare ones matter too.
    config.data.sources = (common.source(dataset, {}, balanced=True),)
    config.evaluations = ()  # the demo's are on the world; name benchmarks on your dataset here
    if without_text.endswith(_VIDEO):
        _train_video(config)
    else:
        # The predictor can read, and is to lose nothing of it.
        *first, all_others = config.optimizer.rules
        slower = common.rule(r"^predictor/", lr_multiplier=0.3)
        config.optimizer.rules = (*first, slower, all_others)
    if variant.endswith(_TEXT):
        _freeze_text(config)
    return config


def _freeze_text(config: ConfigDict) -> None:
    """What both make of texts that no clip has is what they are taken for."""
    frozen = common.rule(r"^y_encoder/|^y_head/", frozen=True)
    others = (rule for rule in config.optimizer.rules if rule.pattern != r"^y_encoder/")
    config.optimizer.rules = (frozen, *others)


def _train_video(config: ConfigDict) -> None:
    _, *others = config.optimizer.rules
    config.optimizer.rules = (
        # Before the rule of norms and biases, by which these would learn faster than what they
        # scale. The predictor, which has to read other tokens, learns at the full rate.
        common.rule(r"^x_encoder/", lr_multiplier=0.3, weight_decay_multiplier=0.0),
        # Questions about what looks new have new words, too. A table is not drawn towards zero:
        # most of its words are in none of them.
        common.rule(r"^token_embedding/", weight_decay_multiplier=0.0),
        *others,
    )
    config.data.visual_tokens = "compute"  # which training changes
    config.data.video.sampling = "jittered"  # few clips, seen often: never quite the same pixels
    config.data.video.crop = "random"
    config.data.video.crop_scale = (0.8, 1.0)

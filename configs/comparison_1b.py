"""The recipes of the controlled comparison at full size (paper 4.5): one model a variant.

    :vljepa     a predictor of the last 8 layers of Llama-3.2-1B, to frozen text embeddings
    :vlm        all 16 layers, to tokens
    :y_decoder  inverts the frozen Y-Encoder, from the same captions

Both see 16 frames through PE-Core ViT-L/14 at 336 pixels, frozen, and share data, batch, schedule
and steps. ``configs/comparison.py:paper`` trains and evaluates them; launch/train.py, --summary and
launch/plan.py take each by itself. Paths below datasets/ and weights/ are for you to set.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import common, models, vljepa_1b, vlm, y_decoder_1b
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS

FRAMES = 16  # paper
BATCH = 128  # paper
STEPS = 120_000  # paper: 15M samples
# Ours, by name: the captions of the fine-tuning stage, and its classes.
SOURCES = (
    common.source("datasets/plm_captions", {"caption": 1.0}, weight=2.8),
    common.source("datasets/plm_classification", {"classification": 1.0}, weight=1.8),
)
END = "<|end_of_text|>"  # Llama 3.2's own


def get_config(variant: str = "vljepa") -> ConfigDict:
    recipes = {"vljepa": _vljepa, "vlm": _vlm, "y_decoder": _y_decoder}
    if variant not in recipes:
        raise ValueError(f"no variant '{variant}'; there are {', '.join(recipes)}")
    return recipes[variant]()


def _vljepa() -> ConfigDict:
    config = vljepa_1b.get_config("sft")
    config.init_from = ""  # of published backbones, as the study puts them together
    config.steps, config.batch_size = STEPS, BATCH
    tower = dataclasses.asdict(PUBLISHED_TOWERS["timm/PE-Core-L-14-336"].image)
    with config.unlocked():
        config.model.x_encoder = ConfigDict(tower)  # paper
    config.data.sources = SOURCES
    config.data.video.frames = FRAMES
    config.data.video.image_size = 336  # paper
    config.data.video.crop = "centre"  # ours: the whole frame, squashed, as PE-Core was trained
    config.data.video.crop_scale = (1.0, 1.0)
    config.data.text.query_length = 64  # ours: such queries are short
    config.data.text.target_length = 128  # ours
    # Paper: targets are a text autoencoder's; ours: EmbeddingGemma's, and none of them moves.
    config.optimizer.rules = (
        common.rule(r"^x_encoder/|^token_embedding/|^y_encoder/|^y_head/", frozen=True),
        common.rule(r"^log_logit_scale$|norm|bias$", weight_decay_multiplier=0.0),
        common.rule(r".*"),
    )
    return config


def _vlm() -> ConfigDict:
    vljepa = _vljepa()
    llama = models.published("llama-3.2-1b")
    return vlm.in_token_space(vljepa, llama, end_token=END)


def _y_decoder() -> ConfigDict:
    config, vljepa = y_decoder_1b.get_config(), _vljepa()
    config.init_from = ""
    config.model.vljepa = vljepa.model
    config.data.text.embedded = vljepa.data.text
    config.data.sources = SOURCES[:1]
    return config

"""The Y-Encoder that comes with the package: EmbeddingGemma's architecture, pretrained on text.

As EmbeddingGemma it learns from pairs of texts that mean the same, with a hard negative to each:
sentences and short answers in the words of the bundled world, of no held-out (object, motion) pair
and in no held-out phrasing. ``make backbones`` runs it; docs/backbones.md has what it reaches.
"""

from ml_collections import ConfigDict

from configs import common, models


def get_config() -> ConfigDict:
    config = common.run(
        objective="text_pairs",  # paraphrases near, other texts far
        steps=1_000,
        batch_size=96,  # triplets; each text is told apart from 191 others
        log_every=20,
    )
    config.world = common.backbone_world(seed=102, triplets=60_000)  # no other recipe's
    config.model = ConfigDict(
        {
            "y_encoder": models.y_encoder(),
            "initial_temperature": 0.07,
            "max_logit_scale": 50.0,
            **models.ON_CPU,
        }
    )
    config.data = ConfigDict(
        {
            "sources": (common.source("@world", {"triplet": 1.0}),),
            "video": None,  # text alone
            "text": {
                "tokenizer": "@world",  # ships with the package
                "length": 44,  # tokens; what a sentence of five objects takes
            },
            "num_workers": 0,  # a thread is enough for text
            "visual_tokens": "none",
        }
    )
    config.optimizer = common.adamw(
        learning_rate=2e-3,
        warmup_steps=40,
        beta2=0.98,
        weight_decay=0.05,
        rules=(
            # The temperature, norms and the words are not drawn towards zero.
            common.rule(r"^log_logit_scale$|norm|embedding$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )
    config.sharding = common.text_sharding()
    config.checkpoint = common.checkpoint(every=400)
    return config

"""The X-Encoder that comes with the package: V-JEPA 2's architecture, pretrained on labels.

The parameters see a part of the bundled world that no other recipe uses (its own seed), and of it
the training split: no held-out pair, no held-out phrasing. Three stages:

    :single    clips with one object: objects and motions are learnt soonest where nothing distracts
    (none)     all clips; starts from the first stage's parameters (--config.init_from=DIR:params)
    :reader    each clause of a caption is to be found at one token (soft MaxSim), and questions
               are answered through the frozen last layers of the small language model, as the
               demo's predictor answers them (configs/language_model.py): tokens come to mean words
               to those layers

Each starts from the stage before, the last with the language model beside it. ``make
backbones`` runs them all; docs/backbones.md tells why labels, and what they reach.
"""

from ml_collections import ConfigDict

from configs import common, models


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "single", "reader"):
        raise ValueError(f"no variant '{variant}': there are 'single', 'reader' and none")
    reader = variant == "reader"
    config = common.run(
        # Cross-entropy over the label set of each question, or over the words of its answer.
        objective="visual_reader" if reader else "probe",
        steps={"single": 1_600, "": 1_500, "reader": 3_000}[variant],
        batch_size=64,  # clips
        log_every=20,
        seed={"single": 0, "": 1, "reader": 2}[variant],
    )
    config.world = (  # of pretraining alone
        common.backbone_world(seed=103, clips=48_000)
        if reader
        else common.backbone_world(seed=101, clips=24_000)
    )
    config.model = _visual_reader() if reader else _probe()
    # Caption tasks have no labels.
    tasks = {"classification": 1.0, "vqa": 1.0} | ({"caption": 0.5} if reader else {})
    tags = {"objects": "1"} if variant == "single" else {}
    config.data = ConfigDict(
        {
            "sources": (common.source("@world", tasks, tags=tags),),
            "video": {
                "frames": 8,
                "image_size": 80,  # pixels
                "sampling": "jittered",  # a random frame of each of as many equal spans
                "crop": "random",  # nothing is flipped: directions are asked about
                "crop_scale": (0.8, 1.0),  # share of the area
            },
            "text": _dialogue() if reader else common.questions(),
            "num_workers": 1,  # decoding processes beside the training one
            "visual_tokens": "compute",  # the X-Encoder is what is trained
        }
    )
    # The language model stays what it is, and the tokens enter it as they are.
    frozen = common.rule(r"^(predictor|token_embedding|vision_projection)/", frozen=True)
    config.optimizer = common.adamw(
        learning_rate=1e-3,
        schedule="constant" if variant == "single" else "cosine",
        warmup_steps=100,
        beta2=0.98,
        weight_decay=0.05,
        rules=(
            *((frozen,) if reader else ()),
            # Norms, biases and the question's words are not drawn towards zero.
            common.rule(r"norm|bias$|embedding$|scale$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )
    config.sharding = common.sharding(
        *common.layer_axes(),
        common.axes(r"^(set_query|classifier)/|norm|bias$|scale$"),  # small: copied
        common.axes(r"embedding$", "tensor", "fsdp"),
        common.axes(r"kernel$", "fsdp", "tensor"),
    )
    config.checkpoint = common.checkpoint(every=250)
    return config


def _probe() -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": models.x_encoder("tiny"),
            # Given the question: what it reads is in single tokens, where the predictor of a
            # VL-JEPA will look for it. It is left behind after training.
            "pooler": models.attentive_pooler(),
            "label_sets": common.LABEL_SETS,
            **models.ON_CPU,
        }
    )


def _visual_reader() -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": models.x_encoder("tiny"),
            # The last half: what the demo's predictor starts from.
            "predictor": models.language_model(first_layer=2, num_layers=2),
            # Of soft MaxSim: each clause of a caption is to be found at one visual token.
            "maxsim_weight": 1.0,
            # That a step has no causal mask, and the question's mean predicts the answer.
            "bidirectional_probability": 1.0,
            **models.ON_CPU,
        }
    )


def _dialogue() -> dict:
    return {
        "tokenizer": "@world",  # ships with the package
        "per_clip": 1,  # questions that share a clip's pass through the X-Encoder
        "context": common.captions_context(),
        "length": 72,  # tokens of all questions and answers; longer texts are cut
        "query_length": 16,  # tokens of one question
        "answer_length": 24,  # tokens of one answer
    }

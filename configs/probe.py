"""Labels from a frozen X-Encoder's tokens: probes (configs/x_encoder.py trains one on labels).

    :attentive  V-JEPA 2's attentive probe on a frozen X-Encoder, told the question (the default)
    :linear     a linear probe: the mean of the frozen tokens, then one linear layer; not told it

    python launch/probe.py --config=configs/probe.py --checkpoint=runs/vjepa2

launch/probe.py takes the X-Encoder's sizes from what it is given and trains both probes.

In the comments, "V-JEPA 2" is its paper (arXiv 2506.09985, section 5 and appendix) or its
evaluation configs; "ours" is a choice for the bundled world.
"""

from ml_collections import ConfigDict

from configs import common, models

VARIANTS = ("attentive", "linear")


def get_config(variant: str = "attentive") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"no variant '{variant}': there are {', '.join(VARIANTS)}")
    config = common.run(
        objective="probe",  # cross-entropy over the label set of each question
        steps=1500,  # ours
        batch_size=128,  # clips
        log_every=50,
    )
    config.world = common.world()
    config.model = ConfigDict(
        {
            "x_encoder": models.x_encoder("tiny"),
            "pooler": None if variant == "linear" else models.attentive_pooler(),
            "label_sets": common.LABEL_SETS,
            **models.ON_CPU,
        }
    )
    config.data = ConfigDict(
        {
            # What a clip is asked first; more often what is hard. Tags choose among annotations:
            # tags={"objects": "1"} takes only clips with one object.
            "sources": (common.source("@world", {"classification": 2.0, "vqa": 1.0}),),
            "video": common.fixed_video(),
            "text": common.questions(),
            "num_workers": 1,  # decoding processes beside the training one
            "visual_tokens": "cache",
        }
    )
    config.optimizer = common.adamw(
        # V-JEPA 2 takes the best of a grid, 3e-4 to 5e-3 and weight decay 0.01 to 0.8.
        learning_rate=1e-3,
        schedule="cosine",  # V-JEPA 2
        warmup_steps=0,  # V-JEPA 2: none for probes
        beta2=0.999,
        weight_decay=0.01,
        rules=(
            common.rule(r"^x_encoder/", frozen=True),
            # Norms, biases and tables are not drawn towards zero.
            common.rule(r"norm|bias$|embedding$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )
    config.sharding = common.sharding(
        *common.layer_axes(gated=False),
        common.axes(r"^(set_query|classifier)/|norm|bias$"),  # small: copied
        common.axes(r"embedding$", "tensor", "fsdp"),
        common.axes(r"kernel$", "fsdp", "tensor"),
    )
    config.checkpoint = common.checkpoint(every=500)
    return config

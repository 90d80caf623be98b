"""Stage 0: V-JEPA 2's self-supervised pretraining of an X-Encoder (arXiv 2506.09985, section 2).

    :tiny            on the bundled world, minutes to hours on a CPU (the default)
    :vitl :vith :vitg  V-JEPA 2's sizes, 16 frames of 256 pixels, on datasets of yours
    :tiny_cooldown :vitl_cooldown ...  the second stage: more frames, the rate down to zero

    python launch/train.py --config=configs/vjepa2.py --workdir=runs/vjepa2
    python launch/train.py --config=configs/vjepa2.py:tiny_cooldown --workdir=runs/vjepa2_cooldown \
        --config.init_from=runs/vjepa2
    python launch/convert.py --checkpoint=runs/vjepa2_cooldown --export=exported

The exported encoder is the teacher. In the comments, "V-JEPA 2" is its paper or its published
pretraining configs; "ours" is a choice of this recipe.
"""

from ml_collections import ConfigDict

from configs import common, models

# Frames of the two stages. Ours for the world; V-JEPA 2: 16, which are 8 x 16 x 16 = 2048 tokens,
# and 64.
FRAMES = {"tiny": (8, 16), "vitl": (16, 64), "vith": (16, 64), "vitg": (16, 64)}


def get_config(variant: str = "tiny") -> ConfigDict:
    name, _, stage = variant.partition("_")
    if name not in FRAMES or stage not in ("", "cooldown"):
        raise ValueError(f"no variant '{variant}': there are {', '.join(FRAMES)}, and X_cooldown")
    tiny, cooldown = name == "tiny", stage == "cooldown"
    config = common.run(
        objective="vjepa2",  # predict what a slow copy of the encoder makes of masked tokens
        # V-JEPA 2: 240,000 steps, then 12,000. Ours: what a CPU does in hours.
        steps=(500 if tiny else 12_000) if cooldown else (6_000 if tiny else 240_000),
        batch_size=128 if tiny else 3072,  # clips; V-JEPA 2: 3072
    )
    # DIR starts from another run's encoder, predictor and teacher, whatever its frames.
    config.init_from = f"runs/vjepa2_{name}" if cooldown else ""
    config.world = common.world()
    encoder = models.x_encoder(name, frames=FRAMES[name][0])
    config.model = _model(encoder, tiny)
    config.data = _data(encoder.image_size, FRAMES[name][1 if cooldown else 0], tiny)
    config.optimizer = _optimizer(tiny, cooldown, config.steps)
    config.sharding = common.sharding(
        *common.layer_axes(gated=False),
        common.axes(r"kernel$", "fsdp", "tensor"),
        common.axes(r"norm|bias$|mask_tokens$"),  # small: copied
    )
    config.checkpoint = common.checkpoint(every=200 if tiny else 1000, keep=2)
    return config


def _model(encoder: ConfigDict, tiny: bool) -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": encoder,
            "mask_predictor": {
                # V-JEPA 2: 384 wide, 12 layers, 12 heads for every encoder.
                "hidden_size": 96 if tiny else 384,
                "num_layers": 2 if tiny else 12,
                "num_heads": 3 if tiny else 12,
                "mlp_size": 384 if tiny else 1536,
                "norm_eps": 1e-6,
            },
            "masks": (
                # V-JEPA 2: 8 blocks of 0.15 and 2 of 0.7, over all frames; batches of 24 are cut
                # to the least kept tokens, on average 0.24 and 0.05 of a 16 x 16 grid (simulated).
                # Ours: these shares fixed (data/masks.py); 4 x 4 patches must keep two at least.
                _mask(0.15, masked=0.76),
                _mask(0.7, masked=0.88 if tiny else 0.95),
            ),
            # V-JEPA 2: 0.99925 for 252,000 steps. Ours: a run of a fortieth needs a faster teacher.
            "teacher_momentum": 0.99 if tiny else 0.99925,
            "dtype": "float32" if tiny else "bfloat16",  # of the computation; V-JEPA 2: bfloat16
            "remat": "none" if tiny else "full",  # V-JEPA 2: activations are checkpointed
            "unroll_layers": tiny,  # faster on CPU; a deep model would take long to compile
        }
    )


def _mask(scale: float, masked: float) -> ConfigDict:
    return ConfigDict(
        {
            "block_scale": (scale, scale),  # area share of a block; V-JEPA 2
            "aspect_ratio": (0.75, 1.5),  # height / width; V-JEPA 2
            "masked": masked,  # share of the patches that the blocks cover together
        }
    )


def _data(image_size: int, frames: int, tiny: bool) -> ConfigDict:
    return ConfigDict(
        {
            # Tasks only choose the clips: no text is read.
            "sources": (
                common.source("@world", {"caption": 1.0})
                if tiny
                else common.source("datasets/videos", {}),  # made by launch/prepare.py
            ),
            "video": {
                "frames": frames,
                "image_size": image_size,  # pixels
                "sampling": "jittered",  # ours; V-JEPA 2: 4 frames a second from a random moment
                "crop": "random",
                # Share of the area. V-JEPA 2: 0.3 to 1, and aspect ratios of 0.75 to 1.35; ours:
                # squares. Ours for the world: objects are small and would leave the picture.
                "crop_scale": (0.6 if tiny else 0.3, 1.0),
            },
            "text": None,
            "num_workers": 1 if tiny else 8,  # decoding processes beside the training one
            "visual_tokens": "compute",
        }
    )


def _optimizer(tiny: bool, cooldown: bool, steps: int) -> ConfigDict:
    if cooldown:
        warmup, schedule = 0, {"decay_steps": steps}  # V-JEPA 2: linear, down to 1e-6
    elif tiny:
        warmup, schedule = 300, {"decay_steps": 600}  # ours: a cooldown without more frames
    else:
        warmup, schedule = 12_000, "constant"  # V-JEPA 2
    return common.adamw(
        learning_rate=1e-3 if tiny else 5.25e-4,  # V-JEPA 2: 5.25e-4
        schedule=schedule,
        warmup_steps=warmup,
        beta2=0.999,  # V-JEPA 2: as AdamW's defaults
        weight_decay=0.04,  # V-JEPA 2
        # Ours: max_grad_norm; V-JEPA 2 does not clip.
        rules=(
            # V-JEPA 2: what has one dimension is not drawn towards zero.
            common.rule(r"norm|bias$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )

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

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs from size to size."""

    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    image_size: int
    patch_size: int
    frames: int
    cooldown_frames: int


SIZES = {
    # Ours: heads of 64, as V-JEPA 2's own; 8 frames are 4 x 4 x 4 = 64 tokens. The demo's.
    "tiny": Size(192, 4, 3, 672, 80, 20, 8, 16),
    # V-JEPA 2: 16 frames are 8 x 16 x 16 = 2048 tokens; 64 in the cooldown.
    "vitl": Size(1024, 24, 16, 4096, 256, 16, 16, 64),
    "vith": Size(1280, 32, 16, 5120, 256, 16, 16, 64),
    "vitg": Size(1408, 40, 22, 6144, 256, 16, 16, 64),
}


def get_config(variant: str = "tiny") -> ConfigDict:
    name, _, stage = variant.partition("_")
    if name not in SIZES or stage not in ("", "cooldown"):
        raise ValueError(f"no variant '{variant}': there are {', '.join(SIZES)}, and X_cooldown")
    size, tiny, cooldown = SIZES[name], name == "tiny", stage == "cooldown"
    config = ConfigDict()
    config.seed = 0  # of parameters, data order, masks and augmentation
    config.objective = "vjepa2"  # predict what a slow copy of the encoder makes of masked tokens
    # DIR starts from another run's encoder, predictor and teacher, whatever its frames.
    config.init_from = f"runs/vjepa2_{name}" if cooldown else ""
    # V-JEPA 2: 240,000 steps, then 12,000. Ours: what a CPU does in hours.
    config.steps = (500 if tiny else 12_000) if cooldown else (6_000 if tiny else 240_000)
    config.batch_size = 128 if tiny else 3072  # clips; V-JEPA 2: 3072
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 10  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = _world()
    config.model = _model(size, tiny)
    config.data = _data(size, tiny, size.cooldown_frames if cooldown else size.frames)
    config.loss = None  # this objective knows one loss alone: L1, as V-JEPA 2
    config.optimizer = _optimizer(tiny, cooldown, config.steps)
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 200 if tiny else 1000,  # steps; what a killed run can lose
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
            "keep": 2,  # newest ones
            "keep_every": 0,  # beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # and the n best
            "best_metric": "loss",  # by its mean since the checkpoint before
            "best_is": "lowest",  # or "highest"
        }
    )
    return config


def _world() -> ConfigDict:
    """As in configs/demo.py, so that all recipes share one world."""
    return ConfigDict(
        {
            "seed": 0,
            "cache_dir": ".cache/world",
            "train_clips": 5_000,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 700,  # of (object, motion) pairs that training shows too
            "compositional_clips": 900,  # of pairs that training never shows
            "streams": 4,  # long scripted videos
            "stream_density": 0.40,  # events per second
            "image_size": 96,  # pixels
            "frames": 16,  # of a clip
            "fps": 8,
        }
    )


def _model(size: Size, tiny: bool) -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": {
                "family": "vjepa2",
                "image_size": size.image_size,  # pixels
                "num_frames": size.frames,
                "patch_size": size.patch_size,  # pixels
                "tubelet_size": 2,  # frames per token; V-JEPA 2
                "hidden_size": size.hidden_size,
                "num_layers": size.num_layers,
                "num_heads": size.num_heads,
                "mlp_size": size.mlp_size,
                "norm_eps": 1e-6,  # V-JEPA 2
                "rope": "tiled",  # V-JEPA 2 as published, so that it can be exported
            },
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


def _data(size: Size, tiny: bool, frames: int) -> ConfigDict:
    return ConfigDict(
        {
            "sources": (
                {
                    "path": "@world" if tiny else "datasets/videos",  # made by launch/prepare.py
                    "split": "train",
                    "weight": 1.0,
                    # Only chooses the clips, {} those of every task: no text is read.
                    "tasks": {"caption": 1.0} if tiny else {},
                    "tags": {},
                },
            ),
            "video": {
                "frames": frames,
                "image_size": size.image_size,  # pixels
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
    return ConfigDict(
        {
            "learning_rate": 1e-3 if tiny else 5.25e-4,  # V-JEPA 2: 5.25e-4
            "schedule": schedule,  # after the warm-up
            "warmup_steps": warmup,
            "beta1": 0.9,  # V-JEPA 2: as AdamW's defaults
            "beta2": 0.999,
            "epsilon": 1e-8,
            "weight_decay": 0.04,  # V-JEPA 2
            "max_grad_norm": 1.0,  # ours; V-JEPA 2 does not clip
            "rules": (  # the first one found in a parameter's path counts
                # V-JEPA 2: what has one dimension is not drawn towards zero.
                _rule(r"norm|bias$", decay=0.0),
                _rule(r".*"),
            ),
        }
    )


def _rule(
    pattern: str, *, frozen: bool = False, rate: float = 1.0, decay: float = 1.0
) -> ConfigDict:
    """``rate`` and ``decay`` multiply the learning rate and the weight decay."""
    return ConfigDict({"pattern": pattern, "frozen": frozen, "rate": rate, "decay": decay})


def _sharding() -> ConfigDict:
    def rule(pattern: str, *spec: str | None) -> ConfigDict:
        return ConfigDict({"pattern": pattern, "spec": spec})  # a mesh axis, or None, a dimension

    return ConfigDict(
        {
            # Devices on each axis of the mesh; -1 is all the rest.
            "data": -1,  # rows of the batch; parameters are copied
            "fsdp": 1,  # rows of the batch; parameters are divided
            "tensor": 1,  # inside a layer
            # Stacked layers: [layer, in, out]. The first rule found in the path counts.
            "rules": (
                rule(
                    r"layers/(attention/(query|key|value)|mlp/up)/kernel$", None, "fsdp", "tensor"
                ),
                rule(r"layers/(attention/output|mlp/down)/kernel$", None, "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
                rule(r"norm|bias$|mask_tokens$"),  # small: copied
            ),
        }
    )

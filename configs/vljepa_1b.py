"""The paper's VL-JEPA (arXiv 2512.10942 v2): its model, and one variant a training stage.

    :image     query-free pretraining on images (the default)
    :video8    query-free pretraining on video, 8 frames
    :video32   query-free pretraining on video, 32 frames; gives BASE
    :sft       query-conditioned fine-tuning; gives SFT

Each stage starts from the run of the one before; :image starts from the published weights, which
launch/convert.py turns into weights/vljepa_1b (docs/weights.md says where they come from). Paths
below datasets/, weights/ and runs/ are for you to set, by --config.data.sources[0].path=... and
the like; launch/prepare.py makes datasets.

In the comments, "3.2" is a section of the paper; "ours" is a choice that the paper leaves open.
"""

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Stage:
    """The settings that differ from stage to stage."""

    init_from: str
    steps: int
    batch_size: int
    frames: int
    query_length: int
    target_length: int
    schedule: str
    sources: tuple[tuple[str, float, str], ...]  # (dataset, weight, task)


# 3.2: queries are for fine-tuning; pretraining sees the beginning-of-text token alone. Ours: room
# for the prompts of Figure 2 in evaluation. Padding costs time, but changes no result.
QUERY_FREE = 16
# 3.2: DataComp and YFCC-100M, in shares that the paper does not give. Ours: by their sizes (1.4B
# recaptioned pairs against some 100M).
IMAGES = (("datasets/datacomp", 14.0, "caption"), ("datasets/yfcc100m", 1.0, "caption"))
VIDEOS = (("datasets/action100m", 1.0, "caption"),)  # 3.2

STAGES = {
    "image": Stage(
        init_from="weights/vljepa_1b",  # 3.1: published backbones, by launch/convert.py
        steps=100_000,  # 3.2
        batch_size=24_576,  # 3.2 says 24k; this divides by 192 devices
        # 3.1: an image is duplicated; ours: to the 2 frames of one tubelet, 256 tokens, and by the
        # encoder, as the loader would carry twice the pixels for bitwise the same tokens.
        frames=1,
        query_length=QUERY_FREE,
        target_length=128,  # ours: captions of images are short; 3.1 allows 512
        schedule="constant",  # 3.2
        sources=IMAGES,
    ),
    "video8": Stage(
        init_from="runs/vljepa_1b_image",
        steps=60_000,  # 3.2
        batch_size=12_288,  # ours: not given
        frames=8,  # 3.2
        query_length=QUERY_FREE,
        target_length=512,  # 3.1
        schedule="constant",  # 3.2
        sources=VIDEOS,
    ),
    "video32": Stage(
        init_from="runs/vljepa_1b_video8",
        steps=10_000,  # 3.2
        batch_size=12_288,  # ours: not given
        frames=32,  # 3.2
        query_length=QUERY_FREE,
        target_length=512,  # 3.1
        schedule="constant",  # 3.2
        sources=VIDEOS,
    ),
    "sft": Stage(
        init_from="runs/vljepa_1b_video32",
        steps=83_000,  # 3.2
        batch_size=3072,  # 3.2
        frames=16,  # ours: not given
        query_length=512,  # 3.1: at most 512 query tokens
        target_length=512,  # 3.1
        schedule="cosine",  # 3.2
        # 3.2: 25M questions, 2.8M captions, 1.8M classifications and pretraining data in a share
        # that is not given; ours: a tenth, half images and half video.
        sources=(
            ("datasets/plm_vqa", 25.0, "vqa"),
            ("datasets/plm_captions", 2.8, "caption"),
            ("datasets/plm_classification", 1.8, "classification"),
            ("datasets/datacomp", 1.5, "caption"),
            ("datasets/yfcc100m", 0.1, "caption"),
            ("datasets/action100m", 1.6, "caption"),
        ),
    ),
}


def get_config(variant: str = "image") -> ConfigDict:
    if variant not in STAGES:
        raise ValueError(f"no variant '{variant}'; there are {', '.join(STAGES)}")
    stage = STAGES[variant]
    config = ConfigDict()
    config.seed = 0  # ours
    config.objective = "vljepa"  # 2: predict the embedding of the target text
    config.init_from = stage.init_from  # parameters alone; optimisers start anew (ours)
    config.steps = stage.steps
    config.batch_size = stage.batch_size
    config.micro_batch_size = 0  # ours; rows whose activations are held at a time; 0 for all
    config.log_every = 20  # ours; steps
    config.on_non_finite = "skip"  # ours; or "stop": what a non-finite loss does
    config.world = _world()
    config.model = _model(stage)
    config.data = _data(stage)
    config.loss = ConfigDict(
        {
            # 2: bidirectional InfoNCE; for ablations cosine, l1, l2, vic_reg, sig_reg
            "name": "info_nce",
            # Ours: answers such as "yes" repeat within a batch and are then no negatives.
            "mask_equal_targets": True,
            # The settings of two losses of other names (losses/regression.py).
            "vic_reg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},  # as published
            # LeJEPA's: the weight is the regularisation's share, on so many random directions.
            "sig_reg": {"weight": 0.05, "directions": 1024},
        }
    )
    config.optimizer = _optimizer(stage)
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 1000,  # ours; steps
            "minutes": 30.0,  # ours; and when so many have passed since the last; 0 for never
            "keep": 2,  # ours; newest ones
            "keep_every": 0,  # ours; beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # ours; and the n best
            "best_metric": "loss",  # by its mean since the checkpoint before
            "best_is": "lowest",  # or "highest"
        }
    )
    # Benchmarks while it trains: {every, benchmarks, batch_size, num_workers} (docs/training.md).
    config.evaluations = ()
    return config


def _model(stage: Stage) -> ConfigDict:
    model = ConfigDict()
    # 3.1: V-JEPA 2 ViT-L at 256 x 256; sizes as published in facebook/vjepa2-vitl-fpc64-256.
    model.x_encoder = ConfigDict(
        {
            "family": "vjepa2",
            "image_size": 256,  # 3.1; pixels
            "num_frames": max(2, stage.frames),  # positions need no more than any even number
            "patch_size": 16,  # published
            "tubelet_size": 2,  # published
            "hidden_size": 1024,  # published
            "num_layers": 24,  # published
            "num_heads": 16,  # published
            "mlp_size": 4096,  # published
            "norm_eps": 1e-6,  # published
            "rope": "tiled",  # published: upstream's variant, which is no true rotation
        }
    )
    # 3.1: the last 8 layers of Llama-3.2-1B; sizes as published in meta-llama/Llama-3.2-1B.
    model.predictor = ConfigDict(
        {
            "family": "llama",
            "vocab_size": 128_256,  # published; the table is frozen, see optimizer.rules
            "hidden_size": 2048,  # published
            "num_layers": 8,  # 3.1
            "first_layer": 8,  # 3.1: layers 8 to 15
            "num_heads": 32,  # published
            "num_kv_heads": 8,  # published
            "head_size": 64,  # published
            "mlp_size": 8192,  # published
            "norm_eps": 1e-5,  # published
            "rope_theta": 500_000.0,  # published
            "rope_scaling": {  # published
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_positions": 8192,
            },
            "causal": False,  # 3.1: the causal mask is removed
        }
    )
    # 3.1: EmbeddingGemma-300M; sizes as published in google/embeddinggemma-300m.
    model.y_encoder = ConfigDict(
        {
            "family": "gemma",
            "vocab_size": 262_144,  # published
            "hidden_size": 768,  # published
            "num_layers": 24,  # published
            "num_heads": 3,  # published
            "num_kv_heads": 1,  # published
            "head_size": 256,  # published
            "mlp_size": 1152,  # published
            "norm_eps": 1e-6,  # published
            "query_scale": 256.0,  # published; scores are scaled by query_scale ** -0.5
            "sliding_window": 512,  # published: 256 tokens to either side
            "global_every": 6,  # published
            "rope_theta_local": 10_000.0,  # published
            "rope_theta_global": 1_000_000.0,  # published
            "dense_sizes": (3072, 768),  # ours: the published dense layers are kept; () drops them
        }
    )
    model.embedding_size = 1536  # 3.1; of the shared space
    model.pooling = "all"  # 3.1: average over non-[PAD] tokens; ours: visual ones too
    model.initial_temperature = 0.07  # ours
    model.max_logit_scale = 100.0  # ours
    model.dtype = "bfloat16"  # ours; of the computation
    model.remat = "full"  # ours: a layer's activations are computed again in the backward pass
    model.unroll_layers = False  # ours: one compiled layer serves a stack
    return model


def _data(stage: Stage) -> ConfigDict:
    def source(path: str, weight: float, task: str) -> ConfigDict:
        return ConfigDict(
            {
                "path": path,
                "split": "train",
                "weight": weight,
                "tasks": {task: 1.0},
                "tags": {},  # of annotations; {} for all
                "limit": 0,  # records that are used, drawn once by the seed; 0 for all
                "max_epochs": 0.0,  # of its records at most; 0 for no end
            }
        )

    return ConfigDict(
        {
            "sources": tuple(source(*entry) for entry in stage.sources),
            "video": {
                "frames": stage.frames,
                "image_size": 256,  # 3.1; pixels
                "sampling": "uniform",  # 3.1
                "crop": "random",  # ours: a random resized crop
                "crop_scale": (0.5, 1.0),  # ours; share of the area
            },
            "text": {
                "query_tokenizer": "weights/llama-3.2-1b/tokenizer.json",  # 3.1
                "target_tokenizer": "weights/embeddinggemma-300m/tokenizer.json",  # 3.1
                "query_length": stage.query_length,
                "target_length": stage.target_length,
                "target_prompt": "",  # ours: EmbeddingGemma's own prefixes are a switch
            },
            "num_workers": 16,  # ours; decoding processes on each host
            "visual_tokens": "compute",  # ours: random crops give other tokens each time
        }
    )


def _optimizer(stage: Stage) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": 5e-5,  # 3.2 for pretraining; ours for fine-tuning
            "schedule": stage.schedule,
            "warmup_steps": 2000,  # ours
            "beta1": 0.9,  # ours
            "beta2": 0.95,  # ours
            "epsilon": 1e-8,  # ours
            "weight_decay": 0.05,  # ours
            "max_grad_norm": 1.0,  # ours; over all trained parameters
            # The first rule found in a parameter's path counts.
            "rules": (
                _rule(r"^x_encoder/", frozen=True),  # 3.1
                # Ours, by the paper's count: its 490M trainable hold no 263M of a table.
                _rule(r"^token_embedding/", frozen=True),
                # 3.1: rate x 0.05. Ours: norms are not drawn towards zero.
                _rule(r"^y_encoder/.*norm", lr_multiplier=0.05, weight_decay_multiplier=0.0),
                _rule(r"^y_encoder/", lr_multiplier=0.05),
                # Ours: nor are the temperature, the other norms and the biases.
                _rule(r"^log_logit_scale$|norm|bias$", weight_decay_multiplier=0.0),
                _rule(r".*"),  # the predictor, its projections, and the head of the Y-Encoder
            ),
        }
    )


def _rule(
    pattern: str,
    *,
    frozen: bool = False,
    lr_multiplier: float = 1.0,
    weight_decay_multiplier: float = 1.0,
) -> ConfigDict:
    """An entry of the optimizer's table; the first whose pattern is found counts."""
    return ConfigDict(
        {
            "pattern": pattern,
            "frozen": frozen,
            "lr_multiplier": lr_multiplier,
            "weight_decay_multiplier": weight_decay_multiplier,
        }
    )


def _sharding() -> ConfigDict:
    def rule(pattern: str, *spec: str | None) -> ConfigDict:
        return ConfigDict({"pattern": pattern, "spec": spec})  # a mesh axis, or None, a dimension

    return ConfigDict(
        {
            # Ours. Devices on each axis of the mesh; -1 is all the rest. Parameters, gradients and
            # Adam's moments take 15 GB undivided. A dimension that an axis does not divide stays
            # whole on it (--summary tells): powers of two up to 256 divide all, 192 few. On more
            # than one host let fsdp be the devices of one, and data the rest (-1).
            "data": 1,  # rows of the batch; parameters are copied
            "fsdp": -1,  # rows of the batch; parameters are divided
            "tensor": 1,  # inside a layer
            # Stacked layers: [layer, in, out]. The first rule found in the path counts.
            "rules": (
                rule(
                    r"layers/(attention/(query|key|value)|mlp/(gate|up))/kernel$",
                    *(None, "fsdp", "tensor"),
                ),
                rule(r"layers/(attention/output|mlp/down)/kernel$", None, "tensor", "fsdp"),
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
                rule(r"^log_logit_scale$|norm|bias$|class_token$|_modality$"),
            ),
        }
    )


def _world() -> ConfigDict:
    """Ours. Not used unless a source is "@world", the bundled video world."""
    return ConfigDict(
        {
            "seed": 0,
            "cache_dir": ".cache/world",
            "train_clips": 16_000,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 640,
            "compositional_clips": 320,
            "streams": 4,
            "stream_kind": "procedural",  # as the paper's are
            "stream_density": 0.40,  # events per second
            "image_size": 256,  # pixels
            "frames": 32,
            "fps": 8,
        }
    )

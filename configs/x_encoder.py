"""The X-Encoder that comes with the package: V-JEPA 2's architecture, pretrained on labels.

The parameters see a part of the bundled world that no other recipe uses (its own seed), and of it
the training split: no held-out pair, no held-out phrasing. Two stages:

    :single   clips with one object: objects and motions are learnt soonest where nothing distracts
    (none)    all clips; starts from the first stage's parameters (--config.init_from=DIR:params)

``make x-encoder`` runs both; docs/backbones.md tells why labels, and what they reach.
"""

from ml_collections import ConfigDict

WIDTH = 192


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "single"):
        raise ValueError(f"no variant '{variant}': there are 'single' and the one without")
    config = ConfigDict()
    config.seed = 0 if variant == "single" else 1  # of parameters, data order and augmentation
    config.objective = "probe"  # cross-entropy over the label set of each question
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = 1_600 if variant == "single" else 1_500
    config.batch_size = 64  # clips
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 20  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = ConfigDict(
        {
            "seed": 101,  # no other recipe's
            "cache_dir": ".cache/world",
            "train_clips": 24_000,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 0,
            "compositional_clips": 0,
            "streams": 0,
            "stream_density": 0.40,  # events per second
            "image_size": 96,  # pixels
            "frames": 16,  # of a clip
            "fps": 8,
        }
    )
    config.model = ConfigDict(
        {
            "x_encoder": {
                "family": "vjepa2",
                "image_size": 64,  # pixels
                "num_frames": 8,
                "patch_size": 16,  # pixels
                "tubelet_size": 2,  # frames per token: 4 x 4 x 4 = 64 tokens a clip
                "hidden_size": WIDTH,
                "num_layers": 4,
                "num_heads": 3,
                "mlp_size": 4 * WIDTH,
                "norm_eps": 1e-6,
                "rope": "tiled",  # V-JEPA 2 as published, so that it can be exported
            },
            # One cross-attention, told the question: what it reads is in single tokens, where the
            # predictor of a VL-JEPA will look for it. It is left behind after training.
            "pooler": {
                "num_layers": 0,  # self-attention layers before the cross-attention
                "num_heads": 3,
                "mlp_size": 4 * WIDTH,
                "norm_eps": 1e-6,
                "query_vocab_size": 1024,
            },
            # Label sets of the dataset -> their sizes.
            "label_sets": {"motions": 14, "objects": 104, "counts": 5, "yes_no": 2, "colours": 6},
            "dtype": "float32",  # of the computation
            "remat": "none",  # nothing is recomputed in the backward pass
            "unroll_layers": True,  # faster on CPU
        }
    )
    config.data = ConfigDict(
        {
            "sources": (
                {
                    "path": "@world",
                    "split": "train",
                    "weight": 1.0,
                    "tasks": {"classification": 1.0, "vqa": 1.0},
                    "tags": {"objects": "1"} if variant == "single" else {},
                },
            ),
            "video": {
                "frames": 8,
                "image_size": 64,  # pixels
                "sampling": "jittered",  # a random frame of each of as many equal spans
                "crop": "random",  # nothing is flipped: directions are asked about
                "crop_scale": (0.8, 1.0),  # share of the area
            },
            "text": {
                "per_clip": 8,  # questions that share a clip's pass through the X-Encoder
                "query_tokenizer": "@world",  # ships with the package
                "query_length": 16,  # tokens; hardly a question of the world is longer
            },
            "num_workers": 1,  # decoding processes beside the training one
            "visual_tokens": "compute",  # the X-Encoder is what is trained
        }
    )
    config.loss = None  # this objective knows one loss alone
    config.optimizer = ConfigDict(
        {
            "learning_rate": 1e-3,
            "schedule": "constant" if variant == "single" else "cosine",
            "warmup_steps": 100,
            "beta1": 0.9,
            "beta2": 0.98,
            "epsilon": 1e-8,
            "weight_decay": 0.05,
            "max_grad_norm": 1.0,
            # The first rule found in a parameter's path counts.
            "rules": (
                # Norms, biases and the question's words are not drawn towards zero.
                _rule(r"norm|bias$|embedding$", decay=0.0),
                _rule(r".*"),
            ),
        }
    )
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 250,  # steps; what a killed run can lose
            "keep": 1,  # newest ones
            "keep_every": 0,  # beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # and the n best
            "best_metric": "loss",  # by its mean since the checkpoint before
            "best_is": "lowest",  # or "highest"
        }
    )
    return config


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
                rule(r"^(set_query|classifier)/|norm|bias$"),  # small: copied
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
            ),
        }
    )

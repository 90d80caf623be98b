"""Labels from a frozen X-Encoder's tokens: probes (configs/x_encoder.py trains one on labels).

    :attentive  V-JEPA 2's attentive probe on a frozen X-Encoder, told the question (the default)
    :linear     a linear probe: the mean of the frozen tokens, then one linear layer; not told it

    python launch/probe.py --config=configs/probe.py --checkpoint=runs/vjepa2

launch/probe.py takes the X-Encoder's sizes from what it is given and trains both probes.

In the comments, "V-JEPA 2" is its paper (arXiv 2506.09985, section 5 and appendix) or its
evaluation configs; "ours" is a choice for the bundled world.
"""

from ml_collections import ConfigDict

WIDTH = 192
VARIANTS = ("attentive", "linear")


def get_config(variant: str = "attentive") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"no variant '{variant}': there are {', '.join(VARIANTS)}")
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and augmentation
    config.objective = "probe"  # cross-entropy over the label set of each question
    config.init_from = ""  # a run with these parameters, e.g. what launch/probe.py writes
    config.steps = 1500  # ours
    config.batch_size = 128  # clips
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 50  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = _world()
    config.model = ConfigDict(
        {
            "x_encoder": _x_encoder(),
            "pooler": None if variant == "linear" else _pooler(),
            # Label sets of the dataset -> their sizes. Each question is answered from its own set.
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
                    "path": "@world",  # or a directory that launch/prepare.py made
                    "split": "train",
                    "weight": 1.0,
                    # What a clip is asked first; more often what is hard.
                    "tasks": {"classification": 2.0, "vqa": 1.0},
                    "tags": {},  # e.g. {"objects": "1"}: only clips with one object
                },
            ),
            "video": {
                "frames": 8,
                "image_size": 80,  # pixels
                "sampling": "uniform",  # a cache of tokens needs the same frames every time
                "crop": "centre",
                "crop_scale": (1.0, 1.0),  # share of the area; random crops alone use it
            },
            "text": {
                "per_clip": 8,  # questions that share a clip's pass through the X-Encoder
                "query_tokenizer": "@world",
                "query_length": 16,  # tokens; hardly a question of the world is longer
            },
            "num_workers": 1,  # decoding processes beside the training one
            "visual_tokens": "cache",
        }
    )
    config.loss = None  # this objective knows one loss alone
    config.optimizer = _optimizer()
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 500,  # steps; what a killed run can lose
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
            "keep": 1,  # newest ones
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


def _x_encoder() -> ConfigDict:
    """The smallest of configs/vjepa2.py."""
    return ConfigDict(
        {
            "family": "vjepa2",
            "image_size": 80,  # pixels
            "num_frames": 8,
            "patch_size": 20,  # pixels
            "tubelet_size": 2,  # frames per token: 4 x 4 x 4 = 64 tokens a clip
            "hidden_size": WIDTH,
            "num_layers": 4,
            "num_heads": 3,
            "mlp_size": 7 * WIDTH // 2,
            "norm_eps": 1e-6,
            "rope": "tiled",  # V-JEPA 2 as published, so that it can be exported
        }
    )


def _pooler() -> ConfigDict:
    return ConfigDict(
        {
            # V-JEPA 2's probes have 4 layers, 3 of self-attention before the cross-attention, on
            # encoders of 24 to 40; ours: a probe that cannot compute much itself.
            "num_layers": 0,
            "num_heads": 3,  # V-JEPA 2: as the encoder; 16
            "mlp_size": 4 * WIDTH,  # V-JEPA 2: 4 times the width
            "norm_eps": 1e-6,
            # Ours: questions about clips of several objects name one of them.
            "query_vocab_size": 1024,  # of the query tokenizer; 0 does not tell the question
        }
    )


def _optimizer() -> ConfigDict:
    rules = (
        _rule(r"^x_encoder/", frozen=True),
        # Norms, biases and tables are not drawn towards zero.
        _rule(r"norm|bias$|embedding$", decay=0.0),
        _rule(r".*"),
    )
    return ConfigDict(
        {
            # V-JEPA 2 takes the best of a grid, 3e-4 to 5e-3 and weight decay 0.01 to 0.8.
            "learning_rate": 1e-3,
            "schedule": "cosine",  # V-JEPA 2
            "warmup_steps": 0,  # V-JEPA 2: none for probes
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-8,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "rules": rules,  # the first one found in a parameter's path counts
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
                rule(r"^(set_query|classifier)/|norm|bias$"),  # small: copied
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
            ),
        }
    )

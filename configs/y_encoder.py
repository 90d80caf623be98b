"""The Y-Encoder that comes with the package: EmbeddingGemma's architecture, pretrained on text.

As EmbeddingGemma it learns from pairs of texts that mean the same, with a hard negative to each:
sentences and short answers in the words of the bundled world, of no held-out (object, motion) pair
and in no held-out phrasing. ``make backbones`` runs it; docs/backbones.md has what it reaches.
"""

from ml_collections import ConfigDict

WIDTH = 160


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and augmentation
    config.objective = "text_pairs"  # paraphrases near, other texts far
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = 1_000
    config.batch_size = 96  # triplets; each text is told apart from 191 others
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 20  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = ConfigDict(
        {
            "seed": 102,  # no other recipe's
            "cache_dir": ".cache/world",
            "train_clips": 0,
            "train_triplets": 60_000,  # texts for training a text encoder alone
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
            "y_encoder": {
                "family": "gemma",
                "vocab_size": 1024,
                "hidden_size": WIDTH,
                "num_layers": 3,
                "num_heads": 4,
                "num_kv_heads": 1,
                "head_size": WIDTH // 4,
                "mlp_size": 2 * WIDTH,
                "norm_eps": 1e-6,
                "query_scale": float(WIDTH // 4),  # scores are scaled by query_scale ** -0.5
                "sliding_window": 16,  # local layers see 8 tokens to either side
                "global_every": 3,  # every third layer is global
                "rope_theta_local": 10_000.0,
                "rope_theta_global": 1_000_000.0,
                "dense_sizes": (),  # EmbeddingGemma's two dense layers are left out
            },
            "initial_temperature": 0.07,
            "max_logit_scale": 50.0,
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
                    "tasks": {"triplet": 1.0},
                    "tags": {},
                },
            ),
            "video": None,  # text alone
            "text": {
                "tokenizer": "@world",  # ships with the package
                "length": 44,  # tokens; what a sentence of five objects takes
            },
            "num_workers": 0,  # a thread is enough for text
            "visual_tokens": "none",
        }
    )
    config.loss = None  # this objective knows one loss alone
    config.optimizer = ConfigDict(
        {
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": 40,
            "beta1": 0.9,
            "beta2": 0.98,
            "epsilon": 1e-8,
            "weight_decay": 0.05,
            "max_grad_norm": 1.0,
            # The first rule found in a parameter's path counts.
            "rules": (
                # The temperature, norms and the words are not drawn towards zero.
                _rule(r"^log_logit_scale$|norm|embedding$", decay=0.0),
                _rule(r".*"),
            ),
        }
    )
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 400,  # steps; what a killed run can lose
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
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
                    r"layers/(attention/(query|key|value)|mlp/(gate|up))/kernel$",
                    *(None, "fsdp", "tensor"),
                ),
                rule(r"layers/(attention/output|mlp/down)/kernel$", None, "tensor", "fsdp"),
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"^log_logit_scale$|norm"),  # small: copied
            ),
        }
    )

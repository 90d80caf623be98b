"""Adapts the small VL-JEPA to clips of your own, in minutes on a laptop.

It goes on from the demo's run, on a dataset that launch/prepare.py has made of your files:

    python launch/train.py --config=configs/finetune.py:DATASET --workdir=runs/clips \
        --config.init_from=runs/demo:params

The README has a worked example, with the figures before and after. In the comments, a section
number is the paper's (arXiv 2512.10942 v2); the rest is ours.
"""

from ml_collections import ConfigDict

WIDTH = 192  # of the X-Encoder and of the predictor
TEXT_WIDTH = 160  # of the Y-Encoder


def get_config(dataset: str = "") -> ConfigDict:
    if not dataset:
        raise ValueError("name a dataset: --config=configs/finetune.py:DATASET")
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and augmentation
    config.objective = "vljepa"  # predict the embedding of the target text
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = 100
    config.batch_size = 128  # global; also the number of candidates each row is told apart from
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 10  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = _world()
    config.model = _model()
    config.data = _data(dataset)
    config.loss = ConfigDict(
        {
            "name": "info_nce",  # or, for ablations, cosine, l1, l2, vic_reg, sig_reg
            # Short answers ("yes") repeat within a batch; equal texts are no negatives.
            "mask_equal_targets": True,
            # The settings of two losses of other names (losses/regression.py).
            "vic_reg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},  # as published
            # LeJEPA's: the weight is the regularisation's share, on so many random directions.
            "sig_reg": {"weight": 0.05, "directions": 1024},
        }
    )
    config.optimizer = _optimizer()
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 100,  # steps; what a killed run can lose
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
    """Used by sources of the path "@world" alone."""
    return ConfigDict(
        {
            "seed": 0,
            "cache_dir": ".cache/world",
            "train_clips": 5_000,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 700,  # of (object, motion) pairs that training shows too
            "compositional_clips": 900,  # of pairs that training never shows
            "streams": 4,  # long scripted videos
            "stream_density": 0.40,  # events per second (the paper: 143 in 6 minutes)
            "image_size": 96,  # pixels
            "frames": 16,  # of a clip
            "fps": 8,
        }
    )


def _model() -> ConfigDict:
    """The sizes of the backbones are those of the boxed ones."""
    model = ConfigDict()
    model.x_encoder = ConfigDict(
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
            "rope": "tiled",  # V-JEPA 2 as published
        }
    )
    model.predictor = ConfigDict(
        {
            "family": "llama",
            "vocab_size": 1024,
            "hidden_size": WIDTH,
            "num_layers": 2,  # 3.1: the last half of the language model's layers
            "first_layer": 2,
            "num_heads": 3,
            "num_kv_heads": 3,
            "head_size": WIDTH // 3,
            "mlp_size": 512,
            "norm_eps": 1e-5,
            "rope_theta": 500_000.0,  # Llama 3
            "rope_scaling": None,  # for contexts longer than any here
            "causal": False,  # 3.1: the causal mask is removed
        }
    )
    model.y_encoder = ConfigDict(
        {
            "family": "gemma",
            "vocab_size": 1024,
            "hidden_size": TEXT_WIDTH,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 1,
            "head_size": TEXT_WIDTH // 4,
            "mlp_size": 2 * TEXT_WIDTH,
            "norm_eps": 1e-6,
            "query_scale": float(TEXT_WIDTH // 4),  # scores are scaled by query_scale ** -0.5
            "sliding_window": 16,  # local layers see 8 tokens to either side
            "global_every": 3,  # every third layer is global
            "rope_theta_local": 10_000.0,
            "rope_theta_global": 1_000_000.0,
            "dense_sizes": (),  # EmbeddingGemma's two dense layers are left out
        }
    )
    model.embedding_size = 192  # of the shared space
    # Ours: the query's tokens alone (the paper averages all), as the boxed predictor reads.
    model.pooling = "query"
    model.initial_temperature = 0.04  # 0.07 is common; there is little time to learn it
    model.max_logit_scale = 100.0
    model.dtype = "float32"  # of the computation
    model.remat = "none"  # nothing is recomputed in the backward pass
    model.unroll_layers = True  # faster on CPU; a deep model would take long to compile
    return model


def _data(dataset: str) -> ConfigDict:
    return ConfigDict(
        {
            "sources": (
                ConfigDict(
                    {
                        "path": dataset,  # a directory that launch/prepare.py made
                        "split": "train",
                        "weight": 1.0,  # share among the sources
                        # How often each task is drawn, among those a clip has: for example
                        # {"caption": 1.0, "vqa": 2.0}; {} takes every task that there is, each as
                        # often as the others.
                        "tasks": {},
                        "tags": {},  # only annotations with these tags; {} for all
                    }
                ),
            ),
            "video": {
                "frames": 8,
                "image_size": 80,  # pixels
                "sampling": "uniform",  # 3.1; always the same frames, so that tokens can be kept
                "crop": "centre",
                "crop_scale": (1.0, 1.0),  # share of the area; random crops alone use it
            },
            "text": {
                "query_tokenizer": "@world",  # ships with the package
                "target_tokenizer": "@world",
                "query_length": 16,  # tokens
                "target_length": 36,
                "target_prompt": "",
            },
            "num_workers": 1,  # decoding processes beside the training one
            # The frozen X-Encoder sees every clip once; its tokens are kept beside the records.
            "visual_tokens": "cache",
        }
    )


def _optimizer() -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 20,
            "beta1": 0.9,
            "beta2": 0.99,
            "epsilon": 1e-8,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,  # over all trained parameters
            # The first rule found in a parameter's path counts.
            "rules": (
                # 3.1: the X-Encoder is frozen, and so, by the paper's count of what is trained,
                # is the token table.
                _rule(r"^x_encoder/|^token_embedding/", frozen=True),
                # The temperature, norms and biases are not drawn towards zero.
                _rule(r"^log_logit_scale$|norm|bias$", decay=0.0),
                _rule(r"^y_encoder/", rate=0.05),  # 3.1
                # It can read, and is to lose nothing of it.
                _rule(r"^predictor/", rate=0.3),
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
                    r"layers/(attention/(query|key|value)|mlp/(gate|up))/kernel$",
                    *(None, "fsdp", "tensor"),
                ),
                rule(r"layers/(attention/output|mlp/down)/kernel$", None, "tensor", "fsdp"),
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
                rule(r"^log_logit_scale$|norm|bias$"),
            ),
        }
    )

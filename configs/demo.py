"""The demo: a small VL-JEPA, every part trained from scratch on the bundled video world.

The modules, the trainer and the data path are those of the 1.6B model; only the sizes differ. As in
the paper, training is staged from cheap to dear:

    :image   two frames of clips with a single object; a visual token costs little, and objects
             get their names
    (none)   four frames of all clips, all tasks; starts from the image stage's parameters
             (--config.init_from=DIR:params, see ``make demo``)
    :clips   your own clips: --config.data.sources[0].path=DATASET, see the README
"""

from ml_collections import ConfigDict

WIDTH = 128


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "image", "clips"):
        raise ValueError(f"no variant '{variant}': there are 'image', 'clips' and the one without")
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and augmentation
    config.objective = "vljepa"  # predict the embedding of the target text
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = {"image": 400, "": 340, "clips": 100}[variant]
    config.batch_size = 128  # global; also the number of candidates each row is told apart from
    config.log_every = 10  # steps
    config.world = _world()
    config.model = _model()
    config.data = _data(variant)
    config.loss = ConfigDict(
        {
            "name": "info_nce",
            # Short answers ("yes") repeat within a batch; equal texts are no negatives.
            "mask_equal_targets": True,
        }
    )
    config.optimizer = _optimizer()
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 100,  # steps; what a killed run can lose
            "keep": 2,  # newest ones
        }
    )
    return config


def _world() -> ConfigDict:
    """As in configs/eval/world.py, so that training and evaluation share one world."""
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
    model = ConfigDict()
    model.x_encoder = ConfigDict(
        {
            "family": "vjepa2",
            "image_size": 64,  # pixels
            "num_frames": 4,
            "patch_size": 16,  # pixels
            "tubelet_size": 2,  # frames per token: 2 x 4 x 4 = 32 tokens a clip
            "hidden_size": WIDTH,
            "num_layers": 2,
            "num_heads": 4,
            "mlp_size": 2 * WIDTH,
            "norm_eps": 1e-6,
            "rope": "interleaved",  # a true rotation, as in V-JEPA 2.1; no weights to be true to
        }
    )
    model.predictor = ConfigDict(
        {
            "family": "llama",
            "vocab_size": 1024,  # of the query tokenizer
            "hidden_size": WIDTH,
            "num_layers": 1,
            "first_layer": 0,  # no published model to take a slice of
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_size": 32,
            "mlp_size": 2 * WIDTH,
            "norm_eps": 1e-5,
            "rope_theta": 10_000.0,  # for some hundred positions; Llama-3's 500,000 is for 8192
            "rope_scaling": None,
            "causal": False,  # the paper removes the causal mask
        }
    )
    model.y_encoder = ConfigDict(
        {
            "family": "gemma",
            "vocab_size": 1024,  # of the target tokenizer
            "hidden_size": WIDTH,
            "num_layers": 2,
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_size": 32,
            "mlp_size": 2 * WIDTH,
            "norm_eps": 1e-6,
            "query_scale": 32.0,  # scores are scaled by query_scale ** -0.5
            "sliding_window": 16,  # local layers see 8 tokens to either side
            "global_every": 2,  # every second layer is global
            "rope_theta_local": 10_000.0,
            "rope_theta_global": 1_000_000.0,
            "dense_sizes": (),  # EmbeddingGemma's two dense layers are left out
        }
    )
    model.embedding_size = 128  # of the shared space
    model.pooling = "all"  # the predictor averages visual and query tokens
    model.initial_temperature = 0.07
    model.max_logit_scale = 100.0
    model.dtype = "float32"  # of the computation
    model.remat = "none"  # nothing is recomputed in the backward pass
    model.unroll_layers = True  # faster on CPU; a deep model would take long to compile
    return model


def _data(variant: str) -> ConfigDict:
    if variant == "image":
        sources = (
            _source(2.0, {"classification": 1.0}, kind="object", objects="1"),
            _source(1.0, {"caption": 1.0}, kind="caption", objects="1"),
        )
    elif variant == "clips":
        sources = (_source(1.0, {"caption": 1.0, "vqa": 1.0}),)
    else:
        # Clips with one object tell most plainly what is meant, so they come more often.
        sources = (
            _source(3.0, {"caption": 1.0, "classification": 2.0, "vqa": 2.0, "state": 0.5}),
            _source(2.0, {"caption": 1.0, "classification": 2.0, "vqa": 2.0}, objects="1"),
        )
    return ConfigDict(
        {
            "sources": sources,
            "video": {
                "frames": 2 if variant == "image" else 4,
                "image_size": 64,  # pixels
                "sampling": "jittered",  # a random frame of each of as many equal spans
                # Positions are asked about, so crops stay large; nothing is ever flipped.
                "crop": "random",
                "crop_scale": (0.8, 1.0),  # share of the area
            },
            "text": {
                "query_tokenizer": "@world",  # ships with the package
                "target_tokenizer": "@world",
                "query_length": 16,  # tokens; hardly a query of the world is longer
                "target_length": 32,  # tokens; captions of five objects are cut
                "target_prompt": "",
            },
            "num_workers": 1,  # decoding processes beside the training one
            "visual_tokens": "compute",  # "cache" needs a frozen X-Encoder
        }
    )


def _source(weight: float, tasks: dict[str, float], **tags: str) -> ConfigDict:
    return ConfigDict(
        {
            "path": "@world",  # or a directory that launch/prepare.py made
            "split": "train",
            "weight": weight,  # share among the sources
            "tasks": tasks,  # how often each task is drawn, among those a clip has
            "tags": tags,  # only annotations with these tags; {} for all
        }
    )


def _optimizer() -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": 3e-3,
            "schedule": "cosine",
            "warmup_steps": 20,
            "beta1": 0.9,
            "beta2": 0.99,
            "epsilon": 1e-8,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,  # over all trained parameters
            # The first rule found in a parameter's path counts.
            "rules": (
                # The temperature, norms and biases are not drawn towards zero.
                _rule(r"^log_logit_scale$|norm|bias$", decay=0.0),
                # The paper's 0.05 protects a pretrained Y-Encoder; this one starts at random and
                # has everything to learn, hence the full rate.
                _rule(r"^y_encoder/", rate=1.0),
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

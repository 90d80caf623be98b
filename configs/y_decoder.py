"""The Y-Decoder of the demo: embeddings of the small VL-JEPA -> text, in a minute on a laptop.

    (none)      learns from text alone to invert the frozen Y-Encoder, with noise on the embedding
    :predicted  goes on with the VL-JEPA's predictions for training clips in place of noise; starts
                from the run before (--config.init_from=VLJEPA:vljepa,Y_DECODER:y_decoder)

It starts from the language model that comes with the package (docs/decoding.md has the commands,
how the level of the noise was chosen, and what the two variants reach).
"""

from ml_collections import ConfigDict

WIDTH = 192  # of the VL-JEPA's X-Encoder and predictor, and of the decoder
TEXT_WIDTH = 160  # of the Y-Encoder


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "predicted"):
        raise ValueError(f"no variant '{variant}': there are 'predicted' and none")
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and noise
    config.objective = "y_decoder"  # write the text whose embedding is shown
    # DIR:y_encoder,DIR:y_decoder: the Y-Encoder of a VL-JEPA, and a decoder to start from
    config.init_from = ""
    config.steps = {"": 200, "predicted": 130}[variant]
    config.batch_size = 32  # texts
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 10  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = _world()
    config.model = _model(variant)
    config.data = _data(variant)
    config.loss = None  # this objective knows one loss alone
    config.optimizer = _optimizer(variant)
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 200,  # steps; what a killed run can lose
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


def _vljepa() -> ConfigDict:
    """As in configs/demo.py."""
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


def _model(variant: str) -> ConfigDict:
    model = ConfigDict()
    model.vljepa = _vljepa()  # whose embeddings are decoded; frozen
    # The last half of the language model that comes with the package, as in the predictor.
    model.y_decoder = ConfigDict(
        {
            "family": "llama",
            "vocab_size": 1024,
            "hidden_size": WIDTH,
            "num_layers": 2,
            "first_layer": 2,
            "num_heads": 3,
            "num_kv_heads": 3,
            "head_size": WIDTH // 3,
            "mlp_size": 512,
            "norm_eps": 1e-5,
            "rope_theta": 500_000.0,  # Llama 3
            "rope_scaling": None,  # for contexts longer than any here
            "causal": True,
        }
    )
    model.prefix_tokens = 4  # made from an embedding, before the first token of the text
    # Largest length of the Gaussian noise on the unit embedding. Little: this decoder learns to
    # read, and :predicted then shows it the gap. Without that, take what launch/noise.py measures.
    model.noise = {"": 0.5, "predicted": 0.0}[variant]
    model.dtype = "float32"  # of the computation
    model.remat = "none"  # nothing is recomputed in the backward pass
    model.unroll_layers = True  # faster on CPU
    return model


def _data(variant: str) -> ConfigDict:
    text = variant == ""
    return ConfigDict(
        {
            "sources": (
                {
                    "path": "@world",
                    "split": "train",
                    "weight": 1.0,  # share among the sources
                    # how often each task is drawn, among those a clip has
                    "tasks": {"caption": 4.0, "classification": 1.0, "vqa": 1.0},
                    "tags": {},  # only annotations with these tags; {} for all
                },
            ),
            "video": None  # text alone
            if text
            else {  # as in configs/demo.py
                "frames": 8,
                "image_size": 80,  # pixels
                "sampling": "uniform",
                "crop": "centre",
                "crop_scale": (1.0, 1.0),
            },
            "text": {
                "embedded": {  # as in configs/demo.py
                    "query_tokenizer": "@world",  # ships with the package
                    "target_tokenizer": "@world",
                    "query_length": 16,
                    "target_length": 36,  # tokens
                    "target_prompt": "",
                },
                "tokenizer": "@world",  # of the decoder
                "length": 36,  # tokens, the end token included; longer texts are cut
                "end_token": "[EOS]",
            },
            "num_workers": 0 if text else 1,  # decoding processes; a thread is enough for text
            "visual_tokens": "none" if text else "cache",
        }
    )


def _optimizer(variant: str) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": {"": 3e-3, "predicted": 1e-3}[variant],
            "schedule": "cosine",
            "warmup_steps": 10,
            "beta1": 0.9,
            "beta2": 0.98,
            "epsilon": 1e-8,
            "weight_decay": 0.05,
            "max_grad_norm": 1.0,
            # The first rule found in a parameter's path counts.
            "rules": (
                # The VL-JEPA; of text alone, only its Y-Encoder is there.
                _rule(r"^(?!y_prefix/|y_token_embedding/|y_decoder/)", frozen=True),
                # Norms, biases and the words are not drawn towards zero.
                _rule(r"norm|bias$|embedding$", decay=0.0),
                _rule(r"^y_prefix/", rate=3.0),  # new, beside a pretrained decoder
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

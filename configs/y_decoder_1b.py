"""A Y-Decoder for the paper's VL-JEPA (configs/vljepa_1b.py): its embeddings -> text.

The paper (2.1) describes it in a line, so that all of this is ours. It learns from text alone to
invert the frozen Y-Encoder, and starts from Llama-3.2-1B whole, whose last layers the predictor
started from too:

    python launch/convert.py --config=configs/y_decoder_1b.py --y_decoder=weights/llama-3.2-1b \\
        --output=weights/y_decoder_1b
    python launch/train.py --config=configs/y_decoder_1b.py --workdir=runs/vljepa_1b_sft/y_decoder

    :predicted  goes on with the VL-JEPA's predictions for training clips in place of noise

Paths below datasets/, weights/ and runs/ are for you to set. The sizes are the published ones; the
learning rates, steps and the noise have not been tried at this size (launch/noise.py measures the
noise that a VL-JEPA asks for).
"""

from ml_collections import ConfigDict

FRAMES = 16  # as configs/vljepa_1b.py:sft


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "predicted"):
        raise ValueError(f"no variant '{variant}': there are 'predicted' and none")
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and noise
    config.objective = "y_decoder"  # write the text whose embedding is shown
    config.init_from = {
        "": "runs/vljepa_1b_sft:y_encoder,weights/y_decoder_1b:y_decoder",
        "predicted": "runs/vljepa_1b_sft:vljepa,runs/vljepa_1b_sft/y_decoder:y_decoder",
    }[variant]
    config.steps = {"": 50_000, "predicted": 5_000}[variant]
    config.batch_size = 512  # texts
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 20  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = _world()
    config.model = _model(variant)
    config.data = _data(variant)
    config.loss = None  # this objective knows one loss alone
    config.optimizer = _optimizer(variant)
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 1000,  # steps
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
            "keep": 2,  # newest ones
            "keep_every": 0,  # beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # and the n best
            "best_metric": "loss",  # by its mean since the checkpoint before
            "best_is": "lowest",  # or "highest"
        }
    )
    return config


def _vljepa() -> ConfigDict:
    """As in configs/vljepa_1b.py:sft."""
    model = ConfigDict()
    # 3.1: V-JEPA 2 ViT-L at 256 x 256; sizes as published in facebook/vjepa2-vitl-fpc64-256.
    model.x_encoder = ConfigDict(
        {
            "family": "vjepa2",
            "image_size": 256,  # 3.1; pixels
            "num_frames": FRAMES,  # positions need no more than any even number
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


def _model(variant: str) -> ConfigDict:
    model = ConfigDict()
    model.vljepa = _vljepa()  # whose embeddings are decoded; frozen
    model.y_decoder = ConfigDict(  # sizes as published in meta-llama/Llama-3.2-1B
        {
            "family": "llama",
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "num_layers": 16,
            "first_layer": 0,
            "num_heads": 32,
            "num_kv_heads": 8,
            "head_size": 64,
            "mlp_size": 8192,
            "norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_positions": 8192,
            },
            "causal": True,
        }
    )
    model.prefix_tokens = 8  # made from an embedding, before the first token of the text
    # Largest length of the Gaussian noise on the unit embedding; measure it for your VL-JEPA.
    model.noise = {"": 1.0, "predicted": 0.0}[variant]
    model.dtype = "bfloat16"  # of the decoder's computation
    model.remat = "full"  # a layer's activations are computed again in the backward pass
    model.unroll_layers = False  # one compiled layer serves the stack
    return model


def _data(variant: str) -> ConfigDict:
    def source(path: str, weight: float, task: str) -> ConfigDict:
        return ConfigDict(
            {"path": path, "split": "train", "weight": weight, "tasks": {task: 1.0}, "tags": {}}
        )

    return ConfigDict(
        {
            # The texts of the fine-tuning stage.
            "sources": (
                source("datasets/action100m", 10.0, "caption"),
                source("datasets/plm_captions", 2.8, "caption"),
                source("datasets/plm_vqa", 2.5, "vqa"),
                source("datasets/plm_classification", 1.8, "classification"),
            ),
            "video": None  # text alone
            if variant == ""
            else {
                "frames": FRAMES,
                "image_size": 256,  # pixels
                "sampling": "uniform",
                "crop": "centre",
                "crop_scale": (1.0, 1.0),
            },
            "text": {
                "embedded": {  # as in configs/vljepa_1b.py:sft
                    "query_tokenizer": "weights/llama-3.2-1b/tokenizer.json",
                    "target_tokenizer": "weights/embeddinggemma-300m/tokenizer.json",
                    "query_length": 512,
                    "target_length": 512,
                    "target_prompt": "",
                },
                "tokenizer": "weights/llama-3.2-1b/tokenizer.json",  # of the decoder
                "length": 128,  # tokens, the end token included; longer texts are cut
                "end_token": "<|end_of_text|>",
            },
            "num_workers": 4 if variant == "" else 16,  # decoding processes on each host
            "visual_tokens": "none" if variant == "" else "compute",
        }
    )


def _optimizer(variant: str) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": {"": 5e-5, "predicted": 1e-5}[variant],
            "schedule": "cosine",
            "warmup_steps": 500,
            "beta1": 0.9,
            "beta2": 0.95,
            "epsilon": 1e-8,
            "weight_decay": 0.05,
            "max_grad_norm": 1.0,
            # The first rule found in a parameter's path counts.
            "rules": (
                # The VL-JEPA; of text alone, only its Y-Encoder is there.
                _rule(r"^(?!y_prefix/|y_token_embedding/|y_decoder/)", frozen=True),
                # Norms, biases and the words are not drawn towards zero.
                _rule(r"norm|bias$|embedding$", decay=0.0),
                _rule(r"^y_prefix/", rate=10.0),  # new, beside a pretrained decoder
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
            # Ours. Devices on each axis of the mesh; -1 is all the rest. fsdp divides parameters,
            # gradients and Adam's moments.
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
            "stream_density": 0.40,  # events per second
            "image_size": 256,  # pixels
            "frames": 32,
            "fps": 8,
        }
    )

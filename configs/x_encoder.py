"""The X-Encoder that comes with the package: V-JEPA 2's architecture, pretrained on labels.

The parameters see a part of the bundled world that no other recipe uses (its own seed), and of it
the training split: no held-out pair, no held-out phrasing. Three stages:

    :single    clips with one object: objects and motions are learnt soonest where nothing distracts
    (none)     all clips; starts from the first stage's parameters (--config.init_from=DIR:params)
    :read      each clause of a caption is to be found at one token, and questions are answered
               through the frozen last layers of the small language model, as the demo's predictor
               answers them (configs/language_model.py): tokens come to mean words to those layers

Each starts from the stage before, the last with the language model beside it. ``make
backbones`` runs them all; docs/backbones.md tells why labels, and what they reach.
"""

from ml_collections import ConfigDict

WIDTH = 192


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "single", "read"):
        raise ValueError(f"no variant '{variant}': there are 'single', 'read' and none")
    language = variant == "read"
    config = ConfigDict()
    # Of parameters, data order and augmentation.
    config.seed = {"single": 0, "": 1, "read": 2}[variant]
    # Cross-entropy over the label set of each question, or over the tokens of its answer.
    config.objective = "vlm" if language else "probe"
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = {"single": 1_600, "": 1_500, "read": 3_000}[variant]
    config.batch_size = 64  # clips
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 20  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = ConfigDict(
        {
            "seed": 103 if language else 101,  # of pretraining alone
            "cache_dir": ".cache/world",
            "train_clips": 48_000 if language else 24_000,
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
    config.model = _vlm() if language else _probe()
    config.data = ConfigDict(
        {
            "sources": (
                {
                    "path": "@world",
                    "split": "train",
                    "weight": 1.0,
                    # Caption tasks have no labels.
                    "tasks": {"classification": 1.0, "vqa": 1.0}
                    | ({"caption": 0.5} if language else {}),
                    "tags": {"objects": "1"} if variant == "single" else {},
                },
            ),
            "video": {
                "frames": 8,
                "image_size": 80,  # pixels
                "sampling": "jittered",  # a random frame of each of as many equal spans
                "crop": "random",  # nothing is flipped: directions are asked about
                "crop_scale": (0.8, 1.0),  # share of the area
            },
            "text": _dialogue() if language else _questions(),
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
                *(_language_model_rules() if language else ()),
                # Norms, biases and the question's words are not drawn towards zero.
                _rule(r"norm|bias$|embedding$|scale$", decay=0.0),
                _rule(r".*"),
            ),
        }
    )
    config.sharding = _sharding()
    config.checkpoint = ConfigDict(
        {
            "every": 250,  # steps; what a killed run can lose
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
            "keep": 1,  # newest ones
            "keep_every": 0,  # beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # and the n best
            "best_metric": "loss",  # by its mean since the checkpoint before
            "best_is": "lowest",  # or "highest"
        }
    )
    return config


def _x_encoder() -> dict:
    return {
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


def _probe() -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": _x_encoder(),
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


def _vlm() -> ConfigDict:
    return ConfigDict(
        {
            "x_encoder": _x_encoder(),
            "predictor": {
                "family": "llama",
                "vocab_size": 1024,
                "hidden_size": WIDTH,
                "num_layers": 2,  # the last half: what the demo's predictor starts from
                "first_layer": 2,
                "num_heads": 3,
                "num_kv_heads": 3,
                "head_size": WIDTH // 3,
                "mlp_size": 512,
                "norm_eps": 1e-5,
                "rope_theta": 500_000.0,  # Llama 3
                "rope_scaling": None,  # for contexts longer than any here
                "causal": True,
            },
            # Of a second loss: each clause of a caption is to be found at one visual token.
            "clauses_weight": 1.0,
            # Of steps without the causal mask, in which the question's mean tells the answer.
            "reading_share": 1.0,
            "dtype": "float32",  # of the computation
            "remat": "none",  # nothing is recomputed in the backward pass
            "unroll_layers": True,  # faster on CPU
        }
    )


def _questions() -> dict:
    return {
        "per_clip": 8,  # questions that share a clip's pass through the X-Encoder
        "query_tokenizer": "@world",  # ships with the package
        "query_length": 16,  # tokens; hardly a question of the world is longer
    }


def _dialogue() -> dict:
    return {
        "tokenizer": "@world",  # ships with the package
        "per_clip": 1,  # questions that share a clip's pass through the X-Encoder
        # As the language model was told them.
        "context": {
            "clause_break": r"(?:,| and| while| as well as) (?=an? )",
            "clauses": 8,  # of all captions, at most
            "clause_length": 16,  # tokens
        },
        "length": 72,  # tokens of all questions and answers; longer texts are cut
        "query_length": 16,  # tokens of one question
        "answer_length": 24,  # tokens of one answer
    }


def _rule(
    pattern: str, *, frozen: bool = False, rate: float = 1.0, decay: float = 1.0
) -> ConfigDict:
    """``rate`` and ``decay`` multiply the learning rate and the weight decay."""
    return ConfigDict({"pattern": pattern, "frozen": frozen, "rate": rate, "decay": decay})


def _language_model_rules() -> tuple[ConfigDict, ...]:
    """It stays what it is, and the tokens enter it as they are."""
    return (_rule(r"^(predictor|token_embedding|vision_projection)/", frozen=True),)


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
                rule(r"^(set_query|classifier)/|norm|bias$|scale$"),  # small: copied
                rule(r"embedding$", "tensor", "fsdp"),
                rule(r"kernel$", "fsdp", "tensor"),
            ),
        }
    )

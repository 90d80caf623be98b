"""The language model whose last layers the small predictor starts from: Llama's architecture.

It learns to write and to read: the captions of a clip, then questions about it with their answers,
which the captions tell. So it arrives with what a predictor needs, to find what a question names
among what it has been shown. The texts are of the clips that the X-Encoder learns from
(configs/x_encoder.py), with no held-out (object, motion) pair and in no held-out phrasing.

    :write  predicts the next token
    (none)  goes on, and in most steps its last half reads as a predictor will: every token sees
            every other, what is known stands there clause by clause, as a video's tokens would,
            and the mean over the question's tokens tells the answer; starts from the first stage's
            parameters (--config.init_from=DIR:params)

``make backbones`` runs both; docs/backbones.md has what they reach.
"""

from ml_collections import ConfigDict

WIDTH = 192


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "write"):
        raise ValueError(f"no variant '{variant}': there are 'write' and none")
    write = variant == "write"
    config = ConfigDict()
    config.seed = 0 if write else 1  # of parameters, data order and augmentation
    config.objective = "language_model"  # predict the next token, or answer by the mean
    config.init_from = ""  # DIR[:params|:full] starts from another run; "" from random parameters
    config.steps = 2_600 if write else 1_000
    config.batch_size = 32 if write else 64  # clips
    config.micro_batch_size = 0  # rows whose activations are held at a time; 0 for all
    config.log_every = 20  # steps
    config.on_non_finite = "stop"  # or "skip": what a loss that is no number does
    config.world = ConfigDict(
        {
            "seed": 101,  # as configs/x_encoder.py's, and no other recipe's
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
            "predictor": {
                "family": "llama",
                "vocab_size": 1024,
                "hidden_size": WIDTH,
                "num_layers": 4,  # of which a predictor takes the last two
                "first_layer": 0,
                "num_heads": 3,
                "num_kv_heads": 3,
                "head_size": WIDTH // 3,
                "mlp_size": 512,
                "norm_eps": 1e-5,
                "rope_theta": 500_000.0,  # Llama 3
                "rope_scaling": None,  # for contexts longer than any here
                "causal": True,
            },
            # The demo's predictor is the last half of the layers; it has to know bare words.
            "skip_share": 0.5,
            # Of steps in which the last half of the layers reads as a predictor does.
            "reading_share": 0.0 if write else 0.85,
            # Tokens that stand there for a video's, each the sum of a clause's words.
            "told_tokens": 16,
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
                    "tasks": {"caption": 0.5, "classification": 1.0, "vqa": 2.0},
                    "tags": {},
                },
            ),
            "video": None,  # text alone
            "text": {
                "tokenizer": "@world",  # ships with the package
                "per_clip": 4,  # questions, with their answers
                # Captions first: what the questions ask can be read.
                "context": {
                    # ... where another thing is named
                    "clause_break": r"(?:,| and| while| as well as) (?=an? )",
                    "clauses": 8,  # of all captions, at most
                    "clause_length": 16,  # tokens
                },
                "length": 96,  # tokens of all that; longer texts are cut
                "query_length": 16,  # tokens of one question
                "answer_length": 24,  # tokens of one answer
            },
            "num_workers": 0,  # a thread is enough for text
            "visual_tokens": "none",
        }
    )
    config.loss = None  # this objective knows one loss alone
    config.optimizer = ConfigDict(
        {
            "learning_rate": 2e-3 if write else 1e-3,
            "schedule": "cosine",
            "warmup_steps": 100,
            "beta1": 0.9,
            "beta2": 0.98,
            "epsilon": 1e-8,
            "weight_decay": 0.05,
            "max_grad_norm": 1.0,
            # The first rule found in a parameter's path counts.
            "rules": (
                # The X-Encoder's tokens learn to mean the words of the first stage.
                *(() if write else (_rule(r"^token_embedding/", frozen=True),)),
                # Norms and the words are not drawn towards zero.
                _rule(r"norm|embedding$", decay=0.0),
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
                rule(r"norm"),  # small: copied
            ),
        }
    )

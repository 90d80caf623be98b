"""The demo: VL-JEPA at a small size on the bundled video world, in minutes on a laptop.

The modules, the trainer, the data path and the stages are those of the 1.6B model; only the sizes
differ. As in the paper all three backbones arrive pretrained: ``launch/convert.py`` puts those that
come with the package ("@bundled", docs/backbones.md) into a checkpoint to start from.

    :captions  the paper's pretraining: captions alone, without a query
    (none)     its fine-tuning: questions, with captions as replay; starts from the stage before
               (--config.init_from=DIR:params, see ``make demo``)

In the comments, a section number is the paper's (arXiv 2512.10942 v2); the rest is ours.
"""

from ml_collections import ConfigDict

from configs import common, models


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "captions"):
        raise ValueError(f"no variant '{variant}': there are 'captions' and none")
    config = common.run(
        objective="vljepa",  # predict the embedding of the target text
        steps={"captions": 30, "": 400}[variant],
        batch_size=128,  # also the number of candidates each row is told apart from
    )
    config.world = common.world()
    config.model = _model()
    config.data = _data(variant)
    config.loss = common.info_nce()
    config.optimizer = common.adamw(
        learning_rate=1e-3,
        warmup_steps=20,
        beta2=0.99,
        weight_decay=0.01,
        rules=(
            # 3.1: the X-Encoder is frozen, and so, by the paper's count of what is trained, is the
            # token table.
            common.rule(r"^x_encoder/|^token_embedding/", frozen=True),
            # The temperature, norms and biases are not drawn towards zero. The Y-Encoder's norms
            # learn at the full rate, unlike in the paper: no worse (docs/findings.md).
            common.rule(r"^log_logit_scale$|norm|bias$", weight_decay_multiplier=0.0),
            common.rule(r"^y_encoder/", lr_multiplier=0.05),  # 3.1
            common.rule(r".*"),
        ),
    )
    config.sharding = common.vljepa_sharding()
    config.checkpoint = common.checkpoint(every=100, keep=2)
    if not variant:
        config.evaluations = (common.evaluation(every=100, benchmarks=_benchmarks()),)
    return config


def _benchmarks() -> tuple[ConfigDict, ...]:
    """Looked at while it trains; configs/eval/world.py has all of them, and all examples."""

    def benchmark(name: str, protocol: ConfigDict, **selection: str) -> ConfigDict:
        return common.benchmark(
            f"world/{name}", protocol, path="@world", split="test", limit=200, **selection
        )

    return (
        benchmark("motion", common.choose(), task="classification", kind="motion"),
        benchmark("t2v", common.retrieve(), task="caption", kind="caption", phrasing="seen"),
    )


def _model() -> ConfigDict:
    """The sizes of the backbones are those of the bundled backbones."""
    return ConfigDict(
        {
            "x_encoder": models.x_encoder("tiny"),
            # 3.1: the last half of the language model's layers, without the causal mask.
            "predictor": models.language_model(first_layer=2, num_layers=2, causal=False),
            "y_encoder": models.y_encoder(),
            "embedding_size": 192,  # of the shared space
            # Ours: the query's tokens (the paper averages all), as the bundled predictor reads.
            "pooling": "query",
            "initial_temperature": 0.04,  # 0.07 is common; there is little time to learn it
            "max_logit_scale": 100.0,
            **models.ON_CPU,
        }
    )


def _data(variant: str) -> ConfigDict:
    tasks = {
        "captions": {"caption": 1.0},
        # 3.2: down-sampled pretraining data among the questions
        "": {"caption": 1.0, "classification": 2.0, "vqa": 4.0, "state": 1.0},
    }[variant]
    return ConfigDict(
        {
            "sources": (common.source("@world", tasks),),
            "video": common.fixed_video(),
            "text": {
                "query_tokenizer": "@world",  # ships with the package
                "target_tokenizer": "@world",
                # Without a query only the token that begins every text is left.
                "query_length": 1 if variant == "captions" else 16,
                "target_length": 36,  # tokens; the longest captions, of five objects, are cut
                "target_prompt": "",
            },
            "num_workers": 1,  # decoding processes beside the training one
            # The frozen X-Encoder sees every clip once; its tokens are kept beside the records.
            "visual_tokens": "cache",
        }
    )

"""The paper's ablations (Table 7) on the bundled world, minutes a row.

    python launch/compare.py --config=configs/ablations.py --workdir=runs/ablations --only=b

    a  without and with pretraining on captions
    b  the Y-Encoder's learning rate, as a multiple of the others'
    c  the loss, with a frozen text encoder and no head on it
    d  the predictor: its layers, its mask, its initialisation
    e  the Y-Encoder, frozen with a trained head

As in the paper every section trains on questions and captions without pretraining (but for "a"),
at a constant rate. A variant is one or more functions of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common, demo
from configs.eval import world

STEPS = 128
Change = Callable[[ConfigDict], None]


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.report = "table"
    config.sections = (_a(), _b(), _c(), _d(), _e())
    config.data = ""  # the folder of prepared public datasets
    config.batch_size = 64  # clips and texts evaluated at once
    config.num_workers = 0  # decoding processes of evaluation; 0 decodes in this one
    config.latency = None
    return config


# ---------------------------------------------------------------------------------------------
# The rows of Table 7; the paper's figures are classification, retrieval and VQA
# ---------------------------------------------------------------------------------------------
def _a() -> ConfigDict:
    pretrained = _variant("with", "with", pretrained_on_captions=True, paper=(49.0, 47.5, 46.1))
    return _section(
        "a",
        "Pretraining on captions",
        (pretrained, _variant("without", "without", paper=(27.3, 30.2, 42.5))),
    )


def _b() -> ConfigDict:
    rows = {
        0.0: (20.0, 25.9, 41.4),
        0.01: (25.6, 27.7, 41.0),
        0.05: (27.3, 30.2, 42.5),
        0.1: (26.9, 30.2, 42.9),
        1.0: (23.7, 28.8, 40.7),
    }
    return _section(
        "b",
        "Learning rate of the Y-Encoder, as a multiple",
        tuple(
            _variant(f"times_{rate:g}", f"x {rate:g}", y_encoder_rate(rate), paper=paper)
            for rate, paper in rows.items()
        ),
    )


def _c() -> ConfigDict:
    rows = {
        "info_nce": ("InfoNCE", (23.3, 30.3, 44.3)),
        "cosine": ("cosine", (16.5, 20.2, 46.6)),
        "l1": ("L1", (14.8, 15.5, 41.9)),
        "l2": ("L2", (13.5, 11.7, 43.7)),
        "vic_reg": ("VICReg", None),  # the paper leaves these two to others
        "sig_reg": ("SIGReg", None),
    }
    return _section(
        "c",
        "Loss, with a frozen text encoder",
        tuple(
            _variant(name, label, loss(name), frozen_targets, paper=paper)
            for name, (label, paper) in rows.items()
        ),
    )


def _d() -> ConfigDict:
    return _section(
        "d",
        "Predictor (its layers in the paper: of 16)",
        (
            _variant("last_half", "last half, layers 2-3 (8-15)", paper=(27.3, 30.2, 42.5)),
            _variant(
                "quarter", "first quarter, layer 0 (0-3)", layers(0, 1), paper=(25.1, 28.9, 43.6)
            ),
            _variant(
                "first_half", "first half, layers 0-1 (0-7)", layers(0, 2), paper=(27.2, 29.3, 43.4)
            ),
            _variant("all", "all, layers 0-3 (0-15)", layers(0, 4), paper=(27.4, 31.0, 45.5)),
            _variant("causal", "causal attention", causal, paper=(26.7, 31.2, 40.6)),
            _variant(
                "random",
                "random initialisation",
                start=("x_encoder", "y_encoder"),
                paper=(28.1, 30.4, 40.6),
            ),
        ),
    )


def _e() -> ConfigDict:
    """The paper's rows are of encoders that are pretrained; the package comes with one."""
    without = ("x_encoder", "predictor")
    return _section(
        "e",
        "Y-Encoder, frozen, with a trained head",
        (
            _variant(
                "gemma",
                "EmbeddingGemma's family, bundled",
                frozen_y_encoder,
                paper=(19.5, 24.1, 42.5),
            ),
            _variant("random_gemma", "the same, untrained", frozen_y_encoder, start=without),
            _variant(
                "random_qwen3", "Qwen3's family, untrained", qwen3, frozen_y_encoder, start=without
            ),
        ),
    )


# ---------------------------------------------------------------------------------------------
# Changes of the recipe
# ---------------------------------------------------------------------------------------------
def y_encoder_rate(multiplier: float) -> Change:
    def change(config: ConfigDict) -> None:
        frozen = multiplier == 0
        _first_rules(
            config,
            common.rule(r"^y_encoder/", frozen=frozen, lr_multiplier=1.0 if frozen else multiplier),
        )

    return change


def loss(name: str) -> Change:
    def change(config: ConfigDict) -> None:
        config.loss.name = name

    return change


def frozen_targets(config: ConfigDict) -> None:
    """The paper has no head here. Ours is frozen as it starts, in closed form: as good as none."""
    _first_rules(config, common.rule(r"^y_encoder/|^y_head/", frozen=True))


def frozen_y_encoder(config: ConfigDict) -> None:
    _first_rules(config, common.rule(r"^y_encoder/", frozen=True))


def layers(first: int, count: int) -> Change:
    def change(config: ConfigDict) -> None:
        config.model.predictor.first_layer = first
        config.model.predictor.num_layers = count

    return change


def causal(config: ConfigDict) -> None:
    config.model.predictor.causal = True


def qwen3(config: ConfigDict) -> None:
    """Of the bundled Y-Encoder's size."""
    shared = ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads")
    shared += ("head_size", "mlp_size", "norm_eps")
    sizes = {name: config.model.y_encoder[name] for name in shared}
    with config.unlocked():
        config.model.y_encoder = ConfigDict(
            sizes | {"family": "qwen3", "rope_theta": 1_000_000.0}  # published
        )


def _first_rules(config: ConfigDict, *rules: ConfigDict) -> None:
    config.optimizer.rules = (*rules, *config.optimizer.rules)


# ---------------------------------------------------------------------------------------------
# Sections
# ---------------------------------------------------------------------------------------------
def recipe(*changes: Change) -> ConfigDict:
    """The demo's questions stage, as the paper's ablations are run: at a constant rate."""
    config = demo.get_config()
    config.evaluations = ()
    config.optimizer.schedule = "constant"  # paper, Table 7
    for change in changes:
        change(config)
    return config


def _variant(
    name: str,
    label: str,
    *changes: Change,
    start: tuple[str, ...] = ("x_encoder", "predictor", "y_encoder"),
    pretrained_on_captions: bool = False,
    paper: tuple[float, float, float] | None = None,
) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,
            "label": label,
            "pretraining": demo.get_config("captions") if pretrained_on_captions else None,
            "train": recipe(*changes),
            "start": dict.fromkeys(start, "@bundled"),
            "align": {"predictor", "y_encoder"} <= set(start),
            "y_decoder": None,
            "paper": dict(zip(COLUMNS, [n / 100 for n in paper], strict=True)) if paper else {},
        }
    )


COLUMNS = {
    "classification": ("world/motion_top1", "world/object_top1"),
    "retrieval": ("world/t2v_r1",),
    "vqa": (
        *("world/vqa_what_top1", "world/vqa_count_top1", "world/vqa_presence_top1"),
        "world/vqa_colour_top1",
    ),
}


def _section(name: str, title: str, variants: tuple[ConfigDict, ...]) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,
            "title": title,
            "pretrained": {},
            "variants": variants,
            "world": common.world(),
            "benchmarks": tuple(
                benchmark
                for benchmark in world.get_config().benchmarks
                if any(
                    metric.startswith(f"{benchmark.name}_") and not benchmark.suffix
                    for metrics in COLUMNS.values()
                    for metric in metrics
                )
                and benchmark.name != "world/t2v_held_out_phrasing"
            ),
            "columns": COLUMNS,
            "same_data": True,
            "full": {"seeds": (0,), "steps": STEPS, "evaluated": (STEPS,), "limit": 0},
            "quick": {"seeds": (0,), "steps": 16, "evaluated": (16,), "limit": 100},
        }
    )

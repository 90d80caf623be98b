"""The paper's ablations (Table 7) on the bundled world, minutes a row.

    python launch/compare.py --config=configs/ablations.py --workdir=runs/ablations --only=b

    a  without and with pretraining on captions
    b  the Y-Encoder's learning rate, as a multiple of the others'
    c  the loss, with a frozen text encoder and no head on it
    d  the predictor: its layers, its mask, its initialisation
    e  the Y-Encoder, frozen with a trained head

As in the paper every section trains on questions and captions without pretraining (but for "a"),
at a constant rate. A variant is one or more functions of the recipe.

``:paper`` is the same at full size, on public datasets, for a cluster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common, demo, models, vljepa_1b
from configs.eval import paper, world
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS

Change = Callable[[ConfigDict], None]
Figures = tuple[float, float, float]  # the paper's, in percent, in the order of the columns


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is ablated, and how it is measured.

    Attributes:
        recipe: gives what the variants change, at a constant rate.
        pretraining: gives the recipe that is trained before it in (a).
        start: part -> its weights.
        align: whether heads start in closed form.
        y_encoders: the rows of (e).
    """

    recipe: Callable[[], ConfigDict]
    pretraining: Callable[[], ConfigDict]
    start: dict[str, str]
    align: bool
    y_encoders: Callable[[Scale], tuple[ConfigDict, ...]]
    benchmarks: Callable[[], tuple[ConfigDict, ...]]
    columns: dict[str, tuple[str, ...]]
    steps: int
    quick_steps: int


def get_config(variant: str = "") -> ConfigDict:
    scales = {"": _WORLD, "paper": _PAPER}
    if variant not in scales:
        raise ValueError(f"no variant '{variant}': there are 'paper' and none")
    config = ConfigDict()
    config.report = "table"
    config.sections = tuple(section(scales[variant]) for section in (_a, _b, _c, _d, _e))
    config.data = "data" if variant else ""  # the folder of prepared public datasets
    config.batch_size = 64  # clips and texts evaluated at once
    config.num_workers = 0  # decoding processes of evaluation; 0 decodes in this one
    config.latency = None
    return config


# ---------------------------------------------------------------------------------------------
# The rows of Table 7; the paper's figures are classification, retrieval and VQA
# ---------------------------------------------------------------------------------------------
DEFAULT = (27.3, 30.2, 42.5)  # the paper's, of the row that its sections share


def _a(scale: Scale) -> ConfigDict:
    pretrained = _variant(scale, "with", "with", pretraining=True, figures=(49.0, 47.5, 46.1))
    return _section(
        scale,
        "a",
        "Pretraining on captions",
        (pretrained, _variant(scale, "without", "without", figures=DEFAULT)),
    )


def _b(scale: Scale) -> ConfigDict:
    rows = {
        0.0: (20.0, 25.9, 41.4),
        0.01: (25.6, 27.7, 41.0),
        0.05: DEFAULT,
        0.1: (26.9, 30.2, 42.9),
        1.0: (23.7, 28.8, 40.7),
    }
    return _section(
        scale,
        "b",
        "Learning rate of the Y-Encoder, as a multiple",
        tuple(
            _variant(scale, f"times_{rate:g}", f"x {rate:g}", y_encoder_rate(rate), figures=figures)
            for rate, figures in rows.items()
        ),
    )


def _c(scale: Scale) -> ConfigDict:
    """The paper has no head here. Ours is frozen as it starts, in closed form: as good as none."""
    rows = {
        "info_nce": ("InfoNCE", (23.3, 30.3, 44.3)),
        "cosine": ("cosine", (16.5, 20.2, 46.6)),
        "l1": ("L1", (14.8, 15.5, 41.9)),
        "l2": ("L2", (13.5, 11.7, 43.7)),
        "vic_reg": ("VICReg", None),  # the paper leaves these two to others
        "sig_reg": ("SIGReg", None),
    }
    aligned = dataclasses.replace(scale, align=True)
    return _section(
        scale,
        "c",
        "Loss, with a frozen text encoder",
        tuple(
            _variant(aligned, name, label, loss(name), frozen_targets, figures=figures)
            for name, (label, figures) in rows.items()
        ),
    )


def _d(scale: Scale) -> ConfigDict:
    def row(name: str, part: str, depth: float, figures: Figures) -> ConfigDict:
        last = _share(depth, _all_layers(scale)) - 1
        label = f"{part}, layers 0-{last}" if last else f"{part}, layer 0"
        return _variant(scale, name, label, first_layers(depth), figures=figures)

    parts = (
        ("eighth", "first eighth", 1 / 8, (24.3, 27.8, 40.1)),
        ("quarter", "first quarter", 1 / 4, (25.1, 28.9, 43.6)),
        ("first_half", "first half", 1 / 2, (27.2, 29.3, 43.4)),
        ("all", "all", 1.0, (27.4, 31.0, 45.5)),
    )
    others = tuple(part for part in scale.start if part != "predictor")
    return _section(
        scale,
        "d",
        "Predictor",
        (
            _variant(scale, "last_half", "last half", figures=DEFAULT),
            # Four layers have no eighth.
            *(row(*part) for part in parts if part[2] * _all_layers(scale) >= 1),
            _variant(scale, "causal", "causal attention", causal, figures=(26.7, 31.2, 40.6)),
            _variant(
                scale,
                "random",
                "random initialisation",
                start=others,
                figures=(28.1, 30.4, 40.6),
            ),
        ),
    )


def _e(scale: Scale) -> ConfigDict:
    return _section(scale, "e", "Y-Encoder, frozen, with a trained head", scale.y_encoders(scale))


def _bundled_y_encoders(scale: Scale) -> tuple[ConfigDict, ...]:
    """The paper's rows are of encoders that are pretrained; the package comes with one."""
    frozen, without = frozen_y_encoder, ("x_encoder", "predictor")
    gemma = "EmbeddingGemma's family, bundled"
    return (
        _variant(scale, "gemma", gemma, frozen, figures=(19.5, 24.1, 42.5)),
        _variant(scale, "random_gemma", "the same, untrained", frozen, start=without),
        _variant(
            scale, "random_qwen3", "Qwen3's family, untrained", small_qwen3, frozen, start=without
        ),
    )


def _published_y_encoders(scale: Scale) -> tuple[ConfigDict, ...]:
    """Without Qwen3-Embedding of 4B and 8B, whose files we have not seen."""

    def row(name: str, encoder: ConfigDict, weights: str, figures: Figures, length: int = 512):
        changed = dataclasses.replace(scale, start=scale.start | {"y_encoder": weights})
        change = y_encoder(encoder, f"{weights}/tokenizer.json", length)
        return _variant(changed, name, name, change, frozen_y_encoder, figures=figures)

    def tower(name: str, figures: Figures) -> ConfigDict:
        text = PUBLISHED_TOWERS[f"timm/{name}"].text
        encoder = ConfigDict(dataclasses.asdict(text))
        return row(name, encoder, f"weights/{name}", figures, text.max_length)

    qwen3 = "qwen3-embedding-0.6b"
    return (
        _variant(
            scale,
            "EmbeddingGemma-300M",
            "EmbeddingGemma-300M",
            frozen_y_encoder,
            figures=(19.5, 24.1, 42.5),
        ),
        row(
            "Qwen3-Embedding-0.6B", models.published(qwen3), f"weights/{qwen3}", (24.5, 24.5, 41.5)
        ),
        tower("PE-Core-B-16", (29.4, 34.5, 35.9)),
        tower("PE-Core-L-14-336", (29.0, 34.2, 42.9)),
        tower("PE-Core-bigG-14-448", (33.9, 32.0, 41.8)),
    )


# ---------------------------------------------------------------------------------------------
# Changes of the recipe
# ---------------------------------------------------------------------------------------------
def y_encoder_rate(multiplier: float) -> Change:
    def change(config: ConfigDict) -> None:
        _set_y_encoder_rules(
            config,
            common.rule(
                r"^y_encoder/.*norm", lr_multiplier=multiplier, weight_decay_multiplier=0.0
            ),
            common.rule(r"^y_encoder/", lr_multiplier=multiplier),
        )

    return change if multiplier else frozen_y_encoder


def loss(name: str) -> Change:
    def change(config: ConfigDict) -> None:
        config.loss.name = name

    return change


def frozen_targets(config: ConfigDict) -> None:
    _set_y_encoder_rules(config, common.rule(r"^y_encoder/|^y_head/", frozen=True))


def frozen_y_encoder(config: ConfigDict) -> None:
    _set_y_encoder_rules(config, common.rule(r"^y_encoder/", frozen=True))


def first_layers(share: float) -> Change:
    """The recipe's predictor is the last half of its language model."""

    def change(config: ConfigDict) -> None:
        predictor = config.model.predictor
        layers = predictor.first_layer + predictor.num_layers
        predictor.first_layer, predictor.num_layers = 0, _share(share, layers)

    return change


def _share(share: float, layers: int) -> int:
    return round(share * layers)


def _all_layers(scale: Scale) -> int:
    predictor = scale.recipe().model.predictor
    return predictor.first_layer + predictor.num_layers


def causal(config: ConfigDict) -> None:
    config.model.predictor.causal = True


def small_qwen3(config: ConfigDict) -> None:
    """Of the bundled Y-Encoder's size."""
    shared = ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads")
    shared += ("head_size", "mlp_size", "norm_eps")
    sizes = {name: config.model.y_encoder[name] for name in shared}
    with config.unlocked():
        config.model.y_encoder = ConfigDict(
            sizes | {"family": "qwen3", "rope_theta": 1_000_000.0}  # published
        )


def y_encoder(encoder: ConfigDict, tokenizer: str, length: int) -> Change:
    def change(config: ConfigDict) -> None:
        with config.unlocked():
            config.model.y_encoder = encoder
        config.data.text.target_tokenizer = tokenizer
        config.data.text.target_length = min(length, config.data.text.target_length)

    return change


def _set_y_encoder_rules(config: ConfigDict, *rules: ConfigDict) -> None:
    others = [r for r in config.optimizer.rules if not r.pattern.startswith("^y_encoder/")]
    config.optimizer.rules = (*rules, *others)


# ---------------------------------------------------------------------------------------------
# Scales
# ---------------------------------------------------------------------------------------------
def _world_recipe() -> ConfigDict:
    """The demo's questions stage, as the paper's ablations are run: at a constant rate."""
    config = demo.get_config()
    config.evaluations = ()
    config.optimizer.schedule = "constant"  # paper, Table 7
    return config


def _paper_recipe() -> ConfigDict:
    config = vljepa_1b.get_config("sft")
    config.init_from = ""  # of published backbones, as the study puts them together
    config.steps, config.batch_size = 10_000, 512  # paper, Table 7
    config.optimizer.schedule = "constant"  # paper, Table 7
    return config


def _of_columns(
    benchmarks: tuple[ConfigDict, ...], columns: dict[str, tuple[str, ...]]
) -> tuple[ConfigDict, ...]:
    metrics = {metric for of_column in columns.values() for metric in of_column}
    return tuple(
        benchmark
        for benchmark in benchmarks
        if {f"{benchmark.name}_{kind}{benchmark.suffix}" for kind in ("top1", "r1")} & metrics
    )


_WORLD = Scale(
    recipe=_world_recipe,
    pretraining=lambda: demo.get_config("captions"),
    start=dict.fromkeys(("x_encoder", "predictor", "y_encoder"), "@bundled"),
    align=True,
    y_encoders=_bundled_y_encoders,
    benchmarks=lambda: _of_columns(world.get_config().benchmarks, _WORLD.columns),
    columns={
        "classification": ("world/motion_top1", "world/object_top1"),
        "retrieval": ("world/t2v_r1",),
        "vqa": (
            *("world/vqa_what_top1", "world/vqa_count_top1", "world/vqa_presence_top1"),
            "world/vqa_colour_top1",
        ),
    },
    steps=128,
    quick_steps=16,
)
_PAPER = Scale(
    recipe=_paper_recipe,
    # Ours: on images alone; the paper's row has its video stages too.
    pretraining=lambda: vljepa_1b.get_config("image"),
    start={
        "x_encoder": "weights/vjepa2-vitl",
        "predictor": "weights/llama-3.2-1b",
        "y_encoder": "weights/embeddinggemma-300m",
    },
    align=False,
    y_encoders=_published_y_encoders,
    benchmarks=lambda: _of_columns(paper.get_config().benchmarks, _PAPER.columns),
    columns={
        "classification": (
            *("ssv2_top1", "ek100_top1", "egoexo4d_top1", "kinetics400_top1", "coin_step_top1"),
            *("coin_task_top1", "crosstask_step_top1", "crosstask_task_top1"),
        ),
        "retrieval": (
            *("msrvtt_r1", "activitynet_r1", "didemo_r1", "msvd_r1", "youcook2_r1"),
            *("pvd_bench_r1", "dream1k_r1", "vdc1k_r1"),
        ),
        "vqa": ("clevr_top1", "gqa_top1", "tallyqa_top1_simple", "tallyqa_top1_complex"),
    },
    steps=10_000,
    quick_steps=100,
)


# ---------------------------------------------------------------------------------------------
# Sections
# ---------------------------------------------------------------------------------------------
def _variant(
    scale: Scale,
    name: str,
    label: str,
    *changes: Change,
    start: tuple[str, ...] = (),
    pretraining: bool = False,
    figures: Figures | None = None,
) -> ConfigDict:
    """``start`` names the parts that do not start at random; () for all."""
    recipe = scale.recipe()
    for change in changes:
        change(recipe)
    start = start or tuple(scale.start)
    return ConfigDict(
        {
            "name": name,
            "label": label,
            "pretraining": scale.pretraining() if pretraining else None,
            "train": recipe,
            "start": {part: scale.start[part] for part in start},
            "align": scale.align and {"predictor", "y_encoder"} <= set(start),
            "y_decoder": None,
            "paper": {
                column: percent / 100
                for column, percent in zip(scale.columns, figures or (), strict=figures is not None)
            },
        }
    )


def _section(scale: Scale, name: str, title: str, variants: tuple[ConfigDict, ...]) -> ConfigDict:
    def effort(steps: int, limit: int) -> ConfigDict:
        return ConfigDict({"seeds": (0,), "steps": steps, "evaluated": (steps,), "limit": limit})

    return ConfigDict(
        {
            "name": name,
            "title": title,
            "pretrained": {},
            "variants": variants,
            "world": common.world(),
            "benchmarks": scale.benchmarks(),
            "columns": scale.columns,
            "same_data": True,
            "full": effort(scale.steps, 0),
            "quick": effort(scale.quick_steps, 100),
        }
    )

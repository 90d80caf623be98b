"""Every setting of a run, typed and validated once.

A recipe in ``configs/`` returns an ``ml_collections.ConfigDict``; ``parse`` turns it into the
frozen dataclasses below. A wrong field fails here, with its full name and the nearest right one.
Nothing after this module reads a ConfigDict, and nothing sets a default of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import dacite
import ml_collections

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and the mend."""


# ---------------------------------------------------------------------------------------------
# Models
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class VJEPA2Config:
    """V-JEPA 2 video encoder (X-Encoder)."""

    family: Literal["vjepa2"]
    image_size: int  # pixels, the short side at which positions were trained (square input)
    num_frames: int  # frames of the recipe's input; any even number works at run time
    patch_size: int  # pixels
    tubelet_size: int  # frames per token
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float
    rope: Literal["tiled", "interleaved"]  # "tiled": as published; "interleaved": as in 2.1


@dataclasses.dataclass(frozen=True)
class VJEPA21Config:
    """V-JEPA 2.1 video and image encoder (X-Encoder)."""

    family: Literal["vjepa2_1"]
    image_size: int  # pixels, the side to whose grid positions are stretched; published: 256
    num_frames: int  # frames of the recipe's input: 1 for images, or any even number
    patch_size: int  # pixels
    tubelet_size: int  # frames per token of a video; a single image has its own embedding
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3 frequency scaling."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """A slice of Llama-3 decoder layers (predictor, Y-Decoder)."""

    family: Literal["llama"]
    vocab_size: int
    hidden_size: int
    num_layers: int  # layers held, i.e. the length of the slice
    first_layer: int  # index of the slice's first layer in the published model
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    causal: bool


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """EmbeddingGemma text encoder (Y-Encoder)."""

    family: Literal["gemma"]
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    query_scale: float  # attention scores are scaled by query_scale ** -0.5
    sliding_window: int  # full width; a local layer sees |i - j| < sliding_window // 2 + 1
    global_every: int  # every n-th layer is global
    rope_theta_local: float
    rope_theta_global: float
    dense_sizes: tuple[int, ...]  # the published model: (3072, 768); () drops the dense layers


@dataclasses.dataclass(frozen=True)
class Qwen3Config:
    """Qwen3-Embedding text encoder (Y-Encoder): causal, the last token stands for the text."""

    family: Literal["qwen3"]
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    norm_eps: float
    rope_theta: float


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """VL-JEPA: X-Encoder, predictor and Y-Encoder around one shared space."""

    x_encoder: VJEPA2Config | VJEPA21Config
    predictor: LlamaConfig
    y_encoder: GemmaConfig | Qwen3Config
    embedding_size: int  # dimension of the shared space
    pooling: Literal["all", "query"]  # tokens averaged by the predictor
    initial_temperature: float
    max_logit_scale: float
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]  # what the backward pass recomputes
    unroll_layers: bool  # compile every layer on its own: faster on CPU, slower to compile


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """One kind of multi-block mask (data/masks.py)."""

    block_scale: tuple[float, float]  # area share of a block, drawn between these
    aspect_ratio: tuple[float, float]  # height / width of a block
    masked: float  # share of the patches that the blocks cover together


@dataclasses.dataclass(frozen=True)
class MaskPredictorConfig:
    """V-JEPA 2's predictor of masked tokens."""

    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """V-JEPA 2's self-supervised pretraining of an X-Encoder (stage 0)."""

    x_encoder: VJEPA2Config
    mask_predictor: MaskPredictorConfig
    masks: tuple[MaskConfig, ...]  # each clip is encoded and predicted under all of them
    teacher_momentum: float  # the teacher keeps this share of itself at every step
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class AttentivePoolerConfig:
    """V-JEPA 2's attentive pooler: self-attention layers, then one of cross-attention."""

    num_layers: int  # self-attention layers before the cross-attention; may be 0
    num_heads: int
    mlp_size: int
    norm_eps: float
    query_vocab_size: int  # ids of the query tokenizer; 0: the pooler is not told the question


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """An X-Encoder and a small classifier of its tokens.

    With the X-Encoder frozen (optimizer.rules) it measures what the tokens tell; with the X-Encoder
    trained it is pretraining on labels.
    """

    x_encoder: VJEPA2Config
    pooler: AttentivePoolerConfig | None  # None: the mean of the tokens, a linear probe
    label_sets: dict[str, int]  # label sets of the dataset that are asked for -> their sizes
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class TextPairsConfig:
    """A text encoder alone, pretrained on paraphrases."""

    y_encoder: GemmaConfig | Qwen3Config
    initial_temperature: float
    max_logit_scale: float
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig:
    """A causal Llama with its token table, from whose layers a predictor can start."""

    predictor: LlamaConfig
    dtype: Literal["float32", "bfloat16"]  # of the computation; parameters are float32
    remat: Literal["none", "dots", "full"]
    unroll_layers: bool


# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """The bundled video world (data/world)."""

    seed: int  # draws the clips; held-out pairs and phrasings do not depend on it
    cache_dir: str  # generated worlds are kept here, one folder per content
    train_clips: int
    train_triplets: int  # text triplets to train a text encoder on
    test_clips: int  # of seen (object, motion) pairs
    compositional_clips: int  # of pairs that training never shows
    streams: int  # long scripted streams
    stream_density: float  # events per second
    image_size: int  # pixels
    frames: int  # frames of a clip
    fps: int


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One training source of the mixture."""

    path: str  # a prepared dataset, or "@world" for the bundled world
    split: str
    weight: float  # share of examples, relative to the other sources
    tasks: dict[str, float]  # annotation task -> relative weight; tasks not named are not used
    tags: dict[str, str]  # only annotations with these tags; {} for all


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    """How X_V becomes an array [frames, height, width, 3]."""

    frames: int
    image_size: int
    sampling: Literal["uniform", "jittered"]  # centres of equal spans, or a random point of each
    crop: Literal["centre", "random"]
    crop_scale: tuple[float, float]  # area share of random crops


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Tokenizers (local tokenizer.json) and static lengths."""

    query_tokenizer: str
    target_tokenizer: str
    query_length: int  # tokens; longer queries are cut
    target_length: int
    target_prompt: str  # prefix of every target, e.g. EmbeddingGemma's own; "" for none


@dataclasses.dataclass(frozen=True)
class QuestionsConfig:
    """Questions whose answers are label sets of the dataset (objective "probe")."""

    per_clip: int  # drawn of a clip; all of them share its pass through the X-Encoder
    query_tokenizer: str  # read only where the pooler is told the question
    query_length: int  # tokens; longer queries are cut


@dataclasses.dataclass(frozen=True)
class PlainTextConfig:
    """Text alone (objectives "text_pairs" and "language_model")."""

    tokenizer: str
    length: int  # tokens; longer texts are cut


@dataclasses.dataclass(frozen=True)
class DataConfig:
    sources: tuple[SourceConfig, ...]
    video: VideoConfig | None  # None where the objective sees text alone
    text: TextConfig | QuestionsConfig | PlainTextConfig | None  # None: no text is read
    num_workers: int  # decoding processes; 0 decodes in the training process
    # "cache" stores a frozen X-Encoder's S_V on disk; "none": the objective sees text alone.
    visual_tokens: Literal["compute", "cache", "none"]


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class OptimizerRule:
    """Settings of the parameters whose path matches; the first match counts."""

    pattern: str  # regex, searched in "x_encoder/layers/mlp/up/kernel"
    frozen: bool
    rate: float  # multiplies the learning rate
    decay: float  # multiplies the weight decay


@dataclasses.dataclass(frozen=True)
class ConstantThenDecay:
    """Constant, then linear to zero over the last steps of the run (V-JEPA 2's cooldown)."""

    decay_steps: int


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    learning_rate: float
    schedule: Literal["constant", "cosine"] | ConstantThenDecay  # after the warm-up
    warmup_steps: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    max_grad_norm: float
    rules: tuple[OptimizerRule, ...]


@dataclasses.dataclass(frozen=True)
class LossConfig:
    name: Literal["info_nce"]
    mask_equal_targets: bool  # rows with the same target text are not each other's negatives


@dataclasses.dataclass(frozen=True)
class ShardingRule:
    pattern: str
    spec: tuple[str | None, ...]  # a mesh axis, or None, per dimension


@dataclasses.dataclass(frozen=True)
class ShardingConfig:
    data: int  # devices on each mesh axis; one of them may be -1, "all the rest"
    fsdp: int
    tensor: int
    rules: tuple[ShardingRule, ...]


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int  # steps
    keep: int  # newest checkpoints kept


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What ``launch/train.py`` takes."""

    seed: int
    objective: Literal["vljepa", "probe", "vjepa2", "text_pairs", "language_model"]
    init_from: str  # "DIR[:params|:full|:x_encoder]"; "" starts from random parameters
    steps: int
    batch_size: int  # global
    log_every: int
    world: WorldConfig
    model: ModelConfig | ProbeConfig | PretrainingConfig | TextPairsConfig | LanguageModelConfig
    data: DataConfig
    loss: LossConfig | None  # None where the objective knows one loss alone
    optimizer: OptimizerConfig
    sharding: ShardingConfig
    checkpoint: CheckpointConfig

    def __post_init__(self) -> None:
        parts = (self.model, self.data.text, self.loss)
        wanted = _OBJECTIVES[self.objective]
        for name, part, kind in zip(("model", "data.text", "loss"), parts, wanted, strict=True):
            if not isinstance(part, kind):
                raise ConfigError(
                    f"config: objective '{self.objective}' takes a {kind.__name__} as '{name}', "
                    f"not a {type(part).__name__}"
                )
        text_alone = isinstance(self.data.text, PlainTextConfig)
        without = [self.data.video is None, self.data.visual_tokens == "none"]
        if without != [text_alone] * 2:
            raise ConfigError(
                f"config: objective '{self.objective}' "
                + ("sees text alone: 'data.video' is None" if text_alone else "sees video")
                + (" and 'data.visual_tokens' 'none'" if text_alone else ", which data describes")
            )


# objective -> what it takes as model, data.text and loss
_OBJECTIVES = {
    "vljepa": (ModelConfig, TextConfig, LossConfig),
    "probe": (ProbeConfig, QuestionsConfig, types.NoneType),
    "vjepa2": (PretrainingConfig, types.NoneType, types.NoneType),
    "text_pairs": (TextPairsConfig, PlainTextConfig, types.NoneType),
    "language_model": (LanguageModelConfig, PlainTextConfig, types.NoneType),
}


# ---------------------------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """One benchmark: which annotations, asked how, scored how."""

    name: str  # metric prefix, e.g. "world/motion"
    suffix: str  # metric suffix, e.g. "_compositional": world/motion_top1_compositional
    protocol: Literal["choose", "retrieve", "match", "triplets"]
    path: str  # a prepared dataset or "@world"
    split: str
    filter: dict[str, str]  # "task" or a tag -> value; all must hold
    query: str | None  # replaces the annotations' own query; None keeps it
    candidate_query: str  # "match": asked of the candidate clips
    limit: int  # first n examples, 0 for all


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What ``launch/eval.py`` takes."""

    frames: int  # 0: as trained
    batch_size: int
    world: WorldConfig
    num_workers: int
    benchmarks: tuple[BenchmarkConfig, ...]


# ---------------------------------------------------------------------------------------------
# Parsing
# ---------------------------------------------------------------------------------------------
def parse(config_class: type[T], config: ml_collections.ConfigDict | Mapping[str, Any]) -> T:
    """Turns a ConfigDict (or a plain mapping) into ``config_class``.

    Raises:
        ConfigError: a field is unknown, missing or of the wrong type; all names are given in full.
    """
    plain = plain_dict(config)
    faults = list(_unknown_or_missing(config_class, plain, ""))
    if faults:
        raise ConfigError("\n".join(faults))
    try:
        return dacite.from_dict(config_class, plain, dacite.Config(cast=[tuple], strict=True))
    except dacite.DaciteError as error:
        raise ConfigError(f"config: {error}") from error


def plain_dict(value: Any) -> Any:
    """Plain dicts all the way down; ``ConfigDict.to_dict`` stops at tuples."""
    if isinstance(value, (ml_collections.ConfigDict, Mapping)):
        return {key: plain_dict(child) for key, child in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(plain_dict(child) for child in value)
    return value


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Says " (did you mean 'x'?)", or nothing where no known name is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def as_dict(config: Any) -> dict[str, Any]:
    """The plain nested dict of a parsed config, fit for JSON."""
    return dataclasses.asdict(config)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names the leaves in which two plain configs differ: "optimizer.beta1: 0.9 -> 0.8"."""
    old_leaves, new_leaves = dict(_leaves(old, "")), dict(_leaves(new, ""))
    absent = "(absent)"
    return [
        f"{name}: {old_leaves.get(name, absent)!r} -> {new_leaves.get(name, absent)!r}"
        for name in sorted(old_leaves.keys() | new_leaves.keys())
        if old_leaves.get(name, absent) != new_leaves.get(name, absent)
    ]


def _leaves(value: Any, name: str) -> typing.Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{name}[{index}]")
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _unknown_or_missing(config_class: type, plain: Mapping, where: str) -> typing.Iterator[str]:
    hints = typing.get_type_hints(config_class)
    for key in plain.keys() - hints.keys():
        yield f"config: unknown field '{where}{key}'{nearest(str(key), hints)}"
    for key in hints.keys() - plain.keys():
        yield f"config: missing field '{where}{key}'"
    for key in hints.keys() & plain.keys():
        hint, value = hints[key], plain[key]
        if isinstance(hint, types.UnionType):
            classes = [h for h in typing.get_args(hint) if dataclasses.is_dataclass(h)]
            if len(classes) > 1 and isinstance(value, Mapping):
                families = {name: h for h in classes if (name := _family(h))}
                if families and value.get("family") not in families:
                    yield (
                        f"config: '{where}{key}.family' is {value.get('family')!r}, not one of "
                        f"{', '.join(families)}"
                    )
                    continue
                classes = [families[value["family"]]] if families else _alike(classes, value)
            hint = classes[0] if classes else hint
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            yield from _unknown_or_missing(hint, value, f"{where}{key}.")
        elif typing.get_origin(hint) is tuple and isinstance(value, (list, tuple)):
            item = typing.get_args(hint)[0]
            if dataclasses.is_dataclass(item):
                for index, child in enumerate(value):
                    if isinstance(child, Mapping):
                        yield from _unknown_or_missing(item, child, f"{where}{key}[{index}].")


def _family(config_class: type) -> str:
    """The name by which a config says which member of a union it is; "" where it says none."""
    return next(iter(typing.get_args(typing.get_type_hints(config_class).get("family"))), "")


def _alike(classes: list[type], value: Mapping) -> list[type]:
    """The member of a union whose fields are those of ``value``, or nearly."""

    def distance(config_class: type) -> int:
        return len({field.name for field in dataclasses.fields(config_class)} ^ value.keys())

    return [min(classes, key=distance)]

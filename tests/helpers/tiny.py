"""A training config small enough for any test: a step takes milliseconds on one core."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

import numpy as np

from vljepa_jax.config import (
    AttentivePoolerConfig,
    CheckpointConfig,
    ContextConfig,
    DataConfig,
    DecodedTextConfig,
    DialogueConfig,
    GemmaConfig,
    LanguageModelConfig,
    LlamaConfig,
    LossConfig,
    MaskConfig,
    MaskPredictorConfig,
    ModelConfig,
    OptimizerConfig,
    OptimizerRule,
    PlainTextConfig,
    PretrainingConfig,
    ProbeConfig,
    QuestionsConfig,
    ShardingConfig,
    ShardingRule,
    SIGRegConfig,
    SourceConfig,
    TextConfig,
    TextPairsConfig,
    TokenTargetConfig,
    TrainConfig,
    VICRegConfig,
    VideoConfig,
    VisualReaderConfig,
    VJEPA2Config,
    VLMConfig,
    WorldConfig,
    YDecoderConfig,
)
from vljepa_jax.data.masks import draw_mask


def tiny_model_config() -> ModelConfig:
    return ModelConfig(
        x_encoder=VJEPA2Config(
            family="vjepa2",
            image_size=32,
            num_frames=4,
            patch_size=16,
            tubelet_size=2,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            mlp_size=64,
            norm_eps=1e-6,
            rope="interleaved",
        ),
        predictor=LlamaConfig(
            family="llama",
            vocab_size=1024,
            hidden_size=32,
            num_layers=2,
            first_layer=0,
            num_heads=4,
            num_kv_heads=2,
            head_size=8,
            mlp_size=64,
            norm_eps=1e-5,
            rope_theta=10_000.0,
            rope_scaling=None,
            causal=False,
        ),
        y_encoder=GemmaConfig(
            family="gemma",
            vocab_size=1024,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            num_kv_heads=2,
            head_size=16,
            mlp_size=64,
            norm_eps=1e-6,
            query_scale=16.0,
            sliding_window=8,
            global_every=2,
            rope_theta_local=10_000.0,
            rope_theta_global=1_000_000.0,
            dense_sizes=(),
        ),
        embedding_size=16,
        pooling="all",
        initial_temperature=0.07,
        max_logit_scale=100.0,
        dtype="float32",
        remat="none",
        unroll_layers=False,
    )


def tiny_world_config(cache_dir: str | None = None) -> WorldConfig:
    return WorldConfig(
        seed=0,
        cache_dir=cache_dir or f"{tempfile.gettempdir()}/vljepa_jax_tests",
        train_clips=24,
        train_triplets=0,
        test_clips=12,
        compositional_clips=6,
        streams=1,
        stream_kind="poisson",
        stream_density=0.4,
        image_size=32,
        frames=8,
        fps=8,
    )


def tiny_train_config(**overrides: Any) -> TrainConfig:
    """A complete ``TrainConfig``; keywords replace its top-level fields.

    One level down, use ``dataclasses.replace(config, model=dataclasses.replace(...))``.
    """
    config = TrainConfig(
        seed=0,
        objective="vljepa",
        init_from="",
        steps=4,
        batch_size=8,
        micro_batch_size=0,
        log_every=1,
        on_non_finite="stop",
        world=tiny_world_config(),
        model=tiny_model_config(),
        data=DataConfig(
            sources=(
                SourceConfig(
                    path="@world",
                    split="train",
                    weight=1.0,
                    tasks={"caption": 1.0, "vqa": 1.0},
                    tags={},
                ),
            ),
            video=VideoConfig(
                frames=4,
                image_size=32,
                sampling="jittered",
                crop="random",
                crop_scale=(0.8, 1.0),
            ),
            text=TextConfig(
                query_tokenizer="@world",
                target_tokenizer="@world",
                query_length=12,
                target_length=16,
                target_prompt="",
            ),
            num_workers=0,
            visual_tokens="compute",
        ),
        loss=LossConfig(
            name="info_nce",
            mask_equal_targets=True,
            vic_reg=VICRegConfig(invariance=25.0, variance=25.0, covariance=1.0),
            sig_reg=SIGRegConfig(weight=0.05, directions=32),
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,
            schedule="constant",
            warmup_steps=2,
            beta1=0.9,
            beta2=0.95,
            epsilon=1e-8,
            weight_decay=0.05,
            max_grad_norm=1.0,
            rules=(
                OptimizerRule(
                    pattern=r"^token_embedding/",
                    frozen=True,
                    lr_multiplier=0.0,
                    weight_decay_multiplier=0.0,
                ),
                OptimizerRule(
                    pattern=r"norm|bias$|^log_logit_scale$",
                    frozen=False,
                    lr_multiplier=1.0,
                    weight_decay_multiplier=0.0,
                ),
                OptimizerRule(
                    pattern=r".*", frozen=False, lr_multiplier=1.0, weight_decay_multiplier=1.0
                ),
            ),
        ),
        sharding=ShardingConfig(
            data=-1,
            fsdp=1,
            tensor=1,
            rules=(
                ShardingRule(
                    pattern=r"layers/(attention/(query|key|value)|mlp/(gate|up))/kernel",
                    spec=(None, "fsdp", "tensor"),
                ),
                ShardingRule(
                    pattern=r"layers/(attention/output|mlp/down)/kernel",
                    spec=(None, "tensor", "fsdp"),
                ),
                ShardingRule(pattern=r"embedding$", spec=("tensor", "fsdp")),
                ShardingRule(pattern=r"kernel$", spec=("fsdp", "tensor")),
                ShardingRule(pattern=r"norm|bias$|^log_logit_scale$|class_token$", spec=()),
            ),
        ),
        checkpoint=CheckpointConfig(
            every=2, keep=2, keep_every=0, keep_best=0, best_metric="loss", best_is="lowest"
        ),
    )
    return dataclasses.replace(config, **overrides)


def fake_arrays(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch of random pixels and tokens; the last two rows have equal target ids."""
    rng = np.random.default_rng(seed)
    rows, video, text = config.batch_size, config.data.video, config.data.text
    lengths = {"query": text.query_length, "target": text.target_length}
    vocab = {
        "query": config.model.predictor.vocab_size,
        "target": config.model.y_encoder.vocab_size,
    }
    arrays = {
        "video": rng.integers(
            0, 256, (rows, video.frames, video.image_size, video.image_size, 3), np.uint8
        )
    }
    for side, length in lengths.items():
        arrays[f"{side}_tokens"] = rng.integers(1, vocab[side], (rows, length), np.int32)
        kept = rng.integers(1, length + 1, (rows, 1))
        arrays[f"{side}_mask"] = np.arange(length) < kept
    arrays["target_id"] = np.arange(rows, dtype=np.int32)
    arrays["target_id"][-1] = arrays["target_id"][-2]
    return arrays


def tiny_probe_config(*, linear: bool = False, **overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for the objective "probe" with a trained X-Encoder."""
    base = tiny_train_config()
    model = ProbeConfig(
        x_encoder=base.model.x_encoder,
        pooler=None
        if linear
        else AttentivePoolerConfig(
            num_layers=1, num_heads=4, mlp_size=48, norm_eps=1e-6, query_vocab_size=1024
        ),
        label_sets={"objects": 5, "motions": 3},
        dtype="float32",
        remat="none",
        unroll_layers=False,
    )
    optimizer = dataclasses.replace(base.optimizer, rules=base.optimizer.rules[1:])
    sharding = dataclasses.replace(
        base.sharding,
        rules=(ShardingRule(r"^(set_query|classifier)/", ()), *base.sharding.rules),
    )
    data = dataclasses.replace(base.data, text=QuestionsConfig(4, "@world", 6))
    config = dataclasses.replace(
        base,
        objective="probe",
        model=model,
        data=data,
        loss=None,
        optimizer=optimizer,
        sharding=sharding,
    )
    return dataclasses.replace(config, **overrides)


def fake_questions(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch for ``tiny_probe_config``; clips have 1 to all of the questions."""
    rng = np.random.default_rng(seed)
    rows, video, questions = config.batch_size, config.data.video, config.data.text
    count, length = questions.per_clip, questions.query_length
    sizes = np.array([size for _, size in sorted(config.model.label_sets.items())])
    label_set = rng.integers(0, len(sizes), (rows, count)).astype(np.int32)
    shape = (rows, video.frames, video.image_size, video.image_size, 3)
    return {
        "video": rng.integers(0, 256, shape, np.uint8),
        "question_mask": np.arange(count) < rng.integers(1, count + 1, (rows, 1)),
        "label_set": label_set,
        "label": rng.integers(0, sizes[label_set]).astype(np.int32),
        "query_tokens": rng.integers(1, 1024, (rows, count, length), np.int32),
        "query_mask": np.arange(length) < rng.integers(1, length + 1, (rows, count, 1)),
    }


def tiny_text_config(objective: str, **overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for "text_pairs" or "language_model"."""
    base = tiny_train_config()
    how = {"dtype": "float32", "remat": "none", "unroll_layers": False}
    if objective == "text_pairs":
        model, task = TextPairsConfig(base.model.y_encoder, 0.07, 100.0, **how), "triplet"
    else:
        causal = dataclasses.replace(base.model.predictor, causal=True)
        model = LanguageModelConfig(causal, 0.0, 0.0, context_length=5, **how)
        task = "caption"
    data = DataConfig(
        sources=(SourceConfig("@world", "train", 1.0, {task: 1.0}, {}),),
        video=None,
        text=(PlainTextConfig("@world", 12) if objective == "text_pairs" else tiny_dialogue(1, 12)),
        num_workers=0,
        visual_tokens="none",
    )
    config = dataclasses.replace(
        base,
        objective=objective,
        world=dataclasses.replace(base.world, train_triplets=30),
        model=model,
        data=data,
        loss=None,
        optimizer=dataclasses.replace(base.optimizer, rules=(base.optimizer.rules[-1],)),
    )
    return dataclasses.replace(config, **overrides)


CONTEXT = ContextConfig(
    clause_break="(?:,| and| while| as well as) (?=an? )", clauses=6, clause_length=12
)


def tiny_dialogue(per_clip: int, length: int, context: bool = False) -> DialogueConfig:
    clauses = CONTEXT if context else None
    return DialogueConfig("@world", per_clip, clauses, length, query_length=16, answer_length=8)


def tiny_vlm_config(**overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for the objective "vlm"; all of it is trained."""
    base = tiny_train_config()
    causal = dataclasses.replace(base.model.predictor, causal=True)
    model = VLMConfig(base.model.x_encoder, causal, "float32", "none", False)
    text = TokenTargetConfig("@world", query_length=12, target_length=20, end_token="[EOS]")
    config = dataclasses.replace(
        base,
        objective="vlm",
        model=model,
        data=dataclasses.replace(base.data, text=text),
        loss=None,
        optimizer=dataclasses.replace(base.optimizer, rules=base.optimizer.rules[1:]),
    )
    return dataclasses.replace(config, **overrides)


def fake_targets(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch for ``tiny_vlm_config``."""
    rng = np.random.default_rng(seed)
    rows, video, text = config.batch_size, config.data.video, config.data.text
    shape = (rows, video.frames, video.image_size, video.image_size, 3)
    query = rng.integers(1, text.query_length + 1, (rows, 1))
    target = rng.integers(1, text.target_length + 1, (rows, 1))
    place = np.arange(text.query_length + text.target_length)
    mask = place < query + target
    return {
        "video": rng.integers(0, 256, shape, np.uint8),
        "tokens": rng.integers(1, 1024, mask.shape, np.int32),
        "mask": mask,
        "target_mask": mask & (place >= query),
    }


def tiny_visual_reader_config(**overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for the objective "visual_reader" with causal steps alone."""
    base = tiny_train_config()
    model = VisualReaderConfig(
        base.model.x_encoder,
        dataclasses.replace(base.model.predictor, causal=True),
        maxsim_weight=0.0,
        bidirectional_probability=0.0,
        dtype="float32",
        remat="none",
        unroll_layers=False,
    )
    source = dataclasses.replace(base.data.sources[0], tasks={"vqa": 1.0, "caption": 1.0})
    text = tiny_dialogue(3, 48)
    config = dataclasses.replace(
        base,
        objective="visual_reader",
        model=model,
        data=dataclasses.replace(base.data, sources=(source,), text=text),
        loss=None,
    )
    return dataclasses.replace(config, **overrides)


def tiny_maxsim_config(**overrides: Any) -> TrainConfig:
    """As ``tiny_visual_reader_config``, with bidirectional steps alone and soft MaxSim."""
    base = tiny_visual_reader_config()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, bidirectional_probability=1.0, maxsim_weight=0.5),
        data=dataclasses.replace(base.data, text=tiny_dialogue(3, 48, context=True)),
        **overrides,
    )


def fake_dialogues(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch for ``tiny_maxsim_config``; the last two rows have the same context."""
    rng = np.random.default_rng(seed)
    rows, video, text = config.batch_size, config.data.video, config.data.text
    shape = (rows, video.frames, video.image_size, video.image_size, 3)
    arrays = {"video": rng.integers(0, 256, shape, np.uint8)}
    for side, count, length in (
        ("query", text.per_clip, text.query_length),
        ("target", text.per_clip, text.answer_length),
        ("context", text.context.clauses, text.context.clause_length),
    ):
        there = np.arange(count) < rng.integers(1, count + 1, (rows, 1))
        words = np.arange(length) < rng.integers(1, length + 1, (rows, count, 1))
        arrays[f"{side}_tokens"] = rng.integers(1, 1024, (rows, count, length), np.int32)
        arrays[f"{side}_mask"] = words & there[..., None]
    shape = arrays["context_mask"].shape[:2]
    arrays["context_id"] = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    for name in ("context_tokens", "context_mask", "context_id"):
        arrays[name][-1] = arrays[name][-2]
    return arrays


def tiny_pretraining_config(**overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for the objective "vjepa2": 2 x 3 x 3 tokens, two masks."""
    base = tiny_train_config()
    model = PretrainingConfig(
        x_encoder=base.model.x_encoder,
        mask_predictor=MaskPredictorConfig(
            hidden_size=16, num_layers=2, num_heads=2, mlp_size=32, norm_eps=1e-6
        ),
        masks=(
            MaskConfig(block_scale=(0.2, 0.3), aspect_ratio=(0.75, 1.5), masked=0.55),
            MaskConfig(block_scale=(0.6, 0.6), aspect_ratio=(1.0, 1.0), masked=0.8),
        ),
        teacher_momentum=0.9,
        dtype="float32",
        remat="none",
        unroll_layers=False,
    )
    optimizer = dataclasses.replace(base.optimizer, rules=base.optimizer.rules[1:])
    rules = (*base.sharding.rules, ShardingRule(r"mask_tokens$", ()))
    data = dataclasses.replace(
        base.data, text=None, video=dataclasses.replace(base.data.video, image_size=48)
    )
    config = dataclasses.replace(
        base,
        objective="vjepa2",
        model=model,
        data=data,
        loss=None,
        optimizer=optimizer,
        sharding=dataclasses.replace(base.sharding, rules=rules),
    )
    return dataclasses.replace(config, **overrides)


def fake_masked(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch for ``tiny_pretraining_config``."""
    rng = np.random.default_rng(seed)
    video = config.data.video
    shape = (config.batch_size, video.frames, video.image_size, video.image_size, 3)
    arrays = {"video": rng.integers(0, 256, shape, np.uint8)}
    for index, mask in enumerate(config.model.masks):
        drawn = [draw_mask(mask, config.token_grid, rng) for _ in range(config.batch_size)]
        arrays[f"kept_{index}"] = np.stack([kept for kept, _ in drawn])
        arrays[f"predicted_{index}"] = np.stack([predicted for _, predicted in drawn])
    return arrays


def tiny_y_decoder_config(*, predicted: bool = False, **overrides: Any) -> TrainConfig:
    """As ``tiny_train_config``, for the objective "y_decoder"; from videos where ``predicted``."""
    base = tiny_train_config()
    causal = dataclasses.replace(base.model.predictor, causal=True)
    model = YDecoderConfig(base.model, causal, 2, 0.5, "float32", "none", False)
    data = dataclasses.replace(
        base.data,
        sources=(SourceConfig("@world", "train", 1.0, {"caption": 1.0, "vqa": 1.0}, {}),),
        video=base.data.video if predicted else None,
        text=DecodedTextConfig(base.data.text, "@world", 20, "[EOS]"),
        visual_tokens="compute" if predicted else "none",
    )
    rules = (
        OptimizerRule(r"^(?!y_prefix/|y_token_embedding/|y_decoder/)", True, 1.0, 1.0),
        OptimizerRule(r".*", False, 1.0, 1.0),
    )
    config = dataclasses.replace(
        base,
        objective="y_decoder",
        model=model,
        data=data,
        loss=None,
        optimizer=dataclasses.replace(base.optimizer, rules=rules),
    )
    return dataclasses.replace(config, **overrides)


def fake_decoded(config: TrainConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A global batch for ``tiny_y_decoder_config``, from texts."""
    rng = np.random.default_rng(seed)
    rows, text = config.batch_size, config.data.text
    lengths = {"query_": text.embedded.query_length, "target_": text.embedded.target_length}
    arrays = {"target_id": np.arange(rows, dtype=np.int32)}
    for side, length in (lengths | {"": text.length}).items():
        arrays[f"{side}tokens"] = rng.integers(1, 1024, (rows, length), np.int32)
        arrays[f"{side}mask"] = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return arrays

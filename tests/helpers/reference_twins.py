"""The reference implementations (transformers on torch), tiny and with every parameter random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

import tests.helpers.torchvision_operators  # noqa: F401 (before transformers)

# isort: split
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig as BertReferenceConfig
from transformers import (
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaForCausalLM,
    LlamaModel,
    Qwen3Model,
    VJEPA2Model,
)
from transformers import LlamaConfig as LlamaReferenceConfig
from transformers import Qwen3Config as Qwen3ReferenceConfig
from transformers import VJEPA2Config as VJEPA2ReferenceConfig
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from vljepa_jax.config import BertConfig, GemmaConfig, LlamaConfig, Qwen3Config, VJEPA2Config


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Every weight random, norms and biases too; float16 values, so that they store exactly.

    At their usual start (ones and zeros) norms and biases could be exchanged unnoticed.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape)
        if len(shape) == 1:
            values = 0.4 * values + (0.8 if name.lower().endswith("norm.weight") else 0.2)
        elif "embed_tokens" not in name:
            values *= 1.5 / np.sqrt(np.prod(shape[1:]))
        weights[name] = values.astype(np.float16)
    return weights


def vjepa2_reference(
    config: VJEPA2Config, image_size: int | None = None, attention: str = "eager"
) -> VJEPA2Model:
    """``image_size`` sets the grid, which the reference does not read from its input."""
    return VJEPA2Model(
        VJEPA2ReferenceConfig(
            patch_size=config.patch_size,
            crop_size=image_size or config.image_size,
            frames_per_clip=config.num_frames,
            tubelet_size=config.tubelet_size,
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_heads,
            num_hidden_layers=config.num_layers,
            mlp_ratio=config.mlp_size / config.hidden_size,
            layer_norm_eps=config.norm_eps,
            pred_hidden_size=16,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=2,
            pred_mlp_ratio=1.5,
            pred_num_mask_tokens=2,
            num_pooler_layers=2,
            attn_implementation=attention,
        )
    ).eval()


def pooler_reference(config: VJEPA2Config) -> VJEPA2AttentivePooler:
    """V-JEPA 2's attentive pooler; its MLPs are four times as wide."""
    return VJEPA2AttentivePooler(vjepa2_reference(config).config).eval()


def llama_reference(config: LlamaConfig, num_layers: int, attention: str = "eager") -> LlamaModel:
    scaling = config.rope_scaling
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    return LlamaModel(
        LlamaReferenceConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp_size,
            num_hidden_layers=num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_size,
            rms_norm_eps=config.norm_eps,
            rope_parameters=rope,
            max_position_embeddings=1024,
            attn_implementation=attention,
        )
    ).eval()


def vlm_reference(config: LlamaConfig) -> LlamaForCausalLM:
    """Its token table also predicts; ``weights_of(model.model, ...)`` randomises all of it."""
    settings = llama_reference(config, config.num_layers).config
    settings.tie_word_embeddings = True
    model = LlamaForCausalLM(settings).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return model


def gemma_reference(config: GemmaConfig, attention: str = "eager") -> Gemma3TextModel:
    return Gemma3TextModel(
        Gemma3TextConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_size,
            rms_norm_eps=config.norm_eps,
            query_pre_attn_scalar=int(config.query_scale),
            sliding_window=config.sliding_window,
            sliding_window_pattern=config.global_every,
            use_bidirectional_attention=True,
            rope_parameters={
                "sliding_attention": {
                    "rope_type": "default",
                    "rope_theta": config.rope_theta_local,
                },
                "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta_global},
            },
            attn_implementation=attention,
        )
    ).eval()


def qwen3_reference(config: Qwen3Config) -> Qwen3Model:
    return Qwen3Model(
        Qwen3ReferenceConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_size,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            attn_implementation="eager",
        )
    ).eval()


def bert_reference(config: BertConfig) -> BertModel:
    """Without the layer behind the first token, which sentence-transformers does not read."""
    return BertModel(
        BertReferenceConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_length,
            type_vocab_size=config.type_vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.mlp_size,
            layer_norm_eps=config.norm_eps,
            attn_implementation="eager",
        ),
        add_pooling_layer=False,
    ).eval()


def weights_of(model: torch.nn.Module, seed: int) -> dict[str, np.ndarray]:
    """Randomises a reference in place and returns its weights under their published names."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    weights = random_weights(shapes, seed)
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return weights


def dense_weights(config: GemmaConfig, seed: int) -> dict[str, np.ndarray]:
    sizes = (config.hidden_size, *config.dense_sizes)
    return random_weights(
        {
            f"{index + 2}_Dense/linear.weight": (sizes[index + 1], sizes[index])
            for index in range(len(config.dense_sizes))
        },
        seed,
    )


@torch.no_grad()
def run_vjepa2(model: VJEPA2Model, video: np.ndarray) -> dict[str, np.ndarray]:
    """video [b, T, H, W, 3], normalised."""
    hidden = record(model.encoder.layer)
    pixels = torch.tensor(video.astype(np.float32)).permute(0, 1, 4, 2, 3).to(model.dtype)
    output = model(pixels, skip_predictor=True).last_hidden_state
    return {"hidden": hidden(), "output": output.float().numpy()}


@torch.no_grad()
def run_mask_predictor(
    model: VJEPA2Model, tokens: np.ndarray, kept: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """Of all tokens [b, n, d] it takes those at ``kept``; its mask token is the one of index 1."""
    masks = [[torch.tensor(mask, dtype=torch.long)] for mask in (kept, predicted)]
    return model.predictor(
        torch.tensor(tokens.astype(np.float32)), *masks
    ).last_hidden_state.numpy()


@torch.no_grad()
def run_pooler(model: VJEPA2AttentivePooler, tokens: np.ndarray) -> np.ndarray:
    """tokens [b, n, d] -> [b, d]."""
    return model(torch.tensor(tokens.astype(np.float32))).numpy()


@torch.no_grad()
def run_llama(
    model: LlamaModel, tokens: np.ndarray, mask: np.ndarray, causal: bool
) -> dict[str, np.ndarray]:
    """Bidirectional through a 4-D mask, which the reference takes as it is."""
    hidden = record(model.layers)
    length = tokens.shape[1]
    allowed = torch.tensor(mask)[:, None, None, :].expand(-1, 1, length, length)
    if causal:
        allowed = allowed & torch.ones(length, length, dtype=torch.bool).tril()
    bias = torch.zeros(allowed.shape, dtype=model.dtype)
    bias = bias.masked_fill(~allowed, torch.finfo(model.dtype).min)
    output = model(
        torch.tensor(tokens, dtype=torch.long), attention_mask=bias, use_cache=False
    ).last_hidden_state
    kept = mask[..., None]
    return {"hidden": hidden() * kept, "output": output.float().numpy() * kept}


@torch.no_grad()
def run_vlm(
    model: LlamaForCausalLM,
    visual: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    tokens: np.ndarray,
    mask: np.ndarray,
    target_mask: np.ndarray,
) -> dict[str, np.ndarray]:
    """Logits and loss behind visual tokens [b, n, x], which ``kernel`` and ``bias`` project."""
    projected = torch.tensor(visual.astype(np.float32) @ kernel.astype(np.float32) + bias)
    ids = torch.tensor(tokens, dtype=torch.long)
    seen = torch.cat([torch.ones(projected.shape[:2]), torch.tensor(mask).float()], dim=1)
    ignored = torch.full(projected.shape[:2], -100)
    labels = torch.where(torch.tensor(target_mask), ids, -100)
    found = model(
        inputs_embeds=torch.cat([projected, model.model.embed_tokens(ids)], dim=1),
        attention_mask=seen.long(),
        labels=torch.cat([ignored, labels], dim=1),
        use_cache=False,
    )
    logits = found.logits[:, visual.shape[1] - 1 : -1]  # those of each token of the text
    return {"logits": logits.numpy() * mask[..., None], "loss": found.loss.numpy()}


@torch.no_grad()
def write_vlm(
    model: LlamaForCausalLM,
    visual: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    query: np.ndarray,
    end_id: int,
    max_tokens: int,
) -> list[int]:
    """Greedy generation after one clip [n, x] and query [q], up to the end token."""
    projected = torch.tensor(visual.astype(np.float32) @ kernel.astype(np.float32) + bias)
    words = model.model.embed_tokens(torch.tensor(query, dtype=torch.long))
    (text,) = model.generate(
        inputs_embeds=torch.cat([projected, words])[None],
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    return text.tolist()


@torch.no_grad()
def run_gemma(
    model: Gemma3TextModel, dense: Mapping[str, np.ndarray], tokens: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """Mean pooling and the dense modules, as sentence-transformers computes them."""
    hidden = record(model.layers)
    weights = torch.tensor(mask)
    states = model(
        torch.tensor(tokens, dtype=torch.long), attention_mask=weights.long(), use_cache=False
    ).last_hidden_state.float()
    pooled = (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
    for name in sorted(dense):
        pooled = torch.nn.functional.linear(pooled, torch.tensor(dense[name], dtype=pooled.dtype))
    return {"hidden": hidden() * mask[..., None], "output": pooled.numpy()}


@torch.no_grad()
def run_qwen3(model: Qwen3Model, tokens: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """The last token that is no padding, as the published model pools."""
    hidden = record(model.layers)
    states = model(
        torch.tensor(tokens, dtype=torch.long),
        attention_mask=torch.tensor(mask).long(),
        use_cache=False,
    ).last_hidden_state.numpy()
    output = states[np.arange(len(mask)), mask.sum(1) - 1]
    return {"hidden": hidden() * mask[..., None], "output": output}


@torch.no_grad()
def run_bert(
    model: BertModel, config: BertConfig, tokens: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """Pooled and normalised by sentence-transformers' own modules."""
    hidden = record(model.encoder.layer)
    seen = torch.tensor(mask).long()
    states = model(torch.tensor(tokens, dtype=torch.long), attention_mask=seen).last_hidden_state
    features = {"token_embeddings": states, "attention_mask": seen}
    features = Pooling(config.hidden_size, config.pooling)(features)
    if config.normalised:
        features = Normalize()(features)
    output = features["sentence_embedding"].numpy()
    return {"hidden": hidden() * mask[..., None], "output": output}


def record(modules: torch.nn.ModuleList):
    """Collects what each layer returns in the next run."""
    states, handles = [], []
    for module in modules:
        handles.append(
            module.register_forward_hook(
                lambda _module, _inputs, output: states.append(
                    (output[0] if isinstance(output, tuple) else output).float().numpy()
                )
            )
        )

    def finish() -> np.ndarray:
        for handle in handles:
            handle.remove()
        return np.stack(states)

    return finish

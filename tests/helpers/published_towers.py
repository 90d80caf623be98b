"""The tiny dual encoders as their publishers would lay them on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.helpers.published_twins import golden_weights, save
from tests.helpers.tower_twins import PE_CORE_TWIN, TWINS
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS
from vljepa_jax.convert.pe_core import FILES, TIMM_NAMES

WORDS = "a the dog cat moves left right up down red green blue ball box spins"


def _sizes(config):
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_size,
    }


def _hugging_face(family):
    config = TWINS[family]
    vision = {"image_size": config.image.image_size, "patch_size": config.image.patch_size}
    text = {"vocab_size": config.text.vocab_size, "max_position_embeddings": config.text.max_length}
    if family == "siglip2":
        text["projection_size"] = config.text.embedding_size
    return {
        "model_type": "clip" if family == "clip" else "siglip",
        "vision_config": _sizes(config.image) | vision,
        "text_config": _sizes(config.text) | text,
        **({"projection_dim": config.text.embedding_size} if family == "clip" else {}),
    }


def _open_clip():
    image, text = PE_CORE_TWIN.image, PE_CORE_TWIN.text
    vision = {"image_size": image.image_size, "timm_model_name": "vit_pe_core_twin"}
    written = {"context_length": text.max_length, "vocab_size": text.vocab_size}
    written |= {"width": text.hidden_size, "heads": text.num_heads, "layers": text.num_layers}
    written["mlp_ratio"] = text.mlp_size / text.hidden_size
    model = {"embed_dim": text.embedding_size, "vision_cfg": vision, "text_cfg": written}
    return {"model_cfg": model, "preprocess_cfg": {"resize_mode": "squash"}}


def published_as(monkeypatch) -> None:
    """Makes the twin of PE-Core one of the sizes that timm has a name for."""
    monkeypatch.setitem(PUBLISHED_TOWERS, "twin", PE_CORE_TWIN)
    monkeypatch.setitem(TIMM_NAMES, "vit_pe_core_twin", "twin")


def write_tower_tokenizer(path: Path, family: str, size: int | None = None) -> str:
    """Whole words, with the special tokens where the family has them."""
    size = size or TWINS[family].text.vocab_size
    if family == "siglip2":
        tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *WORDS.split()]
        tokens += [f"w{index}" for index in range(size - len(tokens))]
        end = [("<eos>", 1)]
        pattern, unknown = "$A <eos>", "<unk>"
    else:
        tokens = [*WORDS.split(), *(f"w{index}" for index in range(size - len(WORDS.split()) - 2))]
        tokens += ["<|startoftext|>", "<|endoftext|>"]
        end = [("<|startoftext|>", size - 2), ("<|endoftext|>", size - 1)]
        pattern, unknown = "<|startoftext|> $A <|endoftext|>", "<|endoftext|>"
    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if family != "siglip2":
        made.normalizer = normalizers.Lowercase()
    made.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=end)
    made.save(str(path))
    return str(path)


def write_tower(directory: Path, family: str, shards: int = 1) -> Path:
    """Writes one dual encoder's directory, whole or in shards, and returns it."""
    directory.mkdir(parents=True)
    weights = {k: v.astype(np.float32) for k, v in golden_weights(family).items()}
    config_file, weights_file = (
        FILES if family == "pe_core" else ("config.json", "model.safetensors")
    )
    settings = _open_clip() if family == "pe_core" else _hugging_face(family)
    (directory / config_file).write_text(json.dumps(settings))
    write_tower_tokenizer(directory / "tokenizer.json", family)
    if shards == 1:
        save(weights, directory / weights_file)
        return directory
    keys = sorted(weights)
    files = {k: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, k in enumerate(keys)}
    for file in set(files.values()):
        save({key: weights[key] for key in keys if files[key] == file}, directory / file)
    index = {"metadata": {}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory

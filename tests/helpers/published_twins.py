"""The tiny twins as their publishers would lay them on disk, and a config that they fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_train_config
from tests.helpers.twins import BERT_TWIN, GEMMA_TWIN, GOLDENS, LLAMA_TWIN, VJEPA2_TWIN
from vljepa_jax.config import TrainConfig

_FAMILIES = {"x_encoder": "vjepa2", "predictor": "llama", "y_encoder": "gemma"}

# With the keys of the files that are on the Hub, which are older than transformers 5.
CONFIGS = {
    "vjepa2": {
        "architectures": ["VJEPA2Model"],
        "model_type": "vjepa2",
        "crop_size": 12,
        "frames_per_clip": 64,
        "patch_size": 4,
        "tubelet_size": 2,
        "hidden_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "mlp_ratio": 1.5,
        "layer_norm_eps": 1e-06,
        "hidden_act": "gelu",
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 23,
        "hidden_size": 18,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 28,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100.0,
        "rope_scaling": {
            "factor": 4.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 40,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
    },
    "gemma": {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "vocab_size": 29,
        "hidden_size": 18,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "intermediate_size": 26,
        "rms_norm_eps": 1e-06,
        "query_pre_attn_scalar": 7,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]
        + ["sliding_attention"],
        "rope_theta": 1000.0,
        "rope_local_base_freq": 50.0,
        "rope_scaling": None,
        "use_bidirectional_attention": True,
    },
    "bert": {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": 37,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
        "hidden_size": 18,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 28,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    },
}
# As all-MiniLM-L6-v2 has them.
BERT_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]
BERT_POOLING = {
    "word_embedding_dimension": 18,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


def twin_config(directory: Path) -> TrainConfig:
    """A TrainConfig of the three twins; its tokenizer lies in ``directory``."""
    config = tiny_train_config()
    tokenizer = write_tokenizer(directory / "tokenizer.json")
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            x_encoder=VJEPA2_TWIN,
            predictor=dataclasses.replace(LLAMA_TWIN, first_layer=1, num_layers=2),
            y_encoder=GEMMA_TWIN,
        ),
        data=dataclasses.replace(
            config.data,
            video=dataclasses.replace(config.data.video, frames=2, image_size=12),
            text=dataclasses.replace(
                config.data.text, query_tokenizer=tokenizer, target_tokenizer=tokenizer
            ),
        ),
    )


def golden_weights(family: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{family}.npz") as file:
        return {k.removeprefix("weights/"): file[k] for k in file if k.startswith("weights/")}


def write_part(directory: Path, part: str, dtype=np.float32, shards: int = 1) -> Path:
    """Writes one backbone's directory, whole or in shards, and returns it."""
    directory.mkdir()
    family = _FAMILIES[part]
    (directory / "config.json").write_text(json.dumps(CONFIGS[family]))
    own = {}
    for key, array in golden_weights(family).items():
        folder, _, name = key.rpartition("/")
        if folder:
            (directory / folder).mkdir()
            save({name: array.astype(dtype)}, directory / folder / "model.safetensors")
        else:
            own[key] = array.astype(dtype)
    if shards == 1:
        save(own, directory / "model.safetensors")
        return directory
    keys = sorted(own)
    names = {key: f"model-{i % shards + 1:05}-of-{shards:05}" for i, key in enumerate(keys)}
    files = {key: f"{name}.safetensors" for key, name in names.items()}
    for file in set(files.values()):
        save({key: own[key] for key in keys if files[key] == file}, directory / file)
    index = {"metadata": {}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def bert_config(directory: Path) -> TrainConfig:
    """As ``twin_config``, with the twin of BERT as Y-Encoder."""
    config = twin_config(directory)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, y_encoder=BERT_TWIN))


def write_bert(directory: Path) -> Path:
    """Writes a sentence-transformers model and returns its directory."""
    (directory / "1_Pooling").mkdir(parents=True)
    documents = {"config.json": CONFIGS["bert"], "modules.json": BERT_MODULES}
    documents["1_Pooling/config.json"] = BERT_POOLING
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document))
    weights = {k: v.astype(np.float32) for k, v in golden_weights("bert").items()}
    save(weights, directory / "model.safetensors")
    write_tokenizer(directory / "tokenizer.json")
    return directory


def write_all(directory: Path, **kwargs) -> dict[str, Path]:
    return {part: write_part(directory / part, part, **kwargs) for part in _FAMILIES}


def save(arrays, path):
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})


def change(path: Path, **changes) -> None:
    """Rewrites a file of weights with tensors replaced or, by None, left out."""
    arrays = safetensors.numpy.load_file(path) | changes
    save({key: array for key, array in arrays.items() if array is not None}, path)

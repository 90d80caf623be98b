"""An exported directory (``convert.export``) in again: the config and parameters of its run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import safetensors.numpy
from flax import traverse_util

from vljepa_jax.config import LlamaConfig, TrainConfig
from vljepa_jax.config.saved import read_saved
from vljepa_jax.convert.families import backbone, parts_of, placed, tokenizer_field
from vljepa_jax.convert.published import read_backbone
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import with_tokenizers
from vljepa_jax.models.parts import BACKBONES
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_dir import tree_differences

PyTree = Any


def is_exported(directory: str | os.PathLike[str]) -> bool:
    """Whether it is what ``launch/convert.py --export`` writes: backbones and a run's config."""
    directory = Path(directory)
    weights = (path for part in BACKBONES for path in directory.glob(f"{part}/*.safetensors"))
    return (directory / "config.json").is_file() and next(weights, None) is not None


def load_exported(directory: str | os.PathLike[str]) -> tuple[TrainConfig, PyTree]:
    """The config and the parameters (numpy, float32) of the run that was exported.

    The config is the run's, with the tokenizers that lie beside the backbones.

    Raises:
        ConfigError: config.json is not one of a run.
        ConversionError: a file is missing or does not fit config.json.
    """
    directory = Path(directory)
    config = read_saved(directory / "config.json")
    target, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    whole = dataclasses.replace(config, model=_whole_layers(config.model))
    params: dict[str, PyTree] = {}
    faults: list[str] = []
    for part in parts_of(config.model):
        filled, found = read_backbone(whole, part, directory / part, backbone(target, part))
        params |= placed(filled.tree, part)
        faults += [f"{part}: {fault}" for fault in found]
    rest = {name: tree for name, tree in target.items() if name not in params}
    params |= _read_rest(directory / f"{config.objective}.safetensors", rest, faults)
    if faults:
        raise ConversionError([*faults, "launch/convert.py --export writes the directory anew"])
    return _with_own_tokenizers(config, directory), params


def _whole_layers(model: Any) -> Any:
    """The model whose slice of a published Llama has become a Llama of its own."""
    slices = {
        part: own
        for part in parts_of(model)
        if isinstance(own := getattr(model, part), LlamaConfig)
    }
    whole = {part: dataclasses.replace(own, first_layer=0) for part, own in slices.items()}
    return dataclasses.replace(model, **whole)


def _with_own_tokenizers(config: TrainConfig, directory: Path) -> TrainConfig:
    tokenizers = {}
    for part in parts_of(config.model):
        field, path = tokenizer_field(config, part), directory / part / "tokenizer.json"
        if field is not None and path.is_file():
            tokenizers[field] = str(path)
    text = with_tokenizers(config.data.text, tokenizers)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))


def _read_rest(path: Path, target: Mapping[str, PyTree], faults: list[str]) -> dict[str, PyTree]:
    """Reads the parameters that belong to no backbone; appends the file's faults to ``faults``."""
    if not target:
        return {}
    try:
        found = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        faults.append(f"{path}: cannot be read ({error})")
        return {}
    rest = traverse_util.unflatten_dict(found, sep="/")
    faults += [f"{path}: {fault}" for fault in tree_differences(rest, target)]
    return rest

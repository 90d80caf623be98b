"""Published weights in: Hugging Face directories -> a checkpoint that training starts from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import rich.console

from vljepa_jax.config import TextConfig, TrainConfig
from vljepa_jax.convert import sentence_transformers
from vljepa_jax.convert.families import (
    backbone,
    family_of,
    parts_of,
    placed,
    tokenizer_of,
)
from vljepa_jax.convert.rules import ConversionError, Filled
from vljepa_jax.convert.safetensors_folder import SafetensorsFolder, fill_from, read_json
from vljepa_jax.convert.settings import mismatches
from vljepa_jax.data.tokenizers import WORLD_TOKENIZER, Tokenizer, TokenizerError
from vljepa_jax.json_text import JSONError
from vljepa_jax.objectives import make_objective
from vljepa_jax.ownership import owned
from vljepa_jax.places import AnyPath
from vljepa_jax.run_dir import require_empty, save_params
from vljepa_jax.training.head_init import align_heads

PyTree = Any

BUNDLED = "@bundled"  # in place of a directory: the small backbone that comes with the package
_BACKBONES = Path(__file__).parents[1] / "backbones"


def backbone_directory(part: str, path: str) -> Path:
    """Where a part's weights are: ``path``, or the package's own for "@bundled"."""
    if path != BUNDLED:
        return Path(path)
    return _BACKBONES / ("predictor" if part == "y_decoder" else part)  # the same language model


def convert_checkpoint(
    config: TrainConfig,
    directories: Mapping[str, Path],
    output: AnyPath,
    console: rich.console.Console,
    align: bool = False,
) -> None:
    """Writes a run directory whose parameters are the published ones; the rest is random.

    One backbone's parameters are allocated once, and its source is read tensor by tensor.

    Args:
        config: of the model, as training will have it.
        directories: part ("x_encoder", "predictor", "y_encoder" or "y_decoder") -> its directory:
            config.json, model.safetensors or shards with their index, and for a Y-Encoder its
            module folders.
        output: the run directory; must hold no checkpoint yet.
        align: initialise the heads of a VL-JEPA in closed form from texts of the recipe's sources
            (``alignment.align_heads``), not at random; both text backbones must be given.

    Raises:
        ConversionError: anything does not fit; the faults of all directories are in it.
        ConfigError, DatasetError: there are no texts to align the heads by.
        CheckpointError: ``output`` holds a checkpoint.
        InUse: another process is writing to ``output``.
    """
    require_empty(output)
    has = parts_of(config.model)
    if lacking := [part for part in directories if part not in has]:
        raise ConversionError(
            [
                f"{part}: the model of objective '{config.objective}' has none, only "
                f"{', '.join(has)}"
                for part in lacking
            ]
        )
    if align and not (
        config.objective == "vljepa" and {"predictor", "y_encoder"} <= set(directories)
    ):
        raise ConversionError(["align: needs a VL-JEPA's predictor and Y-Encoder, both given"])
    init = make_objective(config).init
    target, _ = jax.eval_shape(init, jax.random.key(0))
    params: dict[str, PyTree] = {}
    faults: list[str] = []
    for part, directory in directories.items():
        read, found = read_part(config, target, part, directory, console)
        params |= read
        faults += found
    if faults:
        raise ConversionError(faults)
    if align:
        params |= align_heads(config, params)
        console.print("predictor_head, y_head: in closed form from texts of data.sources")
    random = sorted(target.keys() - params.keys())
    if random:
        console.print(f"random, from seed {config.seed}: {', '.join(random)}")
        # Of the compiled function, only what is returned is computed and allocated.
        make = jax.jit(lambda key: {name: init(key)[0][name] for name in random})
        params |= make(jax.random.key(config.seed))
    with owned(output):
        save_params(output, dataclasses.replace(config, init_from=""), params)
    console.print(f"Start training from it with --config.init_from={output}:params")


def read_part(
    config: TrainConfig, target: PyTree, part: str, directory: Path, console: rich.console.Console
) -> tuple[dict[str, PyTree], list[str]]:
    """A part's parameters, jax arrays by their place in the model, and all that is wrong with it.

    Tells what was read of the weights and what not.

    Args:
        target: the model's parameters, as shapes and types.
    """
    filled, faults = read_backbone(config, part, directory, backbone(target, part))
    _to_jax(filled.tree)
    console.print(f"{part}: {filled.used} tensors of {directory}")
    for reason, count in filled.ignored.items():
        console.print(f"  {count} left out: {reason}")
    faults += _text_faults(config, part, directory)
    _tell_prompts(config, part, directory, console)
    return placed(filled.tree, part), [f"{part}: {fault}" for fault in faults]


def _to_jax(tree: dict[str, Any]) -> None:
    """Turns numpy arrays into jax's in place, one by one: Orbax copies numpy arrays as a whole."""
    for name, child in tree.items():
        if isinstance(child, dict):
            _to_jax(child)
        else:
            tree[name] = jnp.asarray(child)


def read_backbone(
    config: TrainConfig, part: str, directory: Path, target: PyTree
) -> tuple[Filled, list[str]]:
    """The parameters of one directory, and all that is wrong with it."""
    family, own = family_of(config.model, part), getattr(config.model, part)
    faults = [refusal] if (refusal := family.refusal(own)) else []
    where = directory / family.files[0]
    settings, problems = read_json(where)
    faults += problems
    if settings is not None:
        faults += [f"{where}: {fault}" for fault in mismatches(settings, family.settings(own))]
    sources = {"": SafetensorsFolder(directory)}
    if family.own_pooling:
        faults += sentence_transformers.module_faults(directory, family.folders(own))
    for folder, expected in family.folders(own).items():
        where = directory / folder / "config.json"
        if where.is_file():
            settings, problems = read_json(where)
            settings = settings or {}
            if folder.endswith("_Pooling"):
                settings = sentence_transformers.with_mode(settings)
            faults += problems
            faults += [f"{where}: {fault}" for fault in mismatches(settings, expected)]
        if _dense(folder):
            sources[f"{folder}/"] = SafetensorsFolder(directory / folder)
    filled, found = fill_from(directory, sources, family.table(own), target)
    return filled, [*(f if str(directory) in f else f"{directory}: {f}" for f in faults), *found]


def _dense(folder: str) -> bool:
    return folder.endswith("_Dense")


def _text_faults(config: TrainConfig, part: str, directory: Path) -> Iterator[str]:
    """Looks at the tokenizer beside the weights, at the one that the config names, and prompts."""
    named = tokenizer_of(config, part)
    if named is None:
        return
    table_size = getattr(config.model, part).vocab_size
    found = []
    for path in dict.fromkeys((str(directory / "tokenizer.json"), named[0])):
        if path != WORLD_TOKENIZER and not Path(path).is_file():
            continue  # training refuses a config whose tokenizer is not there
        try:
            tokenizer = Tokenizer(path)
            tokenizer.check_fits(table_size)
            found.append(tokenizer)
        except TokenizerError as error:
            yield str(error)
    if len(found) == 2 and found[0].vocabulary() != found[1].vocabulary():
        beside, ours = found
        yield (
            f"{ours.path}: has another vocabulary than {beside.path}, which was published with the "
            "weights; name that one in data.text"
        )
    if _has_prompt(config, part):
        yield from sentence_transformers.prompt_faults(directory, config.data.text.target_prompt)


def _tell_prompts(
    config: TrainConfig, part: str, directory: Path, console: rich.console.Console
) -> None:
    if not _has_prompt(config, part):
        return
    with contextlib.suppress(JSONError):  # which is among the faults
        if found := sentence_transformers.prompts(directory)[0]:
            told = sentence_transformers.told_prompts(found)
            console.print(f"  its prompts, for data.text.target_prompt: {told}")


def _has_prompt(config: TrainConfig, part: str) -> bool:
    return part == "y_encoder" and isinstance(config.data.text, TextConfig)

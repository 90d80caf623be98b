"""The files of a sentence-transformers model: its modules, its pooling and its prompts.

Source: sentence-transformers' sentence_transformer/modules/pooling.py and base/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vljepa_jax import json_text
from vljepa_jax.convert.settings import Setting

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
# A mode -> the switch by which files of before version 6 name it; ``export`` writes these, which
# every version reads.
_SWITCHES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def pooling(width: int, mode: str, mend: str = "") -> tuple[Setting, ...]:
    """What the config.json of a Pooling module must say, in the form of ``with_mode``.

    Args:
        mend: what to do where it pools otherwise.
    """
    return (
        Setting("word_embedding_dimension", width, also="embedding_dimension", default=width),
        Setting("pooling_mode", mode, mend=mend),
        Setting("include_prompt", True, default=True),
    )


def with_mode(found: Mapping[str, Any]) -> dict[str, Any]:
    """A Pooling module's config.json with one ``pooling_mode``, as version 6 writes it.

    Several modes, whose results are concatenated, become a list.
    """
    if "pooling_mode" in found:
        return dict(found)
    modes = [mode for mode, switch in _SWITCHES.items() if found.get(switch, False)]
    rest = {key: value for key, value in found.items() if key not in _SWITCHES.values()}
    return rest | {"pooling_mode": modes[0] if len(modes) == 1 else modes}


def with_switches(written: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``with_mode``, for a single mode."""
    rest = {key: value for key, value in written.items() if key != "pooling_mode"}
    return rest | {s: mode == written["pooling_mode"] for mode, s in _SWITCHES.items()}


def modules(folders: Mapping[str, Any]) -> list[dict[str, Any]]:
    """modules.json of a backbone and the folders beside it: "2_Dense" is a module Dense."""
    return [
        {
            "idx": index,
            "name": str(index),
            "path": folder,
            "type": f"sentence_transformers.models.{_kind(folder)}",
        }
        for index, folder in enumerate(["", *sorted(folders)])
    ]


def _kind(folder: str) -> str:
    return folder.split("_")[1] if folder else "Transformer"


def module_faults(directory: Path, folders: Mapping[str, Any]) -> Iterator[str]:
    """One line for each file that is missing, and for modules other than these folders'.

    Args:
        directory: of a model that nothing but these files tells the pooling of.
        folders: beside the backbone, as ``families.Family`` has them.
    """
    pooling_file = directory / "1_Pooling" / "config.json"
    for path in (directory / MODULES, pooling_file):
        if not path.exists():
            yield f"{path}: is missing; it says how the model pools: fetch it with the weights"
    path = directory / MODULES
    if not path.exists():
        return
    try:
        listed = json_text.read_json(path, list)
        found = [(module["path"], module["type"].rpartition(".")[2]) for module in listed]
    except json_text.JSONError as error:
        yield str(error)
        return
    except (KeyError, TypeError, AttributeError):
        yield f"{path}: is no list of modules with 'path' and 'type'; fetch it anew"
        return
    wanted = [(folder, _kind(folder)) for folder in ["", *sorted(folders)]]
    if found != wanted:
        yield (
            f"{path}: the modules are {_shown(found)}, where {_shown(wanted)} are expected; set "
            "model.y_encoder.normalised to whether there is a Normalize (no other module than "
            "these can be taken)"
        )


def _shown(modules: list[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} in '{path}'" if path else kind for path, kind in modules)


def prompts(directory: Path) -> tuple[dict[str, str], str | None]:
    """The prompts of a model by name, and the name of the one that it puts before every text.

    Raises:
        JSONError: the file that has them is damaged.
    """
    path = directory / PROMPTS
    if not path.exists():
        return {}, None
    settings = json_text.read_json(path, dict)
    found, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise json_text.JSONError(f"{path}: 'prompts' is no object of texts; fetch it anew")
    if default is not None and default not in found:
        raise json_text.JSONError(
            f"{path}: 'default_prompt_name' is {default!r}, which 'prompts' has not; fetch it anew"
        )
    return found, default


def prompt_faults(directory: Path, prompt: str) -> Iterator[str]:
    """A line where the model puts a prompt before every text and ``prompt`` is none of its own."""
    try:
        found, default = prompts(directory)
    except json_text.JSONError as error:
        yield str(error)
        return
    if default is not None and prompt not in found.values():
        yield (
            f"{directory / PROMPTS}: every text begins with {found[default]!r}, where "
            f"data.text.target_prompt is {prompt!r}; set it to that, or to another of its prompts: "
            + told_prompts(found)
        )


def told_prompts(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text!r}" for name, text in found.items())

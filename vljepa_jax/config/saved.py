"""Saved configs, and the fields and objectives of earlier versions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vljepa_jax.config.parsing import ConfigError, as_dict, parse
from vljepa_jax.config.training import TrainConfig
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.places import AnyPath

# (where it lies, its name then, its name now); the path as messages write it, "" at the top.
_RENAMED = (
    (r"optimizer\.rules\[\d+\]", "rate", "lr_multiplier"),
    (r"optimizer\.rules\[\d+\]", "decay", "weight_decay_multiplier"),
    (r"model", "reading_share", "bidirectional_probability"),
    (r"model", "clauses_weight", "maxsim_weight"),
    (r"model", "skip_share", "skip_probability"),
    (r"model", "told_tokens", "context_length"),
)
# (where it lies, a field that was not there then, what was always so).
_ADDED = ((r"world", "stream_kind", "poisson"), (r"world", "step_streams", 0))
# (objective then, a field that its model had then and has not now, objective now).
_RENAMED_OBJECTIVES = (("vlm", "reading_share", "visual_reader"),)


def read_saved(path: AnyPath) -> TrainConfig:
    """The config of a ``config.json`` or ``recipe.json``, of this or an earlier version.

    Raises:
        ConfigError: the file is damaged, or a field is wrong.
    """
    try:
        return parse(TrainConfig, with_present_names(read_json(path, dict)))
    except JSONError as error:
        raise ConfigError(f"{error}; copy it anew from where the run was made") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def in_present_form(cls: type, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config of ``cls``, as a plain dict, as it would be saved today.

    Fields added since hold their defaults, which are what was always so. What cannot be parsed has
    its present names alone: a comparison with another config then names what is wrong.
    """
    present = with_present_names(saved)
    try:
        return json.loads(json.dumps(as_dict(parse(cls, present))))
    except ConfigError:
        return present


def with_present_names(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config, as a plain dict, under the names of today."""
    present = _renamed(saved, "")
    for old, field, new in _RENAMED_OBJECTIVES:
        model = saved.get("model")
        if saved.get("objective") == old and isinstance(model, Mapping) and field in model:
            present["objective"] = new
    return present


def _renamed(value: Any, where: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_renamed(child, f"{where}[{index}]") for index, child in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    names = {old: new for place, old, new in _RENAMED if re.fullmatch(place, where)}
    added = {field: always for place, field, always in _ADDED if re.fullmatch(place, where)}
    return added | {
        names.get(name, name): _renamed(child, f"{where}.{name}" if where else name)
        for name, child in value.items()
    }

"""A published config.json, compared with what our config asks for; and written anew."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

_REQUIRED = object()
_SHOWN = 100  # characters of a value that is wrong: it may have any length


@dataclasses.dataclass(frozen=True)
class Setting:
    """One key of config.json.

    Attributes:
        key: as transformers writes it now, "rope_parameters.rope_theta" where nested.
        value: what our config means.
        also: where older files have it; read where ``key`` is absent.
        default: what transformers takes where it is absent; without one its absence is a fault.
        at_least: any number from this on will do.
        checked: False where it is written, but does not matter to the weights.
        mend: what to do where it is otherwise.
    """

    key: str
    value: Any
    also: str = ""
    default: Any = _REQUIRED
    at_least: int | None = None
    checked: bool = True
    mend: str = ""


def mismatches(published: Mapping[str, Any], settings: Sequence[Setting]) -> list[str]:
    """One line for each setting that a config.json does not have as it must."""
    faults = []
    for setting in settings:
        if not setting.checked:
            continue
        key, found = setting.key, _get(published, setting.key)
        mend = f"; {setting.mend}" if setting.mend else ""
        if found is _REQUIRED and setting.also:
            older = _get(published, setting.also)
            if older is not _REQUIRED:
                key, found = setting.also, older
        if found is _REQUIRED:
            found = setting.default
        if found is _REQUIRED:
            faults.append(f"{key}: is absent, where {_expected(setting)} is expected{mend}")
        elif not _agrees(found, setting):
            found = _told(found)
            faults.append(f"{key}: is {found}, where {_expected(setting)} is expected{mend}")
    return faults


def as_json(settings: Sequence[Setting]) -> dict[str, Any]:
    """The nested dict that config.json holds."""
    tree: dict[str, Any] = {}
    for setting in settings:
        *parents, last = setting.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = setting.value
    return tree


def _get(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return _REQUIRED
        tree = tree[part]
    return tree


def _expected(setting: Setting) -> str:
    if setting.at_least is not None:
        return f"at least {setting.at_least}"
    return repr(setting.value)


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _agrees(found: Any, setting: Setting) -> bool:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return found == setting.value
    if setting.at_least is not None:
        return found >= setting.at_least
    wanted = setting.value
    if not isinstance(wanted, int | float) or isinstance(wanted, bool):
        return False
    try:
        return math.isclose(found, wanted, rel_tol=1e-9)
    except OverflowError:  # a whole number in JSON may be larger than any float
        return False

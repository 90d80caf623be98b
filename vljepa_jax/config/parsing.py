"""ConfigDict -> dataclasses, and what differs between two configs."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import dacite
import ml_collections

from vljepa_jax.places import BUCKETS, DATASET_BUCKETS, why_not

T = TypeVar("T")

_DATASET = re.compile(r"(data\.sources|benchmarks)\[\d+\]\.path")  # fields that name one


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and the mend."""


def parse(config_class: type[T], config: ml_collections.ConfigDict | Mapping[str, Any]) -> T:
    """Turns a ConfigDict (or a plain mapping) into ``config_class``.

    Raises:
        ConfigError: a field is unknown, missing or of the wrong type, or is an address where files
            cannot lie; all names are given in full.
    """
    plain = plain_dict(config)
    faults = [*_unknown_or_missing(config_class, plain, ""), *_addresses(plain)]
    if faults:
        raise ConfigError("\n".join(faults))
    try:
        return dacite.from_dict(config_class, plain, dacite.Config(cast=[tuple], strict=True))
    except dacite.DaciteError as error:
        raise ConfigError(f"config: {error}") from error


def plain_dict(value: Any) -> Any:
    """Plain dicts all the way down; ``ConfigDict.to_dict`` stops at tuples."""
    if isinstance(value, (ml_collections.ConfigDict, Mapping)):
        return {key: plain_dict(child) for key, child in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(plain_dict(child) for child in value)
    return value


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Says " (did you mean 'x'?)", or nothing where no known name is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def as_dict(config: Any) -> dict[str, Any]:
    """The plain nested dict of a parsed config, fit for JSON."""
    return dataclasses.asdict(config)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names the leaves in which two plain configs differ: "optimizer.beta1: 0.9 -> 0.8"."""
    old_leaves, new_leaves = dict(_leaves(old, "")), dict(_leaves(new, ""))
    absent = "(absent)"
    return [
        f"{name}: {old_leaves.get(name, absent)!r} -> {new_leaves.get(name, absent)!r}"
        for name in sorted(old_leaves.keys() | new_leaves.keys())
        if old_leaves.get(name, absent) != new_leaves.get(name, absent)
    ]


def _leaves(value: Any, name: str) -> typing.Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{name}[{index}]")
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _addresses(plain: Mapping) -> typing.Iterator[str]:
    for name, value in _leaves(plain, ""):
        if not isinstance(value, str):
            continue
        runs = name == "init_from"  # several, between commas
        accepted = BUCKETS if runs else DATASET_BUCKETS if _DATASET.fullmatch(name) else ()
        for path in value.split(",") if runs else [value]:
            if fault := why_not(path, accepted):
                yield f"config: {name}: '{path}' {fault}"


def _unknown_or_missing(config_class: type, plain: Mapping, where: str) -> typing.Iterator[str]:
    hints = typing.get_type_hints(config_class)
    for key in plain.keys() - hints.keys():
        yield f"config: unknown field '{where}{key}'{nearest(str(key), hints)}"
    fields = dataclasses.fields(config_class)
    optional = {field.name for field in fields if field.default is not dataclasses.MISSING}
    for key in hints.keys() - plain.keys() - optional:
        yield f"config: missing field '{where}{key}'"
    for key in hints.keys() & plain.keys():
        hint, value = hints[key], plain[key]
        if isinstance(hint, types.UnionType):
            classes = [h for h in typing.get_args(hint) if dataclasses.is_dataclass(h)]
            if len(classes) > 1 and isinstance(value, Mapping):
                families = {name: h for h in classes if (name := _family(h))}
                if families and value.get("family") not in families:
                    yield (
                        f"config: '{where}{key}.family' is {value.get('family')!r}, not one of "
                        f"{', '.join(families)}"
                    )
                    continue
                classes = [families[value["family"]]] if families else _alike(classes, value)
            hint = classes[0] if classes else hint
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            yield from _unknown_or_missing(hint, value, f"{where}{key}.")
        elif typing.get_origin(hint) is tuple and isinstance(value, (list, tuple)):
            item = typing.get_args(hint)[0]
            if dataclasses.is_dataclass(item):
                for index, child in enumerate(value):
                    if isinstance(child, Mapping):
                        yield from _unknown_or_missing(item, child, f"{where}{key}[{index}].")


def _family(config_class: type) -> str:
    """The name by which a config says which member of a union it is; "" where it says none."""
    return next(iter(typing.get_args(typing.get_type_hints(config_class).get("family"))), "")


def _alike(classes: list[type], value: Mapping) -> list[type]:
    """The member of a union whose fields are those of ``value``, or nearly."""

    def distance(config_class: type) -> int:
        return len({field.name for field in dataclasses.fields(config_class)} ^ value.keys())

    return [min(classes, key=distance)]

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

# Fields that name one.
_DATASET = re.compile(
    r"(data\.sources|(evaluations\[\d+\]\.)?benchmarks|stream\.sets)\[\d+\]\.path|data"
)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and the mend."""


def parse(config_class: type[T], config: ml_collections.ConfigDict | Mapping[str, Any]) -> T:
    """Turns a ConfigDict (or a plain mapping) into ``config_class``.

    Raises:
        ConfigError: a field is unknown or missing, is none of its choices or of another type, or
            is an address where files cannot lie; all names are given in full.
    """
    plain = plain_dict(config)
    faults = [*_faults(config_class, plain, ""), *_addresses(plain)]
    if faults:
        raise ConfigError("\n".join(f"config: {fault}" for fault in faults))
    try:
        return _built(config_class, plain)
    except dacite.DaciteError as error:
        raise ConfigError(f"config: {error}") from error


def _built(config_class: type[T], plain: Mapping[str, Any]) -> T:
    return dacite.from_dict(config_class, plain, dacite.Config(cast=[tuple], strict=True))


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
                yield f"{name}: '{path}' {fault}"


def _faults(hint: Any, value: Any, name: str) -> typing.Iterator[str]:
    """Yields what keeps a value from being what the hint of its field says."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        yield from _faults_of_union(hint, value, name)
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        yield from _faults_of_fields(hint, value, name)
    elif origin is tuple and isinstance(value, (list, tuple)) and _fits(args, len(value)):
        for index, child in enumerate(value):
            item = args[0] if args[-1] is ... else args[index]
            yield from _faults(item, child, f"{name}[{index}]")
    elif origin is dict and isinstance(value, Mapping):
        for key, child in value.items():
            yield from _faults(args[1], child, f"{name}.{key}")
    elif not _is_plain(hint, value):
        close = nearest(str(value), args) if origin is typing.Literal else ""
        yield f"'{name}' is {value!r}, not {described(hint)}{close}"


def _faults_of_fields(
    config_class: type, plain: Mapping[str, Any], where: str
) -> typing.Iterator[str]:
    hints = typing.get_type_hints(config_class)
    prefix = f"{where}." if where else ""
    for key in plain:
        if key not in hints:
            yield f"unknown field '{prefix}{key}'{nearest(str(key), hints)}"
    for field in dataclasses.fields(config_class):
        if field.name in plain:
            yield from _faults(hints[field.name], plain[field.name], f"{prefix}{field.name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            yield f"missing field '{prefix}{field.name}'"


def _faults_of_union(union: Any, value: Any, name: str) -> typing.Iterator[str]:
    members = typing.get_args(union)
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    if classes and isinstance(value, Mapping):  # which of them is meant, so as to be precise
        tagged = [(*tag, h) for h in classes if (tag := _tag(h))]
        if len(classes) > 1 and tagged:
            field, known = tagged[0][0], {tag: h for _, tag, h in tagged}
            if value.get(field) not in known:
                yield f"'{name}.{field}' is {value.get(field)!r}, not one of {', '.join(known)}"
                return
            meant = known[value[field]]
        else:
            meant = _alike(classes, value)
        yield from (faults := [*_faults(meant, value, name)])
        if not faults:
            try:  # dacite takes what a member's own check raises for a reason to try the next
                _built(meant, value)
            except (ConfigError, dacite.DaciteError) as error:
                yield f"'{name}': {error}"
    elif all(any(_faults(member, value, name)) for member in members):
        yield f"'{name}' is {value!r}, not {described(union)}"


def _fits(items: tuple[Any, ...], count: int) -> bool:
    return items[-1] is ... or len(items) == count


def _is_plain(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if not isinstance(hint, type) or typing.get_origin(hint):
        return False  # a container, of which the value is none
    if isinstance(value, bool) and hint in (int, float):
        return False  # though Python counts with it
    return isinstance(value, (int, float) if hint is float else hint)


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def described(hint: Any) -> str:
    """Describes what a field takes, in the words of who writes a config."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        several = sum(map(dataclasses.is_dataclass, args)) > 1  # with too many fields to list
        words = (
            "a ConfigDict" if several and dataclasses.is_dataclass(member) else described(member)
            for member in args
        )
        return " or ".join(dict.fromkeys(words))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else f"'{args[0]}'"
    if origin is tuple:
        items = args[:1] if args[-1] is ... else args
        return f"a tuple of {', '.join(map(described, items))}"
    if origin is dict:
        return f"a ConfigDict whose values are {described(args[1])}"
    if dataclasses.is_dataclass(hint):
        return f"a ConfigDict with {', '.join(f.name for f in dataclasses.fields(hint))}"
    return _WORDS.get(hint, "None" if hint is types.NoneType else str(hint))


def _tag(config_class: type) -> tuple[str, str] | None:
    """The field by which a config says which member of a union it is, and what it says there."""
    for field, hint in typing.get_type_hints(config_class).items():
        args = typing.get_args(hint)
        if typing.get_origin(hint) is typing.Literal and len(args) == 1:
            return field, args[0]
    return None


def _alike(classes: list[type], value: Mapping) -> type:
    """The member of a union whose fields are those of ``value``, or nearly."""

    def distance(config_class: type) -> int:
        return len({field.name for field in dataclasses.fields(config_class)} ^ value.keys())

    return min(classes, key=distance)

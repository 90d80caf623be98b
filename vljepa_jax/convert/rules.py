"""From the arrays of a published checkpoint to a parameter tree, by a table of keys.

A table pairs every source key with one parameter, or with several that the source has in one array
(``Entry.part``). Both are written as templates, in which
``{layer}`` stands for the layer's number in the source; on our side the layers are stacked along
axis 0, so a template with ``{layer}`` fills one slice. Nothing is guessed: a source key that no
entry names, or more than one, a parameter left empty, a wrong shape or type and a NaN are faults,
and all faults of a checkpoint are reported together.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from vljepa_jax.convert.transforms import SAME, Misfit, Transform


class ConversionError(ValueError):
    """A checkpoint that does not fit; one line per fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("checkpoint does not fit:\n  " + "\n  ".join(faults))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One source key (or one per layer) and the parameter that it fills.

    Attributes:
        key: template of the source key, without the table's prefix.
        path: parameter, as "layers/attention/query/kernel".
        transform: how the array lies on either side.
        part: (index, count) where the source has several parameters in one array, such as fused
            queries, keys and values: this one is part ``index`` of ``count`` equal ones along the
            first axis. All of them have an entry.
    """

    key: str
    path: str
    transform: Transform = SAME
    part: tuple[int, int] = (0, 1)


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Source keys that are left out on purpose.

    Attributes:
        pattern: regex, matched against the whole key without the table's prefix.
        reason: why nothing is lost.
    """

    pattern: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Table:
    """All keys of one family.

    Attributes:
        entries: what is used.
        ignored: what is not.
        prefix: regex of what may stand before every key, e.g. r"(?:model\\.)?".
        first_layer: the source's number of the layer that comes first in the stack.
        other_layers: why layers outside the stack are left out; "" makes them faults.
    """

    entries: tuple[Entry, ...]
    ignored: tuple[Ignored, ...] = ()
    prefix: str = ""
    first_layer: int = 0
    other_layers: str = ""


@dataclasses.dataclass(frozen=True)
class Filled:
    """The parameters that ``fill`` made of a checkpoint, and its faults.

    Attributes:
        tree: like the target, of numpy arrays; not to be used where there are faults.
        faults: one line each, sorted.
        used: number of source keys that filled a parameter.
        ignored: reason -> number of source keys left out for it.
    """

    tree: dict
    faults: list[str]
    used: int
    ignored: dict[str, int]


def convert(source: Mapping[str, np.ndarray], table: Table, target: dict) -> dict:
    """The tree that ``fill`` gives.

    Raises:
        ConversionError: anything does not fit; every fault is named.
    """
    filled = fill(source, table, target)
    if filled.faults:
        raise ConversionError(filled.faults)
    return filled.tree


def fill(source: Mapping[str, np.ndarray], table: Table, target: dict) -> Filled:
    """Fills a parameter tree from a checkpoint.

    Arrays are read from ``source`` one at a time, so that a lazy mapping is never held whole
    beside the result. A ``Misfit`` that reading one raises is a fault of that key.

    Args:
        source: key -> array.
        table: the family's keys.
        target: nested dict of shapes and types (``jax.eval_shape`` of the model's init).
    """
    leaves = _leaves(target)
    result = {path: np.empty(leaf.shape, leaf.dtype) for path, leaf in leaves.items()}
    filled: dict[tuple[str, int | None], str] = {}
    ignored: dict[str, int] = {}
    faults = []
    for key in source:
        try:
            match = _find(key, table, leaves)
            if isinstance(match, str):
                ignored[match] = ignored.get(match, 0) + 1
                continue
            entries, layer = match
            for entry in entries:
                slot = (entry.path, layer)
                if slot in filled:
                    raise Misfit(f"fills {_name(*slot)}, which {filled[slot]!r} has filled")
                filled[slot] = key
            _put(source[key], entries, layer, result)  # held by nothing else, and no longer
        except Misfit as fault:
            faults.append(f"{key}: {fault}")
    faults += _gaps(filled, table, leaves)
    return Filled(_nested(result), sorted(faults), len(set(filled.values())), ignored)


def _put(array: np.ndarray, entries: Sequence[Entry], layer: int | None, result: Mapping) -> None:
    """Copies an array of the source to where its entries say."""
    for entry in entries:
        place = result[entry.path] if layer is None else result[entry.path][layer]
        place[...] = _transformed(_part(array, entry), entry, place.shape)


def export(params: dict, table: Table) -> Iterator[tuple[str, np.ndarray]]:
    """The inverse of ``convert``: yields (source key, array), layers counted from 0.

    Args:
        params: nested dict of arrays, such as ``convert`` returns.
        table: the family's keys.

    Raises:
        ConversionError: a parameter without an entry, or an entry without its parameter.
    """
    leaves = _leaves(params)
    paths = {entry.path for entry in table.entries}
    faults = [
        f"{path}: the table has no entry for this parameter" for path in leaves.keys() - paths
    ]
    faults += [f"{path}: the model has no such parameter" for path in paths - leaves.keys()]
    if faults:
        raise ConversionError(sorted(faults))
    for key, entries in _by_key(table).items():
        arrays = [np.asarray(leaves[entry.path]) for entry in entries]
        if _LAYER not in key:
            yield key, _joined(arrays, entries)
            continue
        for layer, slices in enumerate(zip(*arrays, strict=True)):
            yield key.format(layer=layer), _joined(slices, entries)


_LAYER = "{layer}"


def _find(key: str, table: Table, leaves: Mapping) -> tuple[list[Entry], int | None] | str:
    """The entries for a key and their place in the stack, or why the key is ignored."""
    used = [
        (entries, match)
        for pattern, entries in _patterns(table)
        if (match := pattern.fullmatch(key))
    ]
    ignored = [item for item in table.ignored if re.fullmatch(table.prefix + item.pattern, key)]
    matched = [entry for entries, _ in used for entry in entries]
    parts = [entry.part for entry in matched]
    whole = parts == [(index, len(parts)) for index in range(len(parts))]
    if len(used) + len(ignored) > 1 or not whole:
        names = [entry.key for entry in matched] + [item.pattern for item in ignored]
        raise Misfit(f"matches several entries of the table: {names}")
    if ignored:
        return ignored[0].reason
    if not used:
        raise Misfit("unknown key, not in the table")
    ((entries, match),) = used
    for entry in entries:
        if entry.path not in leaves:
            raise Misfit(f"the model has no parameter {entry.path}")
    if "layer" not in match.groupdict():
        return entries, None
    layer = int(match["layer"]) - table.first_layer
    layers = leaves[entries[0].path].shape[0]
    if not 0 <= layer < layers:
        if table.other_layers:
            return table.other_layers
        raise Misfit(f"the model has {layers} layers")
    return entries, layer


@functools.lru_cache(maxsize=8)
def _patterns(table: Table) -> list[tuple[re.Pattern, list[Entry]]]:
    """What matches each key of ``_by_key``, compiled once for all keys of a checkpoint."""
    return [
        (re.compile(table.prefix + _pattern(template)), entries)
        for template, entries in _by_key(table).items()
    ]


def _by_key(table: Table) -> dict[str, list[Entry]]:
    """Template -> its entry, or those of all parts of its array, in order."""
    found: dict[str, list[Entry]] = {}
    for entry in table.entries:
        found.setdefault(entry.key, []).append(entry)
    for entries in found.values():
        entries.sort(key=lambda entry: entry.part)
    return found


def _part(array: np.ndarray, entry: Entry) -> np.ndarray:
    index, count = entry.part
    if count == 1:
        return array
    if array.ndim == 0 or array.shape[0] % count:
        raise Misfit(f"has shape {array.shape}, which is not {count} parameters in one")
    return np.split(array, count)[index]


def _joined(arrays: Sequence[np.ndarray], entries: Sequence[Entry]) -> np.ndarray:
    """The inverse of ``_part`` and of the transforms."""
    found = [entry.transform.to_source(a) for a, entry in zip(arrays, entries, strict=True)]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _pattern(template: str) -> str:
    before, *after = template.split(_LAYER)
    return "".join([re.escape(before), *(r"(?P<layer>\d+)" + re.escape(part) for part in after)])


def _transformed(array: np.ndarray, entry: Entry, shape: tuple[int, ...]) -> np.ndarray:
    rank = entry.transform.rank
    if rank is not None and array.ndim != rank:
        raise Misfit(f"has shape {array.shape}, where {rank} dimensions are expected")
    original = array.shape
    array = entry.transform.to_parameter(array)
    if array.shape != shape:
        raise Misfit(
            f"has shape {original}, as a parameter {array.shape}; {entry.path} needs {shape}"
        )
    # bfloat16 and its kin (ml_dtypes) are floating to jax, not to numpy.
    if not jax.dtypes.issubdtype(array.dtype, np.floating):
        raise Misfit(f"has type {array.dtype}, where floats are expected")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise Misfit(f"holds {np.size(array) - np.isfinite(array).sum()} NaN or infinite values")
    return array


def _gaps(filled: Mapping, table: Table, leaves: Mapping) -> list[str]:
    keys = {entry.path: entry.key for entry in table.entries}
    faults = []
    for path, leaf in leaves.items():
        if path not in keys:
            faults.append(f"{path}: the table has no entry for this parameter")
            continue
        stacked = _LAYER in keys[path]
        for layer in range(leaf.shape[0]) if stacked else (None,):
            if (path, layer) not in filled:
                number = None if layer is None else layer + table.first_layer
                missing = keys[path].format(layer=number)
                faults.append(f"{missing}: missing, {_name(path, layer)} is not filled")
    return faults


def _name(path: str, layer: int | None) -> str:
    return path if layer is None else f"{path}[{layer}]"


def _leaves(tree: dict) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _nested(flat: Mapping[str, np.ndarray]) -> dict:
    tree: dict = {}
    for path, array in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree

"""From the arrays of a published checkpoint to a parameter tree, by a table of keys.

A table pairs every source key with one parameter. Both are written as templates, in which
``{layer}`` stands for the layer's number in the source; on our side the layers are stacked along
axis 0, so a template with ``{layer}`` fills one slice. Nothing is guessed: a source key that no
entry names, or more than one, a parameter left empty, a wrong shape or type and a NaN are faults,
and all faults of a checkpoint are reported together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np


class ConversionError(ValueError):
    """A checkpoint that does not fit the table; one line per fault."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One source key (or one per layer) and the parameter that it fills.

    Attributes:
        key: template of the source key, without the table's prefix.
        path: parameter, as "layers/attention/query/kernel".
        transform: "none"; "linear" turns torch's [out, in] into [in, out]; "convolution_3d" turns
            [out, channels, t, h, w] into [t * h * w * channels, out].
    """

    key: str
    path: str
    transform: Literal["none", "linear", "convolution_3d"] = "none"


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


def convert(source: Mapping[str, np.ndarray], table: Table, target: dict) -> dict:
    """Fills a parameter tree from a checkpoint.

    Arrays are read from ``source`` one at a time, so that a lazy mapping is never held whole
    beside the result.

    Args:
        source: key -> array.
        table: the family's keys.
        target: nested dict of shapes and types (``jax.eval_shape`` of the model's init).

    Returns:
        A tree like ``target``, of numpy arrays.

    Raises:
        ConversionError: anything does not fit; every fault is named.
    """
    leaves = _leaves(target)
    result = {path: np.empty(leaf.shape, leaf.dtype) for path, leaf in leaves.items()}
    filled: dict[tuple[str, int | None], str] = {}
    faults = []
    for key in source:
        try:
            match = _find(key, table, leaves)
            if match is None:
                continue
            entry, layer = match
            slot = (entry.path, layer)
            if slot in filled:
                raise _Fault(f"fills {_name(*slot)}, which {filled[slot]!r} has filled")
            filled[slot] = key
            place = result[entry.path] if layer is None else result[entry.path][layer]
            place[...] = _transformed(np.asarray(source[key]), entry, place.shape)
        except _Fault as fault:
            faults.append(f"{key}: {fault}")
    faults += _gaps(filled, table, leaves)
    if faults:
        raise ConversionError("checkpoint does not fit:\n  " + "\n  ".join(sorted(faults)))
    return _nested(result)


class _Fault(Exception):
    """What is wrong with one key."""


def _find(key: str, table: Table, leaves: Mapping) -> tuple[Entry, int | None] | None:
    """The entry for a key and its place in the stack; None where the key is ignored."""
    used = [
        (entry, match)
        for entry in table.entries
        if (match := re.fullmatch(table.prefix + _pattern(entry.key), key))
    ]
    ignored = [item for item in table.ignored if re.fullmatch(table.prefix + item.pattern, key)]
    if len(used) + len(ignored) > 1:
        names = [entry.key for entry, _ in used] + [item.pattern for item in ignored]
        raise _Fault(f"matches several entries of the table: {names}")
    if ignored:
        return None
    if not used:
        raise _Fault("unknown key, not in the table")
    entry, match = used[0]
    if entry.path not in leaves:
        raise _Fault(f"the model has no parameter {entry.path}")
    if "layer" not in match.groupdict():
        return entry, None
    layer = int(match["layer"]) - table.first_layer
    if not 0 <= layer < leaves[entry.path].shape[0]:
        if table.other_layers:
            return None
        raise _Fault(f"the model has {leaves[entry.path].shape[0]} layers")
    return entry, layer


def _pattern(template: str) -> str:
    before, *after = template.split("{layer}")
    return "".join([re.escape(before), *(r"(?P<layer>\d+)" + re.escape(part) for part in after)])


def _transformed(array: np.ndarray, entry: Entry, shape: tuple[int, ...]) -> np.ndarray:
    rank = {"linear": 2, "convolution_3d": 5}.get(entry.transform)
    if rank is not None and array.ndim != rank:
        raise _Fault(f"has shape {array.shape}, where {rank} dimensions are expected")
    original = array.shape
    if entry.transform == "linear":
        array = array.T
    elif entry.transform == "convolution_3d":
        array = array.transpose(2, 3, 4, 1, 0).reshape(-1, array.shape[0])
    if array.shape != shape:
        raise _Fault(
            f"has shape {original}, as a parameter {array.shape}; {entry.path} needs {shape}"
        )
    # bfloat16 and its kin (ml_dtypes) are floating to jax, not to numpy.
    if not jax.dtypes.issubdtype(array.dtype, np.floating):
        raise _Fault(f"has type {array.dtype}, where floats are expected")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise _Fault(f"holds {np.size(array) - np.isfinite(array).sum()} NaN or infinite values")
    return array


def _gaps(filled: Mapping, table: Table, leaves: Mapping) -> list[str]:
    keys = {entry.path: entry.key for entry in table.entries}
    faults = []
    for path, leaf in leaves.items():
        if path not in keys:
            faults.append(f"{path}: the table has no entry for this parameter")
            continue
        stacked = "{layer}" in keys[path]
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

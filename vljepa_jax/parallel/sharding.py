"""The device mesh, and the one table that says how parameters lie on it.

Axes of the mesh:
    data: rows of the batch, parameters replicated.
    fsdp: rows of the batch, parameters (and optimiser state) divided.
    tensor: parameters divided inside a layer, rows replicated.

The table is ``ShardingConfig.rules``: ordered pairs (regex, one mesh axis or none per dimension).
The regex is searched in a parameter's path, e.g. "predictor/layers/mlp/up/kernel"; the first
match counts. A dimension that its axis does not divide stays whole on that axis. Optimiser state
follows its parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from vljepa_jax.config import ConfigError, ShardingConfig, ShardingRule
from vljepa_jax.config.rules import first_match

PyTree = Any

AXES = ("data", "fsdp", "tensor")
# What divides the rows of a batch, the slower axis first. In this order: with ("data", "fsdp") XLA
# (jax 0.10.2) moves few rows from one layout to another wrongly on meshes of three axes, and
# products with a kernel divided over fsdp come out wrong.
ROW_AXES = ("fsdp", "data")


def make_mesh(config: ShardingConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh (data, fsdp, tensor) over ``devices``, by default all of them.

    Several TPU slices lie along the data axis, so that gradients alone go between them.

    Raises:
        ConfigError: the sizes do not multiply to the number of devices, or more than the data axis
            would go from slice to slice.
    """
    devices = jax.devices() if devices is None else devices
    sizes = mesh_sizes(config, len(devices))
    # GPUs have slices too, those of a host each, and are in their order already. TPUs that are only
    # compiled for are one slice, and some of them have no such attribute.
    slices = len({getattr(d, "slice_index", 0) for d in devices if d.platform == "tpu"})
    if slices > 1:
        return Mesh(_over_slices(sizes, devices, slices), AXES)
    return jax.make_mesh(
        tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
    )


def mesh_sizes(config: ShardingConfig, devices: int) -> dict[str, int]:
    """The size of each axis over so many devices; raises as ``make_mesh``."""
    sizes = {axis: getattr(config, axis) for axis in AXES}
    wrong = [axis for axis, size in sizes.items() if size < 1 and size != -1]
    if wrong:
        raise ConfigError(f"sharding.{wrong[0]}: {sizes[wrong[0]]} is neither positive nor -1")
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise ConfigError(f"sharding: only one axis may be -1, not {' and '.join(free)}")
    if free:
        sizes[free[0]] = max(1, devices // math.prod(s for s in sizes.values() if s != -1))
    if math.prod(sizes.values()) != devices:
        product = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise ConfigError(
            f"sharding: {product} does not make {devices} devices; set one axis to -1"
        )
    return sizes


def local_mesh() -> Mesh:
    """All devices of this process, for rows: what a loaded model runs on."""
    # In any order: nothing is sent between them.
    return Mesh(np.array(jax.local_devices()).reshape(-1, 1, 1), AXES)


def read_whole(tree: Any) -> Any:
    """The arrays of a tree, so that this process can read all of each; all processes call it.

    Those that lie on several processes are gathered to the memory of every host.
    """
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if all(array.is_fully_addressable for array in arrays):
        return tree
    return multihost_utils.process_allgather(tree, tiled=True)


def _over_slices(sizes: dict[str, int], devices: Sequence[jax.Device], slices: int) -> np.ndarray:
    """Devices [data, fsdp, tensor]; the data axis is made of whole slices."""
    if sizes["data"] % slices:
        raise ConfigError(
            f"sharding.data: {sizes['data']} is not a multiple of {slices} TPU slices, and between "
            f"them the network is slow; set sharding.data={slices} and sharding.fsdp=-1, so that "
            "parameters are gathered inside of each"
        )
    inside = (sizes["data"] // slices, sizes["fsdp"], sizes["tensor"])
    return mesh_utils.create_hybrid_device_mesh(
        inside, (slices, 1, 1), devices, allow_split_physical_axes=True
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over ``ROW_AXES``, every other dimension whole."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a global batch that lie on this process's devices, ascending: int64 [b].

    Processes whose devices differ in the tensor axis alone hold the same rows.
    """
    shards = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in shards]))


def check_batch_size(batch_size: int, micro_batch_size: int, mesh: Mesh) -> None:
    """Raises ConfigError where the batch, or a micro-batch, cannot be divided over the mesh."""
    rows = row_shards(mesh)
    for name, size in (("batch_size", batch_size), ("micro_batch_size", micro_batch_size)):
        if size % rows:
            fitting = f"{size // rows * rows} or {size // rows * rows + rows}"
            raise ConfigError(
                f"{name}: {size} is not a multiple of {rows} (sharding.data x sharding.fsdp), the "
                f"devices that share its rows; set {fitting if size > rows else rows}"
            )
    if micro_batch_size and batch_size % micro_batch_size:
        raise ConfigError(
            f"micro_batch_size: {micro_batch_size} does not divide the batch_size, {batch_size}"
        )


def row_shards(mesh: Mesh) -> int:
    """The number of parts in which the rows of a batch lie."""
    return math.prod(mesh.shape[axis] for axis in ROW_AXES)


def state_shardings(
    state: PyTree, params: PyTree, rules: Sequence[ShardingRule], mesh: Mesh | AbstractMesh
) -> PyTree:
    """The ``NamedSharding`` of every leaf of a training state.

    A leaf whose path ends in the path of a parameter (an Adam moment, an averaged copy) is laid
    out like that parameter; scalars that belong to no parameter are replicated; any other leaf is
    looked up by its own path.

    Args:
        state: tree of arrays or ``ShapeDtypeStruct``: the parameters, or what holds them.
        params: the parameters' own tree; its paths are what the rules match.

    Raises:
        ConfigError: no rule matches, or the matching one does not fit; the message names both.
    """
    names = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    def sharding(path, leaf):
        full = path_name(path)
        name = _longest_suffix(full, names)
        if name is None and leaf.ndim == 0:
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, _specs(name or full, leaf.shape, rules, mesh)[1])

    return jax.tree_util.tree_map_with_path(sharding, state)


def left_whole(params: PyTree, rules: Sequence[ShardingRule], mesh: Mesh | AbstractMesh) -> str:
    """Says what lies whole on an axis that does not divide it; "" where the rules hold throughout.

    Raises:
        ConfigError: see ``state_shardings``.
    """
    lines = []
    for axis, size in mesh.shape.items():
        asked, whole, numbers = [], set(), 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            wanted, spec = _specs(path_name(path), leaf.shape, rules, mesh)
            if axis in wanted:
                asked.append(leaf.shape[wanted.index(axis)])
                if axis not in spec:
                    whole.add(asked[-1])
                    numbers += math.prod(leaf.shape)
        if whole:
            common = math.gcd(size, *asked)
            lines.append(
                f"sharding.{axis} = {size} does not divide {', '.join(map(str, sorted(whole)))}: "
                f"{numbers / 1e6:.1f}M parameters lie whole on this axis"
                + (f"; {common} divides all of its dimensions" if common > 1 else "")
            )
    return "\n".join(lines)


def path_name(path: Sequence[Any]) -> str:
    """A tree path as rules see it: "predictor/layers/mlp/up/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _longest_suffix(full: str, names: set[str]) -> str | None:
    parts = full.split("/")
    for start in range(len(parts)):
        suffix = "/".join(parts[start:])
        if suffix in names:
            return suffix
    return None


def _specs(
    name: str, shape: tuple[int, ...], rules: Sequence[ShardingRule], mesh: Mesh | AbstractMesh
) -> tuple[tuple[str | None, ...], PartitionSpec]:
    """The layout that the rule of a parameter asks for, and as much of it as the mesh can do."""
    index = first_match(rules, name, "sharding.rules")
    if index is None:
        raise ConfigError(f"sharding.rules: no rule matches '{name}'")
    rule = rules[index]
    where = f"sharding.rules[{index}] ('{rule.pattern}') on '{name}' {list(shape)}"
    if len(rule.spec) > len(shape):
        raise ConfigError(f"{where}: {len(rule.spec)} axes for {len(shape)} dimensions")
    used = [axis for axis in rule.spec if axis is not None]
    unknown = [axis for axis in used if axis not in AXES]
    if unknown:
        raise ConfigError(f"{where}: unknown mesh axis '{unknown[0]}', not one of {AXES}")
    if len(set(used)) < len(used):
        raise ConfigError(f"{where}: one mesh axis divides two dimensions")
    possible = (
        axis if axis is not None and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(rule.spec, shape, strict=False)  # a spec may be shorter
    )
    return rule.spec, PartitionSpec(*possible)

"""Where activations lie while a step is traced for a mesh: rows divided, all else whole.

Without being told, the compiler spreads the layout of the parameters to what they meet, and with
those divided over fsdp it would rather cut activations along their features, or copy the whole
batch to every device, than gather a layer's kernels. A training step names its mesh by
``on_mesh``, inference by ``over_rows``; elsewhere (a test) these functions change nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from vljepa_jax.parallel.sharding import batch_sharding, row_shards

_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A kind of device, as far as the choice of kernels depends on it.

    Attributes:
        platform: "cpu", "tpu", "cuda" or "rocm".
        capability: of an NVIDIA GPU: (8, 0) is an A100, (9, 0) an H100 or H200.
    """

    platform: str
    capability: tuple[int, int] | None = None

    def __str__(self) -> str:
        capability = ".".join(map(str, self.capability or ()))
        return f"{self.platform} {capability}".strip()

    @classmethod
    def of(cls, device: Any) -> Accelerator:
        """The kind of a JAX device, which need not be at hand."""
        if device.platform != "gpu":
            return cls(device.platform)
        # An AMD GPU names its architecture there ("gfx942").
        found = re.match(r"(\d+)\.(\d+)", getattr(device, "compute_capability", ""))
        return cls("cuda", (int(found[1]), int(found[2]))) if found else cls("rocm")


_stated: contextvars.ContextVar[Accelerator | None] = contextvars.ContextVar("stated", default=None)


@contextlib.contextmanager
def on_mesh(mesh: Mesh | None) -> Iterator[None]:
    """Traces for this mesh; ``None``: for no mesh in particular."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def over_rows(function: Callable[[Any, Any], Any], mesh: Mesh) -> jax.stages.Wrapped:
    """Compiles ``function(params, arrays)`` for a mesh: parameters whole, rows divided.

    Args:
        function: of trees; rows are the first axis of all ``arrays`` and results.

    Returns:
        The compiled function; it takes parameters that lie ``everywhere`` and arrays that lie
        ``on_rows``, as its results do.
    """

    def placed(params: Any, arrays: Any) -> Any:
        with on_mesh(mesh):
            return function(params, arrays)

    rows = batch_sharding(mesh)
    return jax.jit(placed, in_shardings=(everywhere(mesh), rows), out_shardings=rows)


def everywhere(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_rows(arrays: Any, mesh: Mesh) -> Any:
    """A tree of arrays with its rows divided, which must share out, see ``padded_rows``.

    All devices of the mesh are this process's. (A compiled function would not take numpy arrays in
    place of these in a job of several processes.)
    """
    return jax.device_put(arrays, batch_sharding(mesh))


def padded_rows(rows: int, mesh: Mesh) -> int:
    """The smallest number of at least ``rows`` that shares out over a mesh."""
    shards = row_shards(mesh)
    return -(-rows // shards) * shards


def bucket_rows(rows: int, largest: int, mesh: Mesh) -> int:
    """Rows of the batch that takes ``rows``: a power of two up to ``largest``, shared out.

    So a function of batches compiles for few sizes, and not for every number of rows.
    """
    return padded_rows(min(power_of_two(rows), largest), mesh)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def pad_rows(array: Shaped[np.ndarray, n * rest], rows: int) -> Shaped[np.ndarray, b * rest]:
    """Repeats the last row until there are ``rows``."""
    widths = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, widths, mode="edge")


def mesh_here() -> Mesh | None:
    """The mesh of ``on_mesh``, or ``None``."""
    return _mesh.get()


@contextlib.contextmanager
def stated(accelerator: Accelerator) -> Iterator[None]:
    """Traces for this kind of device, whatever those of the mesh are."""
    token = _stated.set(accelerator)
    try:
        yield
    finally:
        _stated.reset(token)


def accelerator() -> Accelerator:
    """The kind of device that will compute: the stated one, else the mesh's, else JAX's."""
    if (said := _stated.get()) is not None:
        return said
    mesh = _mesh.get()
    return Accelerator.of(jax.devices()[0] if mesh is None else mesh.devices.flat[0])


def by_rows(x: Shaped[Array, b * rest]) -> Shaped[Array, b * rest]:
    """Activations divided by rows, as the batch is, where the rows can be shared out."""
    mesh = _mesh.get()
    if mesh is None or x.shape[0] % row_shards(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, batch_sharding(mesh))


def gathered(parameter: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """A parameter whole on every device, for the operation that follows."""
    mesh = _mesh.get()
    if mesh is None:
        return parameter
    return jax.lax.with_sharding_constraint(parameter, everywhere(mesh))

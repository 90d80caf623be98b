"""Accelerators: what they can do, and the arrangements of them that a step can be compiled for.

Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}; NVIDIA's data sheets of A100, H100 and
H200 (SXM; dense bfloat16). A network rate is what a chip sends in a second over all its links.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax

GB = 1e9
GIB = 2.0**30


class TopologyError(ValueError):
    """A topology that does not exist, or cannot be compiled for here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device as JAX counts them: of TPU7x's chips each is two.

    Attributes:
        kind: JAX's ``device_kind``.
        memory: bytes.
        flops: a second, bfloat16.
        bandwidth: bytes a second of the memory.
        network: bytes a second that a device sends to others of its slice or node.
        chips: that a device is, for prices and hours: those count chips.
    """

    kind: str
    memory: float
    flops: float
    bandwidth: float
    network: float
    chips: float = 1.0


TPUS = {
    "v4": Chip("TPU v4", 32 * GIB, 275e12, 1228 * GB, 300 * GB),
    "v5e": Chip("TPU v5 lite", 16 * GIB, 197e12, 819 * GB, 200 * GB),
    "v5p": Chip("TPU v5", 95 * GIB, 459e12, 2765 * GB, 600 * GB),
    "v6e": Chip("TPU v6 lite", 32 * GIB, 918e12, 1638 * GB, 400 * GB),
    "tpu7x": Chip("TPU7x", 96 * GIB, 1153.5e12, 3690 * GB, 300 * GB, chips=0.5),
}
GPUS = (
    Chip("NVIDIA A100-SXM4-80GB", 80 * GIB, 312e12, 2039 * GB, 300 * GB),
    Chip("NVIDIA H100 80GB HBM3", 80 * GIB, 989e12, 3350 * GB, 450 * GB),
    Chip("NVIDIA H200", 141 * GB, 989e12, 4800 * GB, 450 * GB),
)
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
TOPOLOGIES = tuple(
    f"{chip}:{shape}" for chip in TPUS for shape in (_FLAT if chip in ("v5e", "v6e") else _CUBES)
)


def chip_of(device: Any) -> Chip | None:
    """The entry of a device, or ``None`` where its rates are not in the table (a CPU)."""
    known = {chip.kind: chip for chip in (*TPUS.values(), *GPUS)}
    return known.get(device.device_kind)


def topology_devices(name: str) -> list[Any]:
    """The devices of a topology; none of them need exist, except for "local" and "cpu".

    Args:
        name: of ``TOPOLOGIES``, or another shape of one of the TPUs; "cpu:N" for N devices of this
            machine's processor (which must be asked for before JAX is used otherwise); "local" for
            the devices of this machine.

    Raises:
        TopologyError: there is none of this name, or libtpu is not installed.
    """
    family, _, shape = name.partition(":")
    if name == "local":
        return jax.devices()
    if family == "cpu" and shape.isdigit():
        return _cpu_devices(int(shape))
    if family not in TPUS or not shape.replace("x", "").isdigit():
        raise TopologyError(
            f"no topology '{name}'; there are {', '.join(TPUS)} with a shape (v5e:16x16), cpu:N "
            "and local; --topology=list shows more"
        )
    # There is no TPU whose metadata could be asked for, nor workers to name.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{family}-1")
    # libtpu keeps a TPU to one process; several may compile.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:  # libtpu's and PJRT's own classes
        import importlib.util

        if importlib.util.find_spec("libtpu") is None:
            raise TopologyError(
                "compiling for a TPU takes libtpu: pip install -r requirements-tpu.txt"
            ) from error
        raise TopologyError(f"topology '{name}': {str(error).splitlines()[0]}") from error


def _cpu_devices(count: int) -> list[Any]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:  # in use already, with another number
        if len(jax.devices("cpu")) < count:
            raise TopologyError(
                f"cpu:{count}: JAX runs with {len(jax.devices('cpu'))} devices already"
            ) from error
    return jax.devices("cpu")[:count]

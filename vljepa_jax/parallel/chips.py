"""Accelerators: what they can do, and the arrangements of them that a step can be compiled for.

Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}; NVIDIA's data sheets of A100, H100, H200
and HGX B200 (SXM; dense bfloat16) and the user guides of DGX A100, H100, H200 and B200 (one network
adapter a GPU). A network rate is what a chip sends in a second over all its links. Memory of GPUs
is what CUDA reports; that and what their compiler asks of them (``_GPU_DETAILS``) are in XLA's
repository, xla/backends/gpu/target_config/specs, but for the memory of H200, as PyTorch prints it,
and for L4, a card of 24 GB on PCIe, by its data sheet and what CUDA reports of it.
"""

from __future__ import annotations

import dataclasses
import os
import re
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
        network: bytes a second that a device sends to others of its slice or host.
        chips: that a device is, for prices and hours: those count chips.
        between_hosts: bytes a second that a GPU sends to other hosts. Of TPUs there is none: a
            slice is one network.
        usable: the share of the memory that a compiled step may take. The rest of a GPU's is for
            what no compiler counts: CUDA's context, buffers of NCCL, workspaces of cuDNN.
    """

    kind: str
    memory: float
    flops: float
    bandwidth: float
    network: float
    chips: float = 1.0
    between_hosts: float | None = None
    usable: float = 1.0


TPUS = {
    "v4": Chip("TPU v4", 32 * GIB, 275e12, 1228 * GB, 300 * GB),
    "v5e": Chip("TPU v5 lite", 16 * GIB, 197e12, 819 * GB, 200 * GB),
    "v5p": Chip("TPU v5", 95 * GIB, 459e12, 2765 * GB, 600 * GB),
    "v6e": Chip("TPU v6 lite", 32 * GIB, 918e12, 1638 * GB, 400 * GB),
    "tpu7x": Chip("TPU7x", 96 * GIB, 1153.5e12, 3690 * GB, 300 * GB, chips=0.5),
}


def _gpu(
    kind: str, memory: float, flops: float, bandwidth: float, within: float, between: float
) -> Chip:
    return Chip(kind, memory, flops, bandwidth, within, between_hosts=between, usable=0.9)


GPUS = {
    "l4": _gpu("NVIDIA L4", 23_670_554_624, 121e12, 300 * GB, 32 * GB, 12.5 * GB),
    "a100-80gb": _gpu(
        "NVIDIA A100-SXM4-80GB", 85_100_068_864, 312e12, 2039 * GB, 300 * GB, 25 * GB
    ),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 84_942_979_072, 989e12, 3350 * GB, 450 * GB, 50 * GB),
    "h200": _gpu("NVIDIA H200", 139.8 * GIB, 989e12, 4800 * GB, 450 * GB, 50 * GB),
    "b200": _gpu("NVIDIA B200", 191_514_411_008, 2250e12, 8000 * GB, 900 * GB, 50 * GB),
}
# (compute capability, cores, bytes of shared memory of a core, of the cache, GHz)
_GPU_DETAILS = {
    "l4": ("8.9", 58, 102_400, 50_331_648, 2.04),
    "a100-80gb": ("8.0", 108, 167_936, 41_943_040, 1.41),
    "h100": ("9.0", 132, 233_472, 52_428_800, 1.98),
    "h200": ("9.0", 132, 233_472, 52_428_800, 1.98),
    "b200": ("10.0", 148, 233_472, 132_644_864, 1.965),
}
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_HOSTS = ("1", "8", "2x8", "24x8")
TOPOLOGIES = (
    *(f"{chip}:{form}" for chip in TPUS for form in (_FLAT if chip in ("v5e", "v6e") else _CUBES)),
    *(f"{chip}:{hosts}" for chip in GPUS for hosts in _HOSTS),
)


def chip_of(device: Any) -> Chip | None:
    """The entry of a device, or ``None`` where its rates are not in the table (a CPU)."""
    known = {chip.kind: chip for chip in (*TPUS.values(), *GPUS.values())}
    return known.get(device.device_kind)


def topology_devices(name: str) -> list[Any]:
    """The devices of a topology; none of them need exist, except for "local" and "cpu".

    Args:
        name: of ``TOPOLOGIES``, or another shape of one of the TPUs; GPUs as "h100:8", or
            "h200:24x8" for 24 hosts of 8; "cpu:N" for N devices of this machine's processor (which
            must be asked for before JAX is used otherwise); "local" for the devices of this
            machine.

    Raises:
        TopologyError: there is none of this name, or the compiler for it is not installed.
    """
    family, _, shape = name.partition(":")
    if name == "local":
        return jax.devices()
    if family == "cpu" and re.fullmatch("[1-9][0-9]*", shape):
        return _cpu_devices(int(shape))
    if family in GPUS and re.fullmatch("([1-9][0-9]*x)?[1-9][0-9]*", shape):
        hosts, _, devices = f"1x{shape}".rpartition("x")
        return _gpu_devices(family, int(hosts.rpartition("x")[2]), int(devices))
    if family not in TPUS or not re.fullmatch("[0-9]+(x[0-9]+)*", shape):
        raise TopologyError(
            f"no topology '{name}'; there are {', '.join(TPUS)} with a shape (v5e:16x16), "
            f"{', '.join(GPUS)} with a number of devices (h100:8) or hosts (h200:24x8), cpu:N "
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


def _gpu_devices(family: str, hosts: int, devices: int) -> list[Any]:
    """Devices of as many processes as there are hosts."""
    # There is no CUDA whose version could be asked for.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    from jax.experimental import topologies

    chip = GPUS[family]
    capability, cores, shared, cache, clock = _GPU_DETAILS[family]
    major, minor = capability.split(".")
    target = f"""
        gpu_device_info {{
            cuda_compute_capability {{ major: {major} minor: {minor} }}
            core_count: {cores} fpus_per_core: {64 if capability == "8.0" else 128}
            threads_per_warp: 32 threads_per_block_limit: 1024
            threads_per_core_limit: {1536 if capability == "8.9" else 2048}
            block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
            shared_memory_per_core: {shared} shared_memory_per_block: 49152
            shared_memory_per_block_optin: {shared - 1024}
            registers_per_core_limit: 65536 registers_per_block_limit: 65536
            l2_cache_size: {cache} clock_rate_ghz: {clock}
            memory_bandwidth: {chip.bandwidth:.0f} device_memory_size: {chip.memory:.0f}
        }}
        platform_name: "CUDA" device_description_str: "{chip.kind}"
        dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
        runtime_version {{ major: 12 minor: 8 patch: 0 }}
    """
    try:
        described = topologies.get_topology_desc(
            topology_name=family,
            platform="cuda",
            target_config=target,
            topology=f"1x{hosts}x{devices}",
        )
    except NotImplementedError as error:  # no plugin of this platform
        raise TopologyError(
            "compiling for a GPU takes JAX's CUDA plugin (and no CUDA): "
            "pip install -r requirements-gpu-plan.txt"
        ) from error
    return list(described.devices)


def _cpu_devices(count: int) -> list[Any]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:  # in use already, with another number
        if len(jax.devices("cpu")) < count:
            raise TopologyError(
                f"cpu:{count}: JAX runs with {len(jax.devices('cpu'))} devices already"
            ) from error
    return jax.devices("cpu")[:count]

"""Compiles the real training step for devices that are not at hand, and says what it costs.

Memory is the compiler's own. Arithmetic and traffic are counted (``count``): the arithmetic of the
whole step over the devices, the traffic of one device's rows, what is sent from the compiled
program (``collectives``).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from typing import Any

import jax

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.models.attention import compiled_for
from vljepa_jax.models.placement import Accelerator
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.chips import Chip, chip_of
from vljepa_jax.parallel.sharding import check_batch_size, make_mesh
from vljepa_jax.planning.collectives import sent_between_hosts, sent_bytes
from vljepa_jax.planning.fused import fused_attentions
from vljepa_jax.training import count
from vljepa_jax.training.banner import state_bytes
from vljepa_jax.training.flops import model_flops, one_device, traced_step
from vljepa_jax.training.train_step import Trainer

_OUT_OF_MEMORY = re.compile(r"\(?([\d.]+)G\)? (?:exceeds|of) ")
# Modules between which a step's time is divided.
_MODULES = ("x_encoder", "predictor", "y_encoder", "mask_predictor", "pooler", "classifier")


class PlanError(ValueError):
    """A plan that cannot be right."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        trained: parameters with a gradient.
        frozen: parameters without.
        optimizer: and whatever else the step carries on.
        batch: this device's rows.
        temporaries: the compiler's; where it gave up, what it says that it would need at least.
        program: the compiled code.
    """

    trained: float
    frozen: float
    optimizer: float
    batch: float
    temporaries: float
    program: float

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The least time of a step.

    Attributes:
        compute: seconds at the chip's peak.
        memory: seconds more, of operations that wait for the memory.
        network: seconds of what is sent, within hosts and between them at the same time, hidden
            behind the rest as far as that lasts.
        parts: seconds of compute and memory by part of the model.
        share: of the chip's peak that the model's own arithmetic takes: forward and backward once,
            nothing recomputed.

    Raises:
        PlanError: the step would be faster than the chip.
    """

    compute: float
    memory: float
    network: float
    parts: dict[str, float]
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise PlanError(
                f"the estimate is {self.share:.2f} of the chip's peak: the count or the chip table "
                "is wrong"
            )

    @property
    def seconds(self) -> float:
        return max(self.compute + self.memory, self.network)

    @property
    def limit(self) -> str:
        """The kind of work that takes most of the time."""
        if self.network > self.compute + self.memory:
            return "network"
        return "memory" if self.memory > self.compute else "compute"


@dataclasses.dataclass(frozen=True)
class Plan:
    """One step on one topology.

    Attributes:
        mesh: devices on each axis.
        devices: all of them.
        chip: of the table; ``None`` where it is not in it.
        memory: of one device.
        fits: in the device's memory; ``None`` where that is unknown.
        flops: of a step on all devices together, as executed.
        model_flops: likewise, without what is computed again.
        bytes: of one device's traffic with its memory.
        sent: of one device to others, by kind of collective.
        sent_between_hosts: of these, what leaves the host.
        fused: the attentions that a fused kernel computes (``fused_attentions``).
        hosts: that read the data.
        checkpoint: bytes of one.
        frames: of a clip; 0 where the step sees none.
        roofline: ``None`` without a chip's rates.
        batch_size, micro_batch_size, steps: of the config.
    """

    mesh: dict[str, int]
    devices: int
    chip: Chip | None
    memory: Memory
    fits: bool | None
    flops: float
    model_flops: float
    bytes: float
    sent: dict[str, float]
    sent_between_hosts: dict[str, float]
    fused: dict[str, list[str]]
    hosts: int
    checkpoint: float
    frames: int
    roofline: Roofline | None
    batch_size: int
    micro_batch_size: int
    steps: int

    @property
    def examples_per_second(self) -> float | None:
        return self.batch_size / self.roofline.seconds if self.roofline else None

    @property
    def clips_per_host(self) -> float | None:
        """Clips that a host has to decode in a second, lest devices wait for data."""
        return self.examples_per_second / self.hosts if self.roofline and self.frames else None

    @property
    def days(self) -> float | None:
        return self.steps * self.roofline.seconds / 86400 if self.roofline else None

    @property
    def chip_hours(self) -> float | None:
        return self.days * 24 * self.devices * self.chip.chips if self.roofline else None


def plan(config: TrainConfig, devices: list[Any]) -> Plan:
    """Compiles the step of ``config`` for ``devices`` and adds everything up.

    Raises:
        ConfigError: the mesh or the batch does not suit the devices.
        PlanError: a count cannot be right.
    """
    with compiled_for(Accelerator.of(devices[0])):
        return _plan(config, devices)


def _plan(config: TrainConfig, devices: list[Any]) -> Plan:
    mesh = make_mesh(config.sharding, devices)
    check_batch_size(config.batch_size, config.micro_batch_size, mesh)
    trainer = Trainer(config, make_objective(config), mesh)
    chip = chip_of(devices[0])
    traced = trainer.trace(array_spec(config))
    temporaries, program, hlo = _compile(traced)
    state = state_bytes(trainer)
    batch = sum(
        math.prod(shape) * dtype.itemsize for shape, dtype in array_spec(config).values()
    ) / (mesh.shape["data"] * mesh.shape["fsdp"])
    memory = Memory(*state, batch, temporaries, program)
    fits = None
    if hlo is None:
        fits = False
    elif chip is not None:
        fits = memory.total <= chip.usable * chip.memory
    flops = count.total_flops(count.operations_of(traced.jaxpr))
    local = _of_one_device(config, mesh)
    asked = model_flops(config)
    hosts = [device.process_index for device in mesh.devices.flat]
    sent = sent_bytes(hlo) if hlo is not None else {}
    between = sent_between_hosts(hlo, hosts) if hlo is not None and len(set(hosts)) > 1 else {}
    roofline = None
    if chip is not None:
        network = _network_seconds(chip, sum(sent.values()), sum(between.values()))
        roofline = _roofline(chip, mesh.size, flops, asked, local, network, memory)
    video = config.data.video
    return Plan(
        mesh=dict(mesh.shape),
        devices=mesh.size,
        chip=chip,
        memory=memory,
        fits=fits,
        flops=flops,
        model_flops=asked,
        bytes=count.total_bytes(local) + _carried(memory),
        sent=sent,
        sent_between_hosts=between,
        fused=fused_attentions(hlo) if hlo is not None else {},
        hosts=len(set(hosts)),
        checkpoint=_whole_bytes(trainer.abstract_state),
        frames=0 if video is None else video.frames,
        roofline=roofline,
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        steps=config.steps,
    )


def _compile(traced: jax.stages.Traced) -> tuple[float, float, str | None]:
    """(bytes of temporaries, bytes of code, the program); no program where it does not fit."""
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = _OUT_OF_MEMORY.search(str(error))
        return (float(needed[1]) * 2**30 if needed else math.inf), 0.0, None
    analysis = compiled.memory_analysis()
    return (
        float(analysis.temp_size_in_bytes),
        float(analysis.generated_code_size_in_bytes),
        compiled.as_text(),
    )


def _whole_bytes(tree: Any) -> float:
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def _network_seconds(chip: Chip, sent: float, between: float) -> float:
    """Of what is sent, what leaves the host has links of its own, and both go on at once."""
    if chip.between_hosts is None:
        return sent / chip.network
    return max((sent - between) / chip.network, between / chip.between_hosts)


def _carried(memory: Memory) -> float:
    """Traffic of an update: parameters, gradients and moments are read, and written again."""
    gradients = memory.trained
    return 2 * (memory.trained + memory.optimizer + gradients)


def _of_one_device(config: TrainConfig, mesh: Any) -> list[count.Operation]:
    """The operations of one device's rows, traced as a step of that many rows on one device.

    Its loss compares them with each other instead of with the whole batch, which is no traffic to
    speak of.
    """
    rows, tensor = mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["tensor"]
    one = make_mesh(one_device(config).sharding, mesh.devices.flat[:1])
    return [
        dataclasses.replace(op, flops=op.flops / tensor, bytes=op.bytes / tensor)
        for op in traced_step(_of_rows(config, rows), one)
    ]


def _of_rows(config: TrainConfig, rows: int) -> TrainConfig:
    """The config of one device's share of the batch."""
    return dataclasses.replace(
        config,
        batch_size=max(2, config.batch_size // rows),
        micro_batch_size=config.micro_batch_size // rows,
    )


def _roofline(
    chip: Chip,
    devices: int,
    flops: float,
    asked: float,
    local: list[count.Operation],
    network: float,
    memory: Memory,
) -> Roofline:
    """An operation takes the longer of its arithmetic and its traffic; they follow each other."""
    compute = flops / devices / chip.flops
    parts: dict[str, float] = defaultdict(float)
    waiting = 0.0
    for op in local:
        busy, moving = op.flops / chip.flops, op.bytes / chip.bandwidth
        waiting += max(0.0, moving - busy)
        part = next((name for name in _MODULES if name in op.place), "loss, update")
        parts[part] += max(busy, moving)
    update = _carried(memory) / chip.bandwidth
    parts["loss, update"] += update
    waiting += update
    seconds = max(compute + waiting, network)
    share = asked / devices / chip.flops / seconds
    return Roofline(compute, waiting, network, dict(parts), share)

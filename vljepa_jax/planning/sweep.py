"""Looks for a mesh and a micro-batch that fit, with as few compiles as it can."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.chips import chip_of
from vljepa_jax.parallel.sharding import check_batch_size, make_mesh
from vljepa_jax.planning.plan import Plan, plan
from vljepa_jax.training.banner import state_bytes
from vljepa_jax.training.train_step import Trainer

# Of a device's memory, what a guess may fill: micro-batches need a little beside their share.
_FILLED = 0.95


def sweep(
    config: TrainConfig,
    devices: list[Any],
    planned: Callable[[TrainConfig, list[Any]], Plan] = plan,
) -> Iterator[Plan]:
    """Plans of meshes with the largest micro-batch that fits, as they are found.

    All rows at once compute least, so they are tried first; where they do not fit, the next
    micro-batch is guessed from what the compiler asked for, until one fits. Activations are the
    same on every mesh with as many rows a device, and a smaller fsdp only adds to the state: so
    each mesh starts with the micro-batch that the one before ended with.

    Within a layer only is divided (tensor) what the config says. Where it says 1, then larger ones
    are tried if without them nothing fits, as they compute no less and send more.

    Args:
        config: its data, fsdp and micro_batch_size are replaced.
        devices: of a topology.
        planned: makes one plan.

    Yields:
        Each plan, those that do not fit included. Meshes whose state alone is larger than a device
        are left out.
    """
    asked = config.sharding.tensor
    for tensor in (1, 2, 4, 8) if asked == 1 else (asked,):
        fitted, pieces = False, 1
        for fsdp in _sizes(len(devices) // tensor):
            sharding = dataclasses.replace(config.sharding, data=-1, fsdp=fsdp, tensor=tensor)
            candidate = dataclasses.replace(config, sharding=sharding, micro_batch_size=0)
            if not _possible(candidate, devices):
                continue
            while pieces:
                size = config.batch_size // pieces if pieces > 1 else 0
                tried = dataclasses.replace(candidate, micro_batch_size=size)
                found = planned(tried, devices)
                yield found
                if found.fits is not False:
                    fitted = True
                    break
                pieces = next_pieces(found)
            if not pieces:  # nor does a mesh that divides the state less
                break
        if fitted:
            return


def _sizes(devices: int) -> list[int]:
    """The sizes of fsdp that are tried, the largest first, each a quarter of the one before.

    Those between differ by little: the roofline sees the network, and the traffic of the update.
    """
    largest = devices & -devices  # power of two that divides the devices
    return [largest >> shift for shift in range(0, largest.bit_length(), 2)]


def _possible(config: TrainConfig, devices: list[Any]) -> bool:
    """Whether the mesh divides the batch, and the state fits a device."""
    chip = chip_of(devices[0])
    try:
        mesh = make_mesh(config.sharding, devices)
        check_batch_size(config.batch_size, 0, mesh)
        trainer = Trainer(config, make_objective(config), mesh)
    except ConfigError:
        return False
    return chip is None or sum(state_bytes(trainer)) < chip.usable * chip.memory


def next_pieces(found: Plan) -> int:
    """In how many micro-batches the batch ought to fit, which it does not in those of the plan.

    Temporaries are taken to be in proportion to the rows that are held at a time.

    Returns:
        At least one more than now; 0 where a single row a device is too much.
    """
    memory, limit = found.memory, _FILLED * found.chip.usable * found.chip.memory
    pieces = found.batch_size // (found.micro_batch_size or found.batch_size)
    rows = found.batch_size // (found.mesh["data"] * found.mesh["fsdp"])
    fixed = memory.total - memory.temporaries
    left = [more for more in range(pieces + 1, rows + 1) if rows % more == 0]
    if math.isinf(memory.temporaries):  # the compiler did not say what it asked for
        return left[0] if left else 0
    fitting = (more for more in left if fixed + memory.temporaries * pieces / more <= limit)
    return next(fitting, left[-1] if left else 0)  # the guess may be too high


def next_micro_batch_size(found: Plan) -> int | None:
    """The micro-batch to try where a plan does not fit; ``None`` where it does or none is left."""
    pieces = next_pieces(found) if found.fits is False else 0
    return found.batch_size // pieces if pieces else None


def advice(found: Plan) -> str | None:
    """The change that would make a plan fit; ``None`` where nothing is known to be wrong."""
    if found.fits is not False:
        return None
    memory = found.memory
    state = memory.trained + memory.frozen + memory.optimizer
    if found.mesh["data"] > 1 and state > found.chip.memory / 4:
        return (
            "parameters and moments are copied to every device: divide them with "
            "--config.sharding.data=1 --config.sharding.fsdp=-1"
        )
    if size := next_micro_batch_size(found):
        return (
            "hold the activations of fewer rows at a time, e.g. "
            f"--config.micro_batch_size={size}, which computes the forward pass once more; or take "
            "more devices. --sweep looks for the best that fits"
        )
    return "take more devices or larger ones: one row a device is too much"

"""Parameters of each part and shapes of a batch of a config, without allocating them."""

from __future__ import annotations

import dataclasses
import math

import jax
import rich.console
import rich.table
from flax import traverse_util
from jax.sharding import AbstractMesh

from vljepa_jax.config import TrainConfig
from vljepa_jax.config.rules import first_match
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import (
    AXES,
    check_batch_size,
    left_whole,
    mesh_sizes,
    state_shardings,
)
from vljepa_jax.training.banner import short_number
from vljepa_jax.training.optimizer import make_optimizer

PAPER_TOTAL = 1.6e9


@dataclasses.dataclass(frozen=True)
class Count:
    """Parameters of one part."""

    trained: int
    frozen: int

    @property
    def total(self) -> int:
        return self.trained + self.frozen


def count_parameters(config: TrainConfig) -> dict[str, Count]:
    """Name of each part -> its parameters, from shapes alone.

    Raises:
        ConfigError: the model cannot be built, or ``optimizer.rules`` do not fit its parameters.
    """
    objective = make_objective(config)
    params, _ = jax.eval_shape(objective.init, jax.random.key(0))
    frozen = make_optimizer(config.optimizer, config.steps, params).frozen
    parts = objective.parts
    counts = {part.name: Count(0, 0) for part in parts}
    for path, leaf in traverse_util.flatten_dict(params).items():
        index = first_match(parts, "/".join(path), f"parts of {config.objective}")
        assert index is not None, f"no part of the summary holds {path}"
        name, size = parts[index].name, math.prod(leaf.shape)
        old = counts[name]
        counts[name] = (
            Count(old.trained, old.frozen + size)
            if path in frozen
            else Count(old.trained + size, old.frozen)
        )
    return counts


def visual_token_count(config: TrainConfig) -> int:
    """Tokens that a clip of this config becomes; 0 where it has no video."""
    grid = config.token_grid
    return 0 if grid is None else math.prod(grid)


def print_summary(config: TrainConfig, console: rich.console.Console) -> None:
    """Prints the parameters of each part, and what a step is fed."""
    objective, counts = make_objective(config), count_parameters(config)
    table = rich.table.Table(title="Parameters")
    table.add_column("part")
    of_paper = any(part.paper for part in objective.parts)
    for name in ("all", "trained", "frozen", *(["paper"] if of_paper else [])):
        table.add_column(name, justify="right")
    for part in objective.parts:
        count = counts[part.name]
        table.add_row(
            part.name,
            *(short_number(n) for n in (count.total, count.trained, count.frozen)),
            *([part.paper] if of_paper else []),
        )
    trained = sum(count.trained for count in counts.values())
    frozen = sum(count.frozen for count in counts.values())
    table.add_section()
    totals = [short_number(n) for n in (trained + frozen, trained, frozen)]
    table.add_row("Total", *totals, *(["1.6B"] if of_paper else []))
    console.print(table)
    total = trained + frozen
    if of_paper:
        console.print(
            f"The paper's total of 1.6B is {short_number(abs(PAPER_TOTAL - total))} "
            f"{'more' if total < PAPER_TOTAL else 'less'} than these parts. It does not say what "
            "it counts; a Y-Decoder is not among these."
        )
    shapes = rich.table.Table(title="A step")
    shapes.add_column("array")
    shapes.add_column("shape")
    shapes.add_column("type")
    for name, (shape, dtype) in array_spec(config).items():
        shapes.add_row(name, " x ".join(map(str, shape)), str(dtype))
    console.print(shapes)
    console.print(_placed(config))
    seen = objective.seen(config, visual_token_count(config))
    console.print(f"{seen} of each of {config.batch_size} rows, for {config.steps} steps.")


def _placed(config: TrainConfig) -> str:
    """How the parameters lie on the mesh that the config names.

    Its devices need not be here, unless an axis is -1, "all the rest".
    """
    sizes = [getattr(config.sharding, axis) for axis in AXES]
    devices = jax.device_count() if -1 in sizes else math.prod(sizes)
    mesh = AbstractMesh(tuple(mesh_sizes(config.sharding, devices).values()), AXES)
    check_batch_size(config.batch_size, config.micro_batch_size, mesh)
    params, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    rules = config.sharding.rules
    shardings = jax.tree.leaves(state_shardings(params, params, rules, mesh))
    held = sum(
        math.prod(sharding.shard_shape(leaf.shape))
        for sharding, leaf in zip(shardings, jax.tree.leaves(params), strict=True)
    )
    product = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    held = f"Each of {devices} devices ({product}) holds {short_number(held)} parameters."
    return f"{held}\n{left_whole(params, rules, mesh)}".rstrip()

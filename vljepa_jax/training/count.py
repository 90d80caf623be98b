"""Counts the arithmetic and the memory traffic of a traced function, equation by equation.

The compiler's own count takes the body of a loop once and sees nothing of a Pallas kernel; here a
scan's body counts as often as it runs, and a kernel's as often as its grid has cells.

FLOPs are those of XLA's cost analysis: 2 m n k a matrix product, one an element of an arithmetic
operation or a reduction, none of transcendental functions and of what only moves data.

Bytes are the traffic with a device's main memory that remains when everything elementwise is
fused into its neighbours: matrix products, kernels, reductions, gathers, scatters and the like
read their inputs and write their results once. XLA may fuse less, or keep more on the chip.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


class CountError(ValueError):
    """A program whose cost cannot be told from its text; the message names the operation."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """One equation of the program.

    Attributes:
        kind: "product", "kernel", "moved" (reductions, gathers, scatters, ...) or "elementwise".
        place: the names of the modules that it belongs to, e.g. "predictor/layers/mlp".
        flops: of all its runs.
        bytes: of all its runs.
    """

    kind: str
    place: str
    flops: float
    bytes: float


def operations(function: Callable, *arguments: Any) -> list[Operation]:
    """The operations of ``function(*arguments)``; arguments may be ``ShapeDtypeStruct``.

    Raises:
        CountError: a loop whose number of turns is known only when it runs.
    """
    return operations_of(jax.make_jaxpr(function)(*arguments))


def operations_of(program: core.ClosedJaxpr) -> list[Operation]:
    """As ``operations``, of what is traced already."""
    # What no result needs is not computed: a custom gradient, for one, is traced of every input.
    needed, _ = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    return list(_walk(needed, 1.0, ""))


def total_flops(counted: list[Operation], *kinds: str) -> float:
    """FLOPs of these kinds, by default of all."""
    return sum(op.flops for op in counted if not kinds or op.kind in kinds)


def total_bytes(counted: list[Operation]) -> float:
    return sum(op.bytes for op in counted)


# One FLOP an element of the result.
_ARITHMETIC = frozenset(
    """abs add add_any and ceil clamp convert_element_type div eq floor ge gt is_finite le lt max
    min mul ne neg not or rem round select_n shift_left shift_right_arithmetic shift_right_logical
    sign square sub xor""".split()  # noqa: SIM905
)
# One FLOP an element of the input.
_REDUCTIONS = frozenset(
    """argmax argmin cumlogsumexp cummax cumprod cumsum reduce_and reduce_max reduce_min reduce_or
    reduce_prod reduce_sum""".split()  # noqa: SIM905
)
# Products of a cuDNN attention; the backward pass computes the scores again.
_CUDNN = {"dot_product_attention_fwd_wrapper": 2, "dot_product_attention_bwd_wrapper": 5}
_MOVES = frozenset({"all_gather", "concatenate", "sort", "top_k"})


def _walk(jaxpr: core.Jaxpr, times: float, outer: str) -> Iterator[Operation]:
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        place = f"{outer}/{equation.source_info.name_stack}"
        if name == "scan":
            yield from _walk(params["jaxpr"].jaxpr, times * params["length"], place)
        elif name == "while":
            raise CountError(f"{place}: how often this loop turns is not known before it runs")
        elif name == "cond":  # the branch that costs most
            branches = [list(_walk(branch.jaxpr, times, place)) for branch in params["branches"]]
            yield from max(branches, key=lambda ops: (total_flops(ops), total_bytes(ops)))
        elif name == "pallas_call":
            cells = math.prod(params["grid_mapping"].grid)
            inside = _walk(params["jaxpr"], times * cells, place)
            flops = sum(op.flops for op in inside if op.kind == "product")
            yield Operation("kernel", place, flops, times * _bytes(equation))
        elif name in _CUDNN:
            (batch, queries, heads, size), keys = (
                equation.invars[0].aval.shape,
                equation.invars[1].aval.shape[1],
            )
            flops = _CUDNN[name] * 2.0 * batch * heads * queries * keys * size
            yield Operation("kernel", place, times * flops, times * _bytes(equation))
        elif name == "shard_map":  # the body is what one device does, or all along the other axes
            devices = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
            yield from _walk(params["jaxpr"], times * devices, place)
        elif inner := _inner(params):
            yield from _walk(inner, times, place)
        else:
            yield _operation(equation, name, times, place)


def _inner(params: dict[str, Any]) -> core.Jaxpr | None:
    """The program that a call, a remat or a custom derivative runs once."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            program = params[key]
            return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
    return None


def _operation(equation: Any, name: str, times: float, place: str) -> Operation:
    result, params = equation.outvars[0].aval, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return Operation(
            "product", place, times * 2.0 * result.size * length, times * _bytes(equation)
        )
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        flops = 2.0 * result.size * kernel.size / features
        return Operation("product", place, times * flops, times * _bytes(equation))
    if name in _REDUCTIONS:
        size = equation.invars[0].aval.size
        return Operation("moved", place, times * size, times * _bytes(equation))
    if name.startswith("scatter"):  # in place: the updates are read, their places read and written
        updates = equation.invars[2].aval
        return Operation("moved", place, times * updates.size, times * 3.0 * _size(updates))
    if name == "dynamic_update_slice":
        return Operation("moved", place, 0.0, times * 2.0 * _size(equation.invars[1].aval))
    if name in ("gather", "dynamic_slice"):  # of the table, only what is looked up
        return Operation("moved", place, 0.0, times * 2.0 * _size(result))
    if name in _MOVES:
        return Operation("moved", place, 0.0, times * _bytes(equation))
    if name == "integer_pow":
        return Operation("elementwise", place, times * result.size * (abs(params["y"]) - 1), 0.0)
    flops = result.size if name in _ARITHMETIC else 0
    return Operation("elementwise", place, times * flops, 0.0)


def _bytes(equation: Any) -> float:
    """Of all that an equation reads and writes."""
    return float(sum(_size(v.aval) for v in (*equation.invars, *equation.outvars)))


def _size(aval: Any) -> int:
    return aval.size * aval.dtype.itemsize if hasattr(aval, "shape") else 0

"""The operations of a compiled program on a CPU: their kinds, and what each takes in a run."""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

_ATTENTION = re.compile(r"[/(]attend([/)]|$)")  # the scope of models/attention.py
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (?:\(.*?\)|\S+) ([a-z][a-z0-9-]*)\(")
_SHAPE = re.compile(r" = \w+\[([\d,]*)\]")
_SIDES = re.compile(r" dot\(%([\w.-]+), %([\w.-]+)\)")
_AXES = re.compile(r"(lhs|rhs)_(contracting|batch)_dims=\{([\d,]+)\}")
_COMPUTATION = re.compile(r"(?:ENTRY )?%([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply)=%([\w.-]+)")
_BODY = re.compile(r"body=%([\w.-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PLACE = re.compile(r'op_name="([^"]*)"')
_PRODUCTS = {"dot", "convolution", "custom-call"}
_MOVES = frozenset(
    """bitcast bitcast-convert broadcast concatenate constant copy dynamic-slice
    dynamic-update-slice gather iota pad parameter reshape reverse slice transpose tuple
    get-tuple-element""".split()  # noqa: SIM905
)


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product.

    Attributes:
        shapes: of both sides.
        contracted, batch: their axes, of both sides.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    contracted: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        (left, right), once = self.shapes, (*self.contracted[1], *self.batch[1])
        outer = [size for axis, size in enumerate(right) if axis not in once]
        return 2.0 * math.prod(left) * math.prod(outer)


class Program:
    """The text of a compiled program: what its operations are, and what they belong to."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}
        self._callers: dict[str, str] = {}  # computation -> the operation that runs it
        self._homes: dict[str, str] = {}  # operation -> its computation
        home = ""
        for line in text.splitlines():
            if found := _COMPUTATION.match(line):
                home = found[1]
                self._members[home] = []
            elif found := _INSTRUCTION.match(line):
                name = found[1]
                self._lines[name], self._codes[name], self._homes[name] = line, found[2], home
                self._members[home].append(name)
                called = [*_CALLED.findall(line), *_BODY.findall(line)]
                self._callers |= dict.fromkeys(called, name)

    @property
    def loops(self) -> set[str]:
        """Operations that repeat others, whose own time is that of those."""
        return {name for name, code in self._codes.items() if code == "while"}

    def turns(self, name: str) -> int:
        """How often an operation runs: the product of the turns of the loops around it.

        Raises:
            ValueError: the compiler does not know how often one of them turns.
        """
        caller = self._callers.get(self._homes[name])
        if caller is None:
            return 1
        if caller not in self.loops:
            return self.turns(caller)
        if (known := _TURNS.search(self._lines[caller])) is None:
            raise ValueError(f"{caller}: a loop of unknown length")
        return int(known[1]) * self.turns(caller)

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def place(self, name: str) -> str:
        """The modules and the JAX operation that an operation comes from."""
        found = _PLACE.search(self._lines[name])
        return found[1] if found else ""

    def products(self) -> dict[str, Product]:
        """The matrix products by name, those within fusions among them."""
        found = {}
        for name, code in self._codes.items():
            if code == "dot":
                line = self._lines[name]
                shapes = [self._shape(side) for side in _SIDES.search(line).groups()]
                axes = {(side, kind): _numbers(told) for side, kind, told in _AXES.findall(line)}
                both = (
                    tuple(axes.get((side, kind), ()) for side in ("lhs", "rhs"))
                    for kind in ("contracting", "batch")
                )
                found[name] = Product(tuple(shapes), *both)
        return found

    def _shape(self, name: str) -> tuple[int, ...]:
        return _numbers(_SHAPE.search(self._lines[name])[1])

    def codes(self, name: str) -> set[str]:
        """What an operation does: its own code, and those of all that it is fused of."""
        codes = {self._codes[name]}
        for computation in _CALLED.findall(self._lines[name]):
            for member in self._members[computation]:
                codes |= self.codes(member)
        return codes - {"fusion", "call"}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def of_attention(place: str) -> bool:
    """Whether an operation belongs to attention itself, without its projections."""
    return _ATTENTION.search(place) is not None


def kinds_of(program: Program) -> dict[str, str]:
    """The kind of each operation of a program."""
    return {name: _kind(program.place(name), program.codes(name)) for name in program}


def _kind(place: str, codes: set[str]) -> str:
    if codes <= _MOVES:
        return "copies"
    if of_attention(place):
        return "attention"
    if codes & _PRODUCTS:
        return "products"
    # What is neither forward nor backward.
    return "elementwise" if "jvp" in place or "train_step" not in place else "optimiser"


def traced(run: Callable[[], Any]) -> tuple[list[tuple[str, float]], float]:
    """The operations of one run of a program with their seconds, and those of the whole."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, profiler_options=options):
            start = time.perf_counter()
            run()
            clock = time.perf_counter() - start
        (path,) = Path(directory).glob("**/*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        events = [event for plane in planes for line in plane.lines for event in line.events]
        return [
            (stats["hlo_op"], event.duration_ns / 1e9)
            for event in events
            if not event.name.startswith("end: ") and "hlo_op" in (stats := dict(event.stats))
        ], clock

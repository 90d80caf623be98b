"""What a compiled step sends to other devices, told from its text.

The compiler puts collectives in when it divides the program, so no trace shows them.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BODY = re.compile(r"body=%?([\w.\-]+)")
_BOUND = re.compile(
    r"ROOT .* compare\((?:\S+ )?%?([\w.\-]+), (?:\S+ )?%?([\w.\-]+)\), direction=LT"
)
_DEFINED = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = .*?\)?\s([\w\-]+)\((.*)")
_INTEGER = re.compile(r"[su]32\[\]\S* constant\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_ELEMENT = re.compile(r"index=(\d+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_COLLECTIVE = re.compile(
    r"= (\(?.*?\)?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(-start)?\("
)
_CHANNEL = re.compile(r"channel_id=(\d+)")
_FUSION = re.compile(r" fusion\(")
_SHAPE = re.compile(r"\b(pred|[sufbc]+\d+\w*)\[([\d,]*)\]")
# The three ways in which XLA writes groups of devices: [groups,devices], {{0,1},{2,3}}, and the
# axes of a mesh, of which a part may be taken, with the order of its devices where it is another:
# mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a':(1)2}.
_LIST = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_SETS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_AXIS = re.compile(r"'(\w+)'=(\d+)")
_USED = re.compile(r"'(\w+)'(?::\(\d+\)(\d+))?")

_NOTHING = ("", "", "")  # what is known of a name that no line defines

Computations = dict[str, tuple[bool, list[str]]]  # name -> whether it is the entry, its lines


class CollectiveError(ValueError):
    """A collective that cannot be read; the message holds it."""


def sent_bytes(hlo: str) -> dict[str, float]:
    """Bytes that one device sends in a run of an optimised HLO module, by kind of collective.

    A ring is taken: with n devices a group, an all-gather of a result of R bytes sends
    R (n - 1) / n, a reduce-scatter as much of its operand, an all-reduce twice that, an all-to-all
    R (n - 1) / n, and a permutation R. Loops count by their number of turns. The TPU's compiler
    spreads one collective over several fusions, between other work and over a loop's turns; they
    name the same channel, and are counted as one.

    Raises:
        CollectiveError: a group, or the turns of a loop that sends, cannot be read.
    """
    lines = _computations(hlo)
    sent: dict[str, float] = defaultdict(float)
    spread: dict[tuple[str, str], float] = {}
    for name, (runs, fused) in _runs(lines).items():
        for line in lines[name][1]:
            if match := _COLLECTIVE.search(line):
                size = runs * _sent(match, line)
                channel = _CHANNEL.search(line)
                if fused and channel:
                    key = (match[2], channel[1])
                    # Begun once, whatever turns of a loop it goes on beside.
                    spread[key] = min(size, spread.get(key, size))
                else:
                    sent[match[2]] += size
    for (kind, _), size in spread.items():
        sent[kind] += size
    return {kind: size for kind, size in sent.items() if size}  # groups of one send nothing


def _runs(lines: Computations) -> dict[str, tuple[int, bool]]:
    """How often each computation that sends is run, and whether as a fusion."""

    @functools.cache
    def called(name: str) -> tuple[tuple[str, str], ...]:
        """(line, computation) of all that a computation calls."""
        found = []
        for line in lines[name][1]:
            names = _CALLED.findall(line)
            if branches := _BRANCHES.search(line):
                names += [b.strip().lstrip("%") for b in branches[1].split(",")]
            found += [(line, callee) for callee in names if callee in lines]
        return tuple(found)

    @functools.cache
    def sends(name: str) -> bool:
        return any(map(_COLLECTIVE.search, lines[name][1])) or any(
            sends(callee) for _, callee in called(name)
        )

    order: dict[str, None] = {}  # callees before their callers

    def visit(name: str) -> None:
        for _, callee in called(name):
            if callee not in order and sends(callee):
                visit(callee)
        order[name] = None

    entry = next(name for name, (is_entry, _) in lines.items() if is_entry)
    visit(entry)
    runs, fused = {entry: 1}, set()
    for name in reversed(order):
        for line, callee in called(name):
            if callee in order:
                runs[callee] = runs.get(callee, 0) + runs[name] * _turns(line, lines)
                if _FUSION.search(line):
                    fused.add(callee)
    return {name: (count, name in fused) for name, count in runs.items()}


def _turns(line: str, lines: Computations) -> int:
    """How often what a line calls is run."""
    if trips := _TRIPS.search(line):
        return int(trips[1])
    condition, body = _CONDITION.search(line), _BODY.search(line)
    if condition is None:
        return 1
    # The TPU's compiler does not say it. JAX's loops count from 0 to a constant by one, its own,
    # which send a product's operand piece by piece while they multiply, by two.
    check = _Definitions(lines[condition[1]][1])
    if bound := next(filter(None, map(_BOUND.search, lines[condition[1]][1])), None):
        counter, limit = check.element(bound[1]), check.value(bound[2])
        if counter is not None and limit is not None:
            turn = _Definitions(lines[body[1]][1])
            if step := turn.value(turn.result(counter), counter):
                return -(-limit // step)
    raise CollectiveError(f"how often a loop turns is not told: {line.strip()[:2000]}")


class _Definitions:
    """What the lines of a computation define."""

    def __init__(self, lines: list[str]):
        found = [(line, match) for line in lines if (match := _DEFINED.match(line))]
        self._lines = {match[2]: (match[3], match[4], line) for line, match in found}
        self._root = next(match[2] for _, match in found if match[1])

    def element(self, name: str) -> int | None:
        """Which element of the computation's argument a name stands for."""
        kind, _, line = self._lines.get(name, _NOTHING)
        if kind == "copy":
            return self.element(self._operands(name)[0])
        return int(_ELEMENT.search(line)[1]) if kind == "get-tuple-element" else None

    def result(self, element: int) -> str:
        """The name of an element of what the computation gives."""
        return self._operands(self._root)[element]

    def value(self, name: str, counter: int | None = None) -> int | None:
        """An integer that is made of constants, where this element of the argument is 0."""
        kind, _, line = self._lines.get(name, _NOTHING)
        if integer := _INTEGER.search(line):
            return int(integer[1])
        if kind == "get-tuple-element" and self.element(name) == counter:
            return 0
        if kind in ("add", "copy"):
            values = [self.value(operand, counter) for operand in self._operands(name)]
            return None if None in values else sum(values)
        return None

    def _operands(self, name: str) -> list[str]:
        """Their names: what has a % before the bracket that closes the list."""
        after, depth = self._lines[name][1], 1
        for place, letter in enumerate(after):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if not depth:
                return _NAME.findall(after[:place])
        raise CollectiveError(f"what '{name}' is made of is not told: {after[:2000]}")


def _computations(hlo: str) -> Computations:
    found: Computations = {}
    inside: list[str] = []
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            inside = []
            found[match[2]] = (match[1] is not None, inside)
        else:
            inside.append(line)
    return found


def _sent(match: re.Match, line: str) -> float:
    sizes = [_size(dtype, shape) for dtype, shape in _SHAPE.findall(match[1])]
    kind, started = match[2], match[3] is not None
    if not sizes:
        return 0.0
    devices = 2 if kind == "collective-permute" else _group_size(line)
    if devices == 1:
        return 0.0
    share = (devices - 1) / devices
    # A "-start" names its operands before its results, and a permutation two counters after them.
    if started and kind == "all-gather":
        result = sum(sizes[len(sizes) // 2 :])
    elif started and kind == "collective-permute":
        result = max(sizes)
    else:
        result = sum(sizes)
    if kind == "all-gather":
        return result * share
    if kind == "reduce-scatter":
        return result * (devices - 1)  # the operand is n times the result
    if kind == "all-reduce":
        return 2 * result * share
    return result * share if kind == "all-to-all" else result


def _group_size(line: str) -> int:
    """Devices that take part together."""
    if groups := _LIST.search(line):
        return int(groups[2])
    if groups := _SETS.search(line):
        return groups[1].count(",") + 1
    if groups := _MESH.search(line):
        sizes = {name: int(size) for name, size in _AXIS.findall(groups[1])}
        return math.prod(int(part or sizes[name]) for name, part in _USED.findall(groups[2]))
    raise CollectiveError(f"which devices take part is not told: {line.strip()}")


def _size(dtype: str, shape: str) -> float:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return bits / 8 * math.prod(int(n) for n in shape.split(",") if n)

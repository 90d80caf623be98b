"""The bytes that a compiled step sends to other devices, read from its text.

The compiler puts collectives in when it divides the program, so no trace shows them.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

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
_ORDER = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"  # devices counted in this shape, turned so
_LIST = re.compile(rf"replica_groups=\[(\d+),(\d+)\]<={_ORDER}")
_SETS = re.compile(r"replica_groups=\{(\{[\d,]*\}(?:,\{[\d,]*\})*)\}")
_SET = re.compile(r"\{([\d,]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,]*\}(?:,\{[\d,]*\})*)\}")
_MESH = re.compile(rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({_ORDER}\))? \{{([^}}]*)\}}")
_AXIS = re.compile(r"'(\w+)'=(\d+)")
_USED = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")

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
    return _totals(hlo, _sent)


def sent_between_hosts(hlo: str, hosts: Sequence[int]) -> dict[str, float]:
    """Of ``sent_bytes``, what leaves the host, by kind of collective.

    A ring that passes through m devices of each of several hosts crosses to the next host once; the
    data is divided over m rings, each of which crosses elsewhere, so that a device sends one m-th
    over the network and the rest to its neighbours.

    Args:
        hosts: of each device, in the order of the program's mesh.
    """
    return _totals(hlo, lambda match, line: _sent(match, line) * _outside(match, line, hosts))


def _totals(hlo: str, sent_by: Callable[[re.Match, str], float]) -> dict[str, float]:
    """Adds up what collectives send, by kind."""
    lines = _computations(hlo)
    sent: dict[str, float] = defaultdict(float)
    spread: dict[tuple[str, str], float] = {}
    for name, (runs, fused) in _runs(lines).items():
        for line in lines[name][1]:
            if match := _COLLECTIVE.search(line):
                size = runs * sent_by(match, line)
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
    """The names that the lines of a computation define."""

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
    if started and kind in ("all-gather", "reduce-scatter", "all-to-all"):
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
    return _groups(line).shape[1]


def _outside(match: re.Match, line: str, hosts: Sequence[int]) -> float:
    """The share of what a device sends that leaves its host."""
    where = np.asarray(hosts)
    if match[2] == "collective-permute":
        pairs = np.array([_integers(pair) for pair in _SET.findall(_PAIRS.search(line)[1])])
        sources, targets = where[pairs].T
        return float((sources != targets).any())  # all wait for the slowest
    groups = where[_groups(line)]
    here = (groups == groups[:, :1]).sum(axis=1).min()
    if here == groups.shape[1]:
        return 0.0
    if match[2] == "all-to-all":
        return (groups.shape[1] - here) / (groups.shape[1] - 1)
    return 1 / here


def _groups(line: str) -> np.ndarray:
    """The devices that take part together: [groups, devices of each], places in the mesh."""
    if found := _LIST.search(line):
        return _ordered(found[3], found[4]).reshape(int(found[1]), int(found[2]))
    if found := _SETS.search(line):
        return np.array([_integers(group) for group in _SET.findall(found[1])])
    if found := _MESH.search(line):
        axes = [(name, int(size)) for name, size in _AXIS.findall(found[1])]
        count = math.prod(size for _, size in axes)
        devices = _ordered(found[2], found[3]) if found[2] else np.arange(count)
        used = {
            name: (int(before or 1), int(part or 0))
            for name, before, part in _USED.findall(found[4])
        }
        # An axis of which a part is taken is three: before it, the part, and behind it.
        shape: list[int] = []
        together = []
        for name, size in axes:
            before, part = used.get(name, (size, 1))
            part = part or size
            if name in used:
                together.append(len(shape) + 1)
            shape += [before, part, size // before // part]
        apart = [axis for axis in range(len(shape)) if axis not in together]
        members = math.prod(shape[axis] for axis in together)
        return devices.reshape(shape).transpose(apart + together).reshape(-1, members)
    raise CollectiveError(f"which devices take part is not told: {line.strip()}")


def _ordered(shape: str, turned: str | None) -> np.ndarray:
    """Devices counted through an array of this shape, whose axes are then put in another order."""
    sizes = _integers(shape)
    devices = np.arange(math.prod(sizes)).reshape(sizes)
    return (devices.transpose(_integers(turned)) if turned else devices).reshape(-1)


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _size(dtype: str, shape: str) -> float:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return bits / 8 * math.prod(int(n) for n in shape.split(",") if n)

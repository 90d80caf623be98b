"""Damage: bytes as transfers, disks and other programs leave them, and JSON as people do."""

import copy
import json

import numpy as np

# Numbers and texts that readers of JSON trip over.
STRANGE = (
    *(None, True, False, 0, -1, 1.5, 1e308, -1e300, 10**400, 2**63, float("nan"), float("inf")),
    *("", " ", "\0", "\ud800", "\udce9", "\x1b[31m", "a\nb", "[red]x[/b]", "x" * 300, "../../x"),
    *("@labels/", "@world", "gs://b/x", [], {}, [[]], {"": None}, ["", ""], [1, 2], {"a": {}}),
)
_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER = 512  # bytes in which half of the damage is done: there a format says most


def damaged(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """The bytes with one to four kinds of damage; ``others`` are spliced in."""
    for _ in range(rng.integers(1, 5)):
        data = _DAMAGE[rng.integers(len(_DAMAGE))](bytearray(data), others, rng)
    return data


def _place(data: bytearray, rng: np.random.Generator) -> int:
    end = min(len(data), _HEADER) if rng.random() < 0.5 else len(data)
    return int(rng.integers(end)) if end else 0


def _span(data: bytearray, rng: np.random.Generator) -> slice:
    first = _place(data, rng)
    return slice(first, first + int(2 ** rng.uniform(0, 10)))


def _flip(data, others, rng):
    for _ in range(int(2 ** rng.uniform(0, 6))):
        if data:
            data[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _scramble(data, others, rng):
    span = _span(data, rng)
    data[span] = rng.bytes(len(data[span]))
    return bytes(data)


def _zero(data, others, rng):
    span = _span(data, rng)
    data[span] = bytes(len(data[span]))
    return bytes(data)


def _number(data, others, rng):
    """An extreme number of one, two or four bytes, either way round: sizes, counts, offsets."""
    first, size = _place(data, rng), int(rng.choice([1, 2, 4]))
    value = _EXTREME[rng.integers(len(_EXTREME))] & (256**size - 1)
    data[first : first + size] = value.to_bytes(size, "big" if rng.random() < 0.5 else "little")
    return bytes(data)


def _cut_off(data, others, rng):
    return bytes(data[: rng.integers(len(data) + 1)])


def _remove(data, others, rng):
    del data[_span(data, rng)]
    return bytes(data)


def _repeat(data, others, rng):
    span = _span(data, rng)
    return bytes(data[: span.stop] + data[span] + data[span.stop :])


def _splice(data, others, rng):
    """The end of another file of the kind, or of another kind."""
    other = others[rng.integers(len(others))]
    return bytes(data[: _place(data, rng)]) + other[_place(bytearray(other), rng) :]


_DAMAGE = (_flip, _flip, _scramble, _zero, _number, _number, _cut_off, _remove, _repeat, _splice)


def strange(document, rng: np.random.Generator):
    """A JSON document with up to three values replaced, keys renamed, or values taken out."""
    document = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        places = [*_places(document)]
        if not places:
            break
        parent, key = places[rng.integers(len(places))]
        what = rng.random()
        if what < 0.1:
            del parent[key]
        elif what < 0.2 and isinstance(parent, dict):
            parent[str(STRANGE[rng.integers(len(STRANGE))])] = parent.pop(key)
        elif what < 0.3:
            other, there = places[rng.integers(len(places))]
            parent[key] = copy.deepcopy(other.get(there) if isinstance(other, dict) else None)
        else:
            parent[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    return document


def _places(node):
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in list(children):
        yield node, key
        if isinstance(child, (dict, list)):
            yield from _places(child)


def written(document, rng: np.random.Generator) -> bytes:
    """JSON text in some encoding, rarely nested too deep."""
    text = json.dumps(document, ensure_ascii=bool(rng.random() < 0.7))
    if rng.random() < 0.03:
        text = text.replace("null", "[" * 100_000, 1).replace('""', '{"a":' * 5_000, 1)
    return encoded(text, rng)


def encoded(text: str, rng: np.random.Generator) -> bytes:
    """In UTF-8, or now and then in what other programs write."""
    if rng.random() < 0.8:
        return text.encode("utf-8", "surrogatepass")
    form = rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
    return text.encode(form, "surrogatepass" if form.startswith("utf") else "replace")

"""Examples and pairs as arrays: the same as the objects that they are made of."""

import tracemalloc

import numpy as np
import pytest

from vljepa_jax.evals.examples import ClipRef, Example
from vljepa_jax.evals.packed import Examples, Pairs, Rows

LABELS = tuple((f"label {i}", f"other {i}") for i in range(28))


def example(index, **fields):
    clip = ClipRef("d", "test", index // 3, (0,))
    query = f"What is number {index}, ☃?"
    return Example(f"e{index}", clip, query, (), LABELS, (), index % 28, "", **fields)


SORTS = [
    example(7, tags={"kind": "a", "ü": "\ud83d"}),
    Example("n", None, "", ("one", "two", "three"), (), (), None, "m"),
    Example("s", ClipRef("d", "test", 2, (0, 1)), "", (), (), tuple(
        ClipRef("d", "test", 2, (i,)) for i in (2, 3)), 1, ""),
    Example("own", ClipRef("d", "test", 3, ()), "q", ("",), (("a",), ("b",)), (), 0, ""),
    Example("own too", ClipRef("d", "test", 3, ()), "q", ("",), (("a",), ("b",)), (), None, ""),
]  # fmt: skip


def test_every_sort_of_example_comes_back_and_equal_candidates_are_one_object():
    packed = Examples.pack(iter(SORTS))
    assert list(packed) == SORTS
    assert [e.tags for e in packed] == [e.tags for e in SORTS]
    assert packed[-1] == SORTS[-1]
    assert list(packed[1:4:2]) == SORTS[1:4:2]
    assert packed[3].candidates is packed[4].candidates
    assert len(Examples.pack([])) == 0
    with pytest.raises(IndexError):
        packed[len(SORTS)]


def test_pairs_are_a_set_in_the_order_of_the_files():
    rng = np.random.default_rng(0)
    splits = ("d", "test"), ("d", "a"), ("c", "test")
    drawn = [
        (
            ClipRef(*splits[rng.integers(3)], int(rng.integers(9)), ((0,), (1,), (0, 1))[i % 3]),
            f"{rng.integers(5)} ü, and what is it that is asked about?"[: rng.integers(60)],
        )
        for i in range(400)
    ]
    pairs, expected = Pairs(drawn), set(drawn)
    assert pairs == frozenset(expected)
    assert list(pairs) == sorted(
        expected, key=lambda p: (p[0].path, p[0].split, p[0].record, p[0].media, p[1])
    )
    for row, pair in enumerate(pairs):
        assert pairs.row(pair) == row
    for clip in (
        ClipRef("d", "x", 0, (0,)),
        ClipRef("d", "test", 9, (0,)),
        ClipRef("d", "a", 0, ()),
    ):
        assert (clip, "") not in pairs
    assert (drawn[0][0], "another") not in pairs
    # Each clip once, with its own pairs beside one another.
    clips = list(dict.fromkeys(clip for clip, _ in pairs))
    assert [pairs.clip(i) for i in range(len(pairs.starts) - 1)] == clips
    listed = [
        ClipRef(*split, record, media)
        for split, keys in pairs.clips(np.arange(len(clips)))
        for record, media in keys
    ]
    assert listed == clips
    assert pairs.queries(np.arange(len(pairs))) == [query for _, query in pairs]
    assert len(Pairs([])) == 0
    assert list(Pairs([]).starts) == [0]


def test_what_was_lost_has_no_row():
    pairs = Pairs([(ClipRef("d", "test", i, (0,)), "") for i in range(3)])
    rows = Rows(pairs, np.array([False, True, False]))
    assert list(rows.values()) == [0, None, 2]
    with pytest.raises(KeyError):
        rows[ClipRef("d", "test", 3, (0,)), ""]


def test_many_examples_take_no_object_each():
    """Below 400 bytes for a question and its pair."""
    count = 4_000
    tracemalloc.start()
    packed = Examples.pack(example(i, tags={"kind": f"of {i % 7}"}) for i in range(count))
    pairs = Pairs((e.clip, e.query) for e in packed)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) == len(pairs) == count
    assert held < 400 * count

"""Exact search in blocks, against all scores at once and against faiss."""

import jax
import numpy as np
import pytest

from vljepa_jax.evals import metrics
from vljepa_jax.inference.search.exact import nearest, nearest_placed, place, rank

BLOCK = (16, 32)  # of 50 queries and 300 items: several, and none divides


def unit(rows, size=24, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def items():
    items = unit(300)
    items[[7, 150, 299]] = items[40]  # equal ones, in other blocks
    items[200] = np.nan  # unreadable
    return items


def test_the_nearest_are_those_of_all_scores(items):
    queries = np.concatenate([unit(49, seed=1), items[40:41]])
    scores = np.where(np.isnan(items).any(axis=1), -np.inf, queries @ items.T)
    found = nearest(queries, [items[:100], items[100:130], items[130:]], 9, block=BLOCK)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(found.rows[:49], order[:49])
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, 1), atol=1e-6)
    assert found.rows[49][:4].tolist() == [7, 40, 150, 299]  # of equal ones the earlier


def test_where_there_are_fewer_items_the_places_are_empty(items):
    found = nearest(items[:2], [items[198:201]], 5)
    assert set(found.rows[0, :2].tolist()) == {0, 1}
    assert found.rows[:, 2:].tolist() == [[-1] * 3] * 2
    assert np.isneginf(found.scores[:, 2:]).all()


def test_items_on_the_device_serve_several_searches(items):
    placed = list(place([items[:100], items[100:101], items[101:]], 32))
    assert [count for count, _ in placed] == [32] * 9 + [12]
    queries = unit(50, seed=1)
    for again in range(2):
        found = nearest_placed(queries, placed, 9, block=16)
        expected = nearest(queries, [items], 9, block=BLOCK)
        np.testing.assert_array_equal(found.rows, expected.rows, err_msg=str(again))


def test_only_allowed_items_apart_from_others_are_found(items):
    queries, others = unit(50, seed=1), items[[3, 40]]
    allowed = np.arange(300) % 3 != 0
    near = (items @ others.T >= 0.3).any(axis=1)
    scores = np.where(allowed & ~near & ~np.isnan(items).any(axis=1), queries @ items.T, -np.inf)
    found = nearest_placed(
        queries, place([items], 32), 9, block=16, allowed=allowed, apart=(others, 0.3)
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(found.rows, order)
    assert near.sum() > 10


def test_a_query_of_nan_finds_nothing(items):
    """A model that diverged: every wrong item is before the right one."""
    query = np.full((1, 24), np.nan, np.float32)
    found = rank(query, items[:20], [{5}], 3)
    assert found.ranks.tolist() == [19]
    assert (
        found.nearest.rows.tolist() == nearest(query, [items[:20]], 3).rows.tolist() == [[-1] * 3]
    )


def test_ranks_are_those_of_all_scores(items):
    """One correct item a query, or several, equal ones among them, and one that is unreadable."""
    queries = unit(50, seed=2)
    queries[3] = items[40]
    rng = np.random.default_rng(3)
    correct = [set(rng.integers(0, 300, size=1 + i % 3).tolist()) for i in range(50)]
    correct[3], correct[4] = {150}, {200, 5}
    scores = np.where(np.isnan(items).any(axis=1), -np.inf, queries @ items.T)
    found = rank(queries, items, correct, 5, block=BLOCK)
    assert found.ranks.tolist() == [
        metrics.rank(row, own) for row, own in zip(scores, correct, strict=True)
    ]
    assert found.ranks[3] == 3  # the three that are equal to it come first
    for row, own, best in zip(scores, correct, found.correct, strict=True):
        assert best in own
        assert row[best] == max(row[list(own)])
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found.nearest.rows[4:], expected[4:])


def test_no_more_than_a_block_of_scores_is_computed_at_once(items):
    """The largest array that the program makes, whatever the number of items."""
    from vljepa_jax.inference.search import exact

    traced = jax.make_jaxpr(exact._scores)(items[:16], items[:32], np.ones(32, bool))
    assert max(v.aval.size for e in traced.eqns for v in e.outvars) <= 16 * 32
    sizes = []
    for _, scores in exact._blocks(items, items, BLOCK):
        sizes.append(scores.shape)
    assert {rows for rows, _ in sizes} == {16}
    assert {columns for _, columns in sizes} <= {32, 16}
    assert len(sizes) == -(-300 // 16) * -(-300 // 32)


@pytest.mark.parity
def test_the_same_as_a_flat_index_of_faiss():
    faiss = pytest.importorskip("faiss")
    queries, items = unit(200, 64, 4), unit(20_000, 64, 5)
    index = faiss.IndexFlatIP(64)
    index.add(items)
    scores, rows = index.search(queries, 100)
    found = nearest(queries, np.split(items, [5_000, 17_000]), 100)
    # Scores to float32's rounding; where two are nearer than that, they may change places.
    np.testing.assert_allclose(found.scores, scores, atol=2e-6)
    differing = found.rows != rows
    gaps = np.abs(np.diff(scores, axis=1))
    near = np.pad(gaps < 2e-6, ((0, 0), (1, 0))) | np.pad(gaps < 2e-6, ((0, 0), (0, 1)))
    assert not (differing & ~near).any()
    assert differing.mean() < 0.01
    # Ranks: how many of faiss' whole order come before each query's own item.
    own = np.random.default_rng(6).integers(0, len(items), size=len(queries))
    _, order = index.search(queries, len(items))
    places = np.argmax(order == own[:, None], axis=1)
    ranks = rank(queries, items, [{int(item)} for item in own], 1).ranks
    assert np.abs(ranks - places).max() <= 1
    assert (ranks == places).mean() > 0.95

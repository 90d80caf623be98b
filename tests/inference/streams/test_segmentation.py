"""Offline segmentation against scikit-learn, and what holds for any stream."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import diags
from sklearn.cluster import AgglomerativeClustering

from vljepa_jax.inference.streams.segmentation import (
    midpoints,
    segment_embeddings,
    segment_spans,
    uniform_segments,
    ward_tree,
)


def sklearn_segments(embeddings: np.ndarray, count: int) -> np.ndarray:
    n = len(embeddings)
    chain = diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1])
    model = AgglomerativeClustering(n_clusters=count, linkage="ward", connectivity=chain)
    labels = model.fit_predict(embeddings)
    starts = np.flatnonzero(np.diff(labels)) + 1
    bounds = np.concatenate([[0], starts, [n]])
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def streams():
    """Noise, steps of different lengths, a walk; then ties: few values, repeats, and equal."""
    rng = np.random.default_rng(0)
    yield rng.normal(size=(60, 5))
    means = rng.normal(size=(12, 16)) * 3
    yield np.repeat(means, rng.integers(1, 12, 12), axis=0) + 0.3 * rng.normal(size=16)
    yield np.cumsum(rng.normal(size=(80, 3)), axis=0)
    yield rng.integers(0, 2, (50, 1)).astype(float)
    yield np.tile([[0.0, 0.0], [1.0, 0.0]], (20, 1))
    yield np.repeat(rng.integers(0, 3, (15, 2)).astype(float), 3, axis=0)
    yield np.zeros((17, 4))


@pytest.mark.parametrize("embeddings", list(streams()))
def test_one_tree_gives_scikit_learns_segments_for_every_number(embeddings):
    tree = ward_tree(embeddings)
    for count in range(1, len(embeddings) + 1):
        expected = sklearn_segments(embeddings, count)
        np.testing.assert_array_equal(tree.segments(count), expected)


def test_costs_are_those_of_scikit_learn():
    embeddings = np.random.default_rng(1).normal(size=(40, 6))
    chain = diags([np.ones(39), np.ones(39)], [-1, 1])
    model = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0, linkage="ward", connectivity=chain
    ).fit(embeddings)
    # scikit-learn gives the square root of twice the cost.
    costs = ward_tree(embeddings).costs
    np.testing.assert_allclose(np.sqrt(2 * costs), model.distances_, rtol=1e-12)


def test_the_costs_add_up_to_the_variance():
    embeddings = np.random.default_rng(2).normal(size=(30, 4))
    whole = ((embeddings - embeddings.mean(0)) ** 2).sum()
    np.testing.assert_allclose(ward_tree(embeddings).costs.sum(), whole, rtol=1e-12)


def test_a_hundred_thousand_embeddings_take_seconds_and_little_memory():
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(100_000, 64)).astype(np.float32)
    before = time.process_time()  # of this process alone: others may be at work
    tree = ward_tree(embeddings)
    assert time.process_time() - before < 30
    assert tree.ticks == 100_000
    assert len(tree.segments(1_000)) == 1_000
    few = embeddings[:10_000]
    peaks = []
    for stream in (few[:5_000], few):
        tracemalloc.start()
        ward_tree(stream)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0]  # linear


def test_one_tick_is_one_segment():
    np.testing.assert_array_equal(ward_tree(np.ones((1, 3))).segments(1), [[0, 1]])


@pytest.mark.parametrize("ticks", [1, 7, 12])
def test_uniform_segments_are_as_equal_as_ticks_allow(ticks):
    for count in range(1, ticks + 1):
        segments = uniform_segments(ticks, count)
        lengths = segments[:, 1] - segments[:, 0]
        assert segments[0, 0] == 0
        assert segments[-1, 1] == ticks
        assert all(one[1] == two[0] for one, two in itertools.pairwise(segments))
        assert lengths.max() - lengths.min() <= 1


def test_midpoints_and_embeddings_of_segments_by_hand():
    embeddings = np.array([[1, 0], [0, 1], [0, 1], [-1, 0], [0, -1]], np.float32)
    segments = np.array([[0, 2], [2, 5]])
    np.testing.assert_array_equal(midpoints(segments), [0, 3])
    exact = segment_embeddings(embeddings, segments, averaged=False)
    np.testing.assert_array_equal(exact, [[1, 0], [-1, 0]])
    averaged = segment_embeddings(embeddings, segments, averaged=True)
    np.testing.assert_allclose(averaged, [[0.5**0.5, 0.5**0.5], [-1, 0]], atol=1e-7)


@pytest.mark.parametrize("count", [0, 6])
def test_a_number_of_segments_that_cannot_be_is_an_error(count):
    with pytest.raises(ValueError, match=f"{count} segments of 5 ticks"):
        ward_tree(np.zeros((5, 2))).segments(count)
    with pytest.raises(ValueError, match=f"{count} segments of 5 ticks"):
        uniform_segments(5, count)


def test_what_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        ward_tree(np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match=r"\[n, e\] with n > 0"):
        ward_tree(np.zeros((0, 2)))


def test_spans_of_segments_by_hand():
    """Windows of 1 s, twice a second: a tick tells of half a second, a clip has one at least."""
    times = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
    spans = segment_spans(times, np.array([[0, 1], [1, 3], [3, 5], [0, 5]]), tick=0.5, shortest=1.0)
    np.testing.assert_allclose(spans, [[0.0, 1.0], [0.75, 1.75], [1.75, 2.75], [0.25, 2.75]])

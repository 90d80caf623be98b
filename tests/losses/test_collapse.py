import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax import losses


def unit_rows(rng, rows, size):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_embedding_metrics_tell_spread_from_collapse():
    rng = np.random.default_rng(2)
    spread = jnp.float32(unit_rows(rng, 256, 16))
    collapsed = jnp.tile(spread[:1], (256, 1))
    line = jnp.where(jnp.arange(256)[:, None] % 2 == 0, spread[:1], -spread[:1])
    good = losses.embedding_metrics(spread, spread)
    bad = losses.embedding_metrics(collapsed, collapsed)
    assert good["alignment"] == 0.0
    assert bad["uniformity/target"] == pytest.approx(0.0, abs=1e-5)
    assert good["uniformity/target"] < -3.0
    assert 14.0 < good["rank/prediction"] <= 16.0
    assert bad["rank/prediction"] == pytest.approx(1.0, rel=1e-4)
    assert losses.embedding_metrics(line, -line)["rank/prediction"] == pytest.approx(1.0, rel=1e-4)
    assert losses.embedding_metrics(line, -line)["alignment"] == pytest.approx(4.0, rel=1e-5)


def test_uniformity_by_hand():
    # Squared distances 2 (twice) and 4 (once) between e1, e2, -e1.
    vectors = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = np.log((2 * np.exp(-4.0) + np.exp(-8.0)) / 3)
    metrics = losses.embedding_metrics(vectors, vectors)
    assert metrics["uniformity/prediction"] == pytest.approx(expected, rel=1e-5)


def test_similarities_of_different_targets_are_counted():
    """Cosines of e1, e2, -e1 and (0.28, 0.96): 0, -1, 0.28, 0, 0.96, -0.28, each pair once."""
    target = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.28, 0.96]])
    histogram = losses.embedding_metrics(target, target)["similarity/target"]
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    expected, _ = np.histogram([0, -1, 0.28, 0, 0.96, -0.28], bins=edges)
    np.testing.assert_array_equal(histogram.counts, expected)
    same = jnp.tile(target[3:], (8, 1))
    collapsed = losses.embedding_metrics(same, same)["similarity/target"]
    assert collapsed.counts[-1] == collapsed.counts.sum() == 28

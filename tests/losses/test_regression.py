import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vljepa_jax import losses
from vljepa_jax.losses.regression import epps_pulley


def unit_rows(rng, rows, size):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    target = unit_rows(rng, 40, 6)
    predicted = target + 0.3 * rng.normal(size=target.shape)
    return predicted / np.linalg.norm(predicted, axis=1, keepdims=True), target


def test_distances_by_hand():
    """Two pairs: equal, and e1 against (0.6, 0.8)."""
    predicted = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    target = jnp.array([[0.0, 1.0], [0.6, 0.8]])
    assert_allclose(losses.cosine(predicted, target), (0 + 0.4) / 2, rtol=1e-6)
    assert_allclose(losses.l1(predicted, target), (0 + 0.4 + 0.8) / 2, rtol=1e-6)
    assert_allclose(losses.l2(predicted, target), (0 + 0.16 + 0.64) / 2, rtol=1e-6)


def test_vic_reg_by_hand():
    """Times sqrt(2): predictions (a, 0) and (0, a), targets both (a, 0), a^2 = 2."""
    predicted = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    target = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    loss, parts = losses.vic_reg(predicted, target, (1.0, 10.0, 100.0))
    # The second pair differs by a in both features.
    assert_allclose(parts["loss/invariance"], (2 + 2) / 4, rtol=1e-6)
    # Predictions have covariances [[1, -1], [-1, 1]], above the hinge; targets have none at all.
    assert_allclose(parts["loss/variance"], 0.0 / 2 + (1 - 0.01) / 2, rtol=1e-5)
    assert_allclose(parts["loss/covariance"], (1 + 1) / 2 + 0, rtol=1e-6)
    assert_allclose(loss, 1.0 + 4.95 + 100.0, rtol=1e-5)


def reference_vic_reg(predicted, target, weights):
    """As facebookresearch/vicreg's main_vicreg.py, in float64."""
    x, y = predicted * np.sqrt(6), target * np.sqrt(6)
    invariance = np.mean((x - y) ** 2)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    deviations = [np.sqrt(np.var(side, axis=0, ddof=1) + 1e-4) for side in (x, y)]
    variance = sum(np.mean(np.maximum(0, 1 - deviation)) / 2 for deviation in deviations)
    covariance = 0.0
    for side in (x, y):
        matrix = np.cov(side.T)
        covariance += np.sum(matrix[~np.eye(6, dtype=bool)] ** 2) / 6
    return np.dot(weights, [invariance, variance, covariance])


def test_vic_reg_is_upstreams(pair):
    weights = (25.0, 25.0, 1.0)
    loss, _ = losses.vic_reg(*map(jnp.float32, pair), weights)
    assert_allclose(loss, reference_vic_reg(*pair, weights), rtol=1e-5)


def reference_epps_pulley(samples):
    """As rbalestr-lab/lejepa's paper, algorithm 1, in float64 and complex numbers."""
    t = np.linspace(-5, 5, 17)
    normal = np.exp(-0.5 * t**2)
    empirical = np.exp(1j * samples[:, :, None] * t).mean(axis=0)
    error = np.abs(empirical - normal) ** 2 * normal
    return np.trapezoid(error, t, axis=-1) * len(samples)


def test_epps_pulley_is_upstreams():
    samples = np.random.default_rng(1).normal(size=(50, 4)) * [1.0, 0.2, 3.0, 1.0] + [0, 0, 0, 2]
    found = epps_pulley(jnp.float32(samples))
    assert_allclose(found, reference_epps_pulley(samples), rtol=1e-5)
    assert found[0] < 1 < min(found[1:])  # which of them are N(0, 1)


def test_sig_reg_is_the_weighted_sum(pair):
    directions = np.asarray(losses.draw_directions(jax.random.key(0), 6, 10), np.float64)
    loss, parts = losses.sig_reg(*map(jnp.float32, pair), 0.2, jnp.float32(directions))
    scaled = [side * np.sqrt(6) for side in pair]
    normality = np.mean([reference_epps_pulley(side @ directions) for side in scaled])
    invariance = np.mean((scaled[0] - scaled[1]) ** 2)
    assert_allclose(parts["loss/normality"], normality, rtol=1e-5)
    assert_allclose(loss, 0.8 * invariance + 0.2 * normality, rtol=1e-5)


def test_directions_are_unit_vectors_of_every_orientation():
    directions = losses.draw_directions(jax.random.key(0), 8, 4000)
    assert_allclose(jnp.linalg.norm(directions, axis=0), 1.0, rtol=1e-5)
    assert_allclose(directions @ directions.T / 4000, np.eye(8) / 8, atol=0.01)


@pytest.mark.parametrize("name", ["vic_reg", "sig_reg"])
def test_regularised_losses_push_a_collapse_apart(name):
    """Equal pairs, nearly all the same: the distances are content, these two are not."""
    rng = np.random.default_rng(2)
    near = np.ones((64, 8)) + 0.05 * rng.normal(size=(64, 8))
    spread = unit_rows(rng, 64, 8)
    collapsed = near / np.linalg.norm(near, axis=1, keepdims=True)

    def loss(embeddings):
        embeddings = jnp.float32(embeddings)
        if name == "vic_reg":
            return losses.vic_reg(embeddings, embeddings, (25.0, 25.0, 1.0))[0]
        directions = losses.draw_directions(jax.random.key(1), 8, 64)
        return losses.sig_reg(embeddings, embeddings, 0.05, directions)[0]

    assert loss(collapsed) > 2 * loss(spread)
    assert np.abs(jax.grad(loss)(jnp.float32(collapsed))).max() > 1e-3

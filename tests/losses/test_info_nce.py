import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax import losses


def unit_rows(rng, rows, size):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference_info_nce(predicted, target, scale, ids=None):
    """Row by row, in float64, straight from the definition."""
    rows = len(predicted)
    total = 0.0
    for i in range(rows):
        negatives = [j for j in range(rows) if j != i and (ids is None or ids[j] != ids[i])]
        positive = scale * predicted[i] @ target[i]
        to_target = [scale * predicted[i] @ target[j] for j in negatives]
        to_prediction = [scale * predicted[j] @ target[i] for j in negatives]
        for others in (to_target, to_prediction):
            total += np.log(np.sum(np.exp([positive, *others]))) - positive
    return total / (2 * rows)


def test_two_rows_by_hand():
    predicted = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    target = jnp.array([[1.0, 0.0], [0.6, 0.8]])
    # Logits at scale 2: [[2, 1.2], [0, 1.6]].
    to_target = (np.log(1 + np.exp(-0.8)) + np.log(1 + np.exp(-1.6))) / 2
    to_prediction = (np.log(1 + np.exp(-2.0)) + np.log(1 + np.exp(-0.4))) / 2
    loss, metrics = losses.info_nce(predicted, target, jnp.float32(2.0))
    assert loss == pytest.approx((to_target + to_prediction) / 2, rel=1e-6)
    assert metrics["accuracy/to_target"] == 1.0
    assert metrics["accuracy/to_prediction"] == 1.0
    assert metrics["temperature"] == 0.5
    assert metrics["log_batch_size"] == pytest.approx(np.log(2))


def test_accuracy_of_each_direction_by_hand():
    # Logits [[1, 0.8], [0.6, 0]], then [[1, -0.6], [0.6, 0]].
    predicted = jnp.array([[1.0, 0.0], [0.6, -0.8]])
    target = jnp.array([[1.0, 0.0], [0.8, 0.6]])
    _, metrics = losses.info_nce(predicted, target, jnp.float32(1.0))
    assert (metrics["accuracy/to_target"], metrics["accuracy/to_prediction"]) == (0.5, 0.5)
    target = jnp.array([[1.0, 0.0], [-0.6, -0.45]])
    _, metrics = losses.info_nce(predicted, target, jnp.float32(1.0))
    assert (metrics["accuracy/to_target"], metrics["accuracy/to_prediction"]) == (0.5, 1.0)


def test_equal_embeddings_give_ln_batch():
    same = jnp.tile(jnp.array([[0.6, 0.8]]), (16, 1))
    loss, _ = losses.info_nce(same, same, jnp.float32(10.0))
    assert loss == pytest.approx(np.log(16), rel=1e-6)


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 0, 4, 1, 0]])
def test_loss_and_gradients_match_reference(ids):
    rng = np.random.default_rng(0)
    predicted, target, scale = unit_rows(rng, 7, 5), unit_rows(rng, 7, 5), 8.0

    def loss(predicted, target, scale):
        target_id = None if ids is None else jnp.array(ids)
        return losses.info_nce(predicted, target, scale, target_id)[0]

    arguments = (jnp.float32(predicted), jnp.float32(target), jnp.float32(scale))
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(*arguments)
    assert value == pytest.approx(reference_info_nce(predicted, target, scale, ids), rel=1e-6)

    # Central differences of the float64 reference along random directions.
    for argument, gradient in enumerate(gradients):
        direction = rng.normal(size=np.shape(gradient))
        step = 1e-6

        def shifted(sign, argument=argument, direction=direction, step=step):
            moved = [predicted, target, scale]
            moved[argument] = moved[argument] + sign * step * direction
            return reference_info_nce(*moved, ids)

        expected = (shifted(1) - shifted(-1)) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_equal_targets_are_no_negatives():
    rng = np.random.default_rng(1)
    predicted, target = jnp.float32(unit_rows(rng, 4, 6)), jnp.float32(unit_rows(rng, 4, 6))
    scale = jnp.float32(5.0)
    ids = jnp.array([3, 3, 1, 2])
    plain, _ = losses.info_nce(predicted, target, scale)
    masked, _ = losses.info_nce(predicted, target, scale, ids)
    distinct, _ = losses.info_nce(predicted, target, scale, jnp.arange(4))
    assert masked < plain
    assert distinct == plain

    # With all targets equal there is nothing to tell apart.
    loss, _ = losses.info_nce(predicted, target, scale, jnp.zeros(4, jnp.int32))
    assert loss == 0.0


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


def test_cross_entropy_by_hand():
    """Two clips of two questions: sets {0, 1} and {2, 3, 4}; the last question does not count."""
    no = -np.inf
    logits = jnp.array(
        [
            [[0.0, np.log(3.0), no, no, no], [no, no, 1.0, 1.0, 1.0]],
            [[np.log(3.0), 0.0, no, no, no], [9.0, 0.0, no, no, no]],
        ]
    )
    label = jnp.array([[1, 3], [1, 1]])
    group = jnp.array([[0, 1], [0, 0]])
    mask = jnp.array([[True, True], [True, False]])

    def loss_of(logits):
        return losses.cross_entropy(logits, label, mask, group, ["two", "three", "none"])

    (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(logits)
    expected = (np.log(4 / 3) + np.log(3.0) + np.log(4.0)) / 3
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy/two"], 1 / 2)
    np.testing.assert_allclose(metrics["accuracy/three"], 0.0)  # ties go to the first label
    np.testing.assert_allclose(metrics["accuracy"], 1 / 3, rtol=1e-6)
    assert np.isnan(metrics["accuracy/none"])
    np.testing.assert_allclose(gradient[0, 0], [1 / 12, -1 / 12, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(gradient[0, 1], [0, 0, 1 / 9, -2 / 9, 1 / 9], atol=1e-6)
    np.testing.assert_array_equal(gradient[1, 1], 0)

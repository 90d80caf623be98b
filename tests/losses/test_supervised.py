import jax
import jax.numpy as jnp
import numpy as np

from vljepa_jax import losses


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

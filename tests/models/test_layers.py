import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from vljepa_jax.models import layers


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 101).astype(np.float32)
    exact = x * 0.5 * (1 + scipy.special.erf(x / np.sqrt(2)))
    np.testing.assert_allclose(layers.gelu(x), exact, atol=1e-6)


@pytest.mark.parametrize("zero_centred", [False, True])
def test_rms_norm(zero_centred):
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    norm = layers.RMSNorm(1e-6, jnp.float32, zero_centred)
    scale = np.arange(5, dtype=np.float32)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * (scale + zero_centred)
    found = norm.apply({"params": {"scale": scale}}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    start = norm.init_with_output(jax.random.key(0), x)[0]
    np.testing.assert_allclose((start**2).mean(-1), 1.0, rtol=1e-4)  # leaves the scale alone


def test_layer_norm_survives_a_large_mean():
    x = (1e4 + np.arange(8, dtype=np.float32))[None]
    found = layers.layer_norm(1e-6, jnp.float32).init_with_output(jax.random.key(0), x)[0]
    np.testing.assert_allclose(found[0], (np.arange(8) - 3.5) / np.std(np.arange(8)), rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logits_of_a_token_table_equal_flax(dtype):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    table = layers.TokenTable(7, 5, dtype=dtype)
    params = table.init(jax.random.key(0), np.zeros((1, 1), np.int32))
    expected = nn.Embed(7, 5, dtype=dtype).apply(params, x, method="attend")
    found = table.apply(params, x, method="attend")
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=1e-6)


def test_masked_mean():
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_array_equal(layers.masked_mean(x, mask), [[1.0, 2.0], [0.0, 0.0]])


def test_l2_normalise_of_zero_has_finite_value_and_gradient():
    gradient = jax.grad(lambda x: layers.l2_normalise(x).sum())(jnp.zeros(3))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(layers.l2_normalise(jnp.zeros(3)), 0.0)


@pytest.mark.parametrize("pairing", ["half", "adjacent"])
def test_rotation_keeps_lengths_and_shows_relative_positions_alone(pairing):
    frequencies = layers.rotary_frequencies(100.0, 6)
    rotary = layers.text_rotary(9, frequencies)
    if pairing == "adjacent":
        angles = np.repeat(np.arange(9)[:, None] * frequencies, 2, axis=-1)
        rotary = layers.Rotary(np.cos(angles), np.sin(angles), "adjacent")
    one, other = np.random.default_rng(0).standard_normal((2, 1, 1, 1, 6)).astype(np.float32)
    queries, keys = (
        layers.rotate(jnp.tile(v, (1, 9, 1, 1)), rotary)[0, :, 0] for v in (one, other)
    )
    np.testing.assert_allclose(np.linalg.norm(queries, axis=-1), np.linalg.norm(one), rtol=1e-5)
    scores = np.asarray(queries @ keys.T)
    for offset in range(-4, 5):
        np.testing.assert_allclose(np.ptp(np.diagonal(scores, offset)), 0.0, atol=1e-5)
    assert np.ptp(scores[0]) > 0.1


class _Layer(nn.Module):
    @nn.compact
    def __call__(self, x, shift):
        x = jnp.tanh(nn.Dense(4, name="linear")(x) + shift)
        self.sow("intermediates", "hidden", x)
        return x, None


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_stack_equals_a_loop_in_values_and_gradients(remat, unroll):
    stack = layers.scan_layers(_Layer, 3, remat, unroll, (nn.broadcast,))()
    x = jnp.arange(8.0).reshape(2, 4)
    params = stack.init(jax.random.key(0), x, 0.1)["params"]
    assert params["linear"]["kernel"].shape == (3, 4, 4)
    assert not np.allclose(params["linear"]["kernel"][0], params["linear"]["kernel"][1])

    def loop(params):
        y = x
        for i in range(3):
            layer = jax.tree.map(lambda leaf, i=i: leaf[i], params)
            y, _ = _Layer().apply({"params": layer}, y, 0.1)
        return (y**2).sum()

    def scanned(params):
        return (stack.apply({"params": params}, x, 0.1)[0] ** 2).sum()

    for ours, theirs in zip(
        jax.tree.leaves(jax.value_and_grad(scanned)(params)),
        jax.tree.leaves(jax.value_and_grad(loop)(params)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    state = stack.apply({"params": params}, x, 0.1, mutable=["intermediates"])[1]
    assert state["intermediates"]["hidden"][0].shape == (3, 2, 4)


@pytest.mark.parametrize("shape", [(64, 64), (64, 48), (48, 64)])
def test_a_projection_starts_at_the_scale_asked_for(shape):
    """And as the identity where the sizes agree."""
    x = np.random.default_rng(0).standard_normal((2000, shape[0])).astype(np.float32)
    kernel = layers.projection_init(0.1)(jax.random.key(0), shape)
    assert kernel.shape == shape
    assert float(jnp.std(x @ kernel)) == pytest.approx(0.1, rel=0.1)
    if shape[0] == shape[1]:
        np.testing.assert_allclose(x @ kernel, 0.1 * x, rtol=1e-5)

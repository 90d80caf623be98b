import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax.models import layers, products
from vljepa_jax.models.placement import Accelerator, stated


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_dense_equals_flax_in_values_and_gradients(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    theirs, ours = nn.Dense(6), products.Dense(6)
    params = theirs.init(jax.random.key(0), x)

    def total(dense):
        return lambda params, x: jnp.sum(jnp.sin(dense.apply(params, x)))

    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=1e-6)
    found, expected = (jax.grad(total(dense), (0, 1))(params, x) for dense in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


# Of each way: what is transposed behind a barrier, [n in], [n out] or [out in].
@pytest.mark.parametrize(
    ("inputs", "outputs", "dtype", "transposed"),
    [
        (48, 16, "float32", ["16,48"]),  # tall
        (16, 48, "float32", []),
        (16, 512, "float32", ["16,120"]),  # rows of 2 KiB
        (520, 512, "float32", ["512,120", "512,520"]),  # the narrower side is copied
        (16, 512, "bfloat16", []),
        (16, 1024, "bfloat16", ["16,120"]),
    ],
)
def test_on_cpu_a_kernels_gradient_is_computed_as_suits_its_sizes(
    inputs, outputs, dtype, transposed
):
    rng = np.random.default_rng(0)
    x, by = (rng.standard_normal((3, 40, n)).astype(dtype) for n in (inputs, outputs))
    dense = products.Dense(outputs, use_bias=False, dtype=dtype, param_dtype=dtype)
    params = dense.init(jax.random.key(0), x)

    def total(params, x):
        return jnp.sum(dense.apply(params, x) * by)

    of_kernel, of_x = jax.jit(jax.grad(total, (0, 1)))(params, x)
    x, by, kernel = (np.asarray(a, np.float64) for a in (x, by, params["params"]["kernel"]))
    expected = np.einsum("bti,bto->io", x, by), np.einsum("bto,io->bti", by, kernel)
    for found, right in zip((of_kernel["params"]["kernel"], of_x), expected, strict=True):
        error = np.abs(np.asarray(found, np.float64) - right).max() / np.abs(right).max()
        # Sums of up to 520 roundings, in an order that the processor's library chooses.
        assert error < {"float32": 5e-6, "bfloat16": 2e-2}[dtype]
    program = str(jax.make_jaxpr(jax.grad(total))(params, x.astype(dtype)))
    assert re.findall(r"\[([\d,]+)\] = optimization_barrier", program) == transposed


@pytest.mark.parametrize(("device", "axes"), [("cpu", 1), ("tpu", 2)])
def test_on_cpu_a_kernels_gradient_sums_over_one_axis_of_rows(device, axes):
    x = jnp.ones((3, 4, 5))
    for model in (products.Dense(6, use_bias=False), _Logits(7, 5)):
        params = model.init(jax.random.key(0), x)
        with stated(Accelerator(device)):
            total = jax.grad(lambda params, m=model: m.apply(params, x).sum())
            program = jax.make_jaxpr(total)(params)
        contracted = [
            len(equation.params["dimension_numbers"][0][0])
            for equation in program.eqns
            if equation.primitive.name == "dot_general"
        ]
        assert max(contracted) == axes


class _Logits(layers.TokenTable):
    def __call__(self, x):
        return self.attend(x)

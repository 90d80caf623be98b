import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from vljepa_jax.models import cudnn_attention
from vljepa_jax.models.attention_kernels import Masks
from vljepa_jax.models.placement import Accelerator
from vljepa_jax.training import count


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def totals(function, *arguments):
    counted = count.operations(function, *arguments)
    return count.total_flops(counted), count.total_bytes(counted)


def test_a_product():
    flops, moved = totals(jnp.matmul, shape(3, 5), shape(5, 7))
    assert flops == 2 * 3 * 5 * 7
    assert moved == 4 * (3 * 5 + 5 * 7 + 3 * 7)


def test_half_precision_halves_the_bytes():
    half = [shape(3, 5, dtype=jnp.bfloat16), shape(5, 7, dtype=jnp.bfloat16)]
    assert totals(jnp.matmul, *half)[1] == 2 * (3 * 5 + 5 * 7 + 3 * 7)


def test_a_scan_counts_as_often_as_it_runs():
    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0]

    flops, moved = totals(layers, shape(4, 8), shape(6, 8, 8))
    assert flops == 6 * 2 * 4 * 8 * 8
    assert moved == 6 * 4 * (4 * 8 + 8 * 8 + 4 * 8)


def test_scans_in_scans_multiply():
    def inner(x, _):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=3)[0], None

    flops, _ = totals(lambda x: jax.lax.scan(inner, x, None, length=5)[0], shape(4, 4))
    assert flops == 15 * 2 * 4**3


@pytest.mark.parametrize("axes", [{"rows"}, {"rows", "features"}])
def test_a_devices_part_counts_as_often_as_there_are_parts(axes):
    """Rows divided by 4; over "features" the product is repeated, or the compiler's to divide."""
    mesh = AbstractMesh((4, 2), ("rows", "features"), axis_types=(AxisType.Auto,) * 2)
    rows, whole = PartitionSpec("rows"), PartitionSpec()
    function = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(rows, whole), out_specs=rows, axis_names=axes
    )
    flops, _ = totals(function, shape(8, 5), shape(5, 7))
    assert flops == 2 * 8 * 5 * 7 * (2 if "features" in axes else 1)


def test_a_gradient_is_two_more_products_and_remat_one_again():
    def loss(weights, x):
        return jnp.sum(jax.nn.relu(x @ weights) @ weights)

    x, weights = shape(16, 32), shape(32, 32)
    product = 2 * 16 * 32 * 32
    remat = jax.checkpoint(loss, policy=jax.checkpoint_policies.nothing_saveable)
    once = count.operations(jax.value_and_grad(loss), weights, x)
    again = count.operations(jax.value_and_grad(remat), weights, x)
    # Forward 2, backward 3: no gradient of x. Again is only what the backward pass needs: x @ w.
    assert count.total_flops(once, "product") == 5 * product
    assert count.total_flops(again, "product") == 6 * product


def test_what_no_result_needs_does_not_count():
    """A custom gradient is traced of every input; and a sum's gradient does not need its value."""

    @jax.custom_vjp
    def multiply(x, weights):
        return x @ weights

    def forward(x, weights):
        return x @ weights, (x, weights)

    multiply.defvjp(forward, lambda saved, cot: (cot @ saved[1].T, saved[0].T @ cot))
    x, weights = shape(16, 32), shape(32, 32)
    counted = count.operations(jax.grad(lambda w, x: jnp.sum(multiply(x, w))), weights, x)
    assert count.total_flops(counted, "product") == 2 * 16 * 32 * 32


def test_the_dearer_branch_counts():
    def either(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x, x)

    counted = count.operations(either, shape(dtype=jnp.bool_), shape(4, 4))
    assert count.total_flops(counted, "product") == 2 * 2 * 4**3


def test_a_kernel_counts_as_often_as_its_grid_has_cells():
    def multiply(a, b, out):
        out[...] = a[...] @ b[...]

    def blocked(a, b):
        return pl.pallas_call(
            multiply,
            grid=(4, 2),
            in_specs=[
                pl.BlockSpec((8, 16), lambda i, j: (i, 0)),
                pl.BlockSpec((16, 8), lambda i, j: (0, j)),
            ],
            out_specs=pl.BlockSpec((8, 8), lambda i, j: (i, j)),
            out_shape=shape(32, 16),
        )(a, b)

    counted = count.operations(blocked, shape(32, 16), shape(16, 16))
    assert count.total_flops(counted, "kernel") == 2 * 32 * 16 * 16
    assert count.total_bytes(counted) == 4 * (32 * 16 + 16 * 16 + 32 * 16)


def test_cudnns_attention_counts_two_products_and_five_backward():
    device = Accelerator("cuda", (9, 0))

    def loss(query, key):
        return cudnn_attention.attend(query, key, key, 1.0, Masks(None), device).sum()

    query, key = (shape(3, length, 4, 8, dtype=jnp.bfloat16) for length in (6, 10))
    with cudnn_attention.told(device):
        counted = count.operations(jax.grad(loss), query, key)
    assert count.total_flops(counted, "kernel") == (2 + 5) * 2 * 3 * 4 * 6 * 10 * 8


def test_a_look_up_reads_what_it_takes():
    _, moved = totals(lambda table, ids: table[ids], shape(1000, 8), shape(5, dtype=jnp.int32))
    assert moved == 2 * 5 * 8 * 4


def test_an_unknown_number_of_turns_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(count.CountError, match="not known before"):
        count.operations(loop, shape(4, 4))


def test_products_and_what_they_move_are_the_compilers():
    """Of products alone, which nothing is fused into, the compiler counts the same bytes."""

    def stack(x, weights):
        for w in weights:
            x = x @ w
        return x

    inputs = shape(64, 128), [shape(128, 128)] * 4
    cost = jax.jit(stack).lower(*inputs).compile().cost_analysis()
    flops, moved = totals(stack, *inputs)
    assert flops == pytest.approx(cost["flops"], rel=0.02)
    assert moved == pytest.approx(cost["bytes accessed"], rel=0.02)

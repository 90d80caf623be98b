"""What the benchmarks of time and memory compute from what they measure."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import growth
import xla_operations

from vljepa_jax.models.attention import attention
from vljepa_jax.training import count


def test_an_exponent_is_the_slope_of_the_logarithms():
    sizes = (10, 20, 40, 80)
    assert growth.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert growth.exponent(sizes, [7.0] * 4) == pytest.approx(0.0, abs=1e-9)


def test_search_and_segmentation_are_measured_and_drawn(tmp_path):
    series = {axis: growth.grown(axis, (40, 80, 160), 1) for axis in ("search", "stream")}
    assert series["search"]["exponent_of_operations"] == 1
    assert 1 < series["stream"]["exponent_of_operations"] < 1.4  # n log n
    for found in series.values():
        assert len(found["seconds"]) == len(found["mebibytes"]) == 3
        assert min(found["mebibytes"]) > 0
    growth.draw(series, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1_000


def test_a_step_grows_along_one_axis():
    from speed_features import small

    base = growth._sized(small(), "batch", 16)
    assert base.batch_size == 16
    assert growth._sized(small(), "frames", 32).data.video.frames == 32
    assert growth._sized(small(), "text", 64).data.text.target_length == 64
    layers = growth._sized(small(), "layers", 5).model
    assert {layers.x_encoder.num_layers, layers.y_encoder.num_layers} == {5}
    assert layers.predictor.num_layers == 5


def test_operations_of_a_program_have_their_kinds():
    def loss(params, x):
        x = jnp.tanh(x @ params["kernel"])[:, :, None]
        return jnp.sum(jnp.sin(attention(x, x, x, scale=0.5)))

    def train_step(params, x):
        gradients = jax.grad(loss)(params, x)
        return jax.tree.map(lambda p, g: jnp.cos(p) - g, params, gradients)

    params = {"kernel": jnp.ones((16, 16))}
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 16)), jnp.float32)
    compiled = jax.jit(train_step).lower(params, x).compile()
    program = xla_operations.Program(compiled.as_text())
    kinds = xla_operations.kinds_of(program)
    in_entry, clock = xla_operations.traced(lambda: jax.block_until_ready(compiled(params, x)))
    assert {kinds[name] for name, _ in in_entry} >= {"products", "attention"}
    assert 0 < sum(seconds for _, seconds in in_entry) < 4 * clock  # of several threads
    flops = sum(product.flops for product in program.products().values())
    assert flops == count.total_flops(count.operations(train_step, params, x), "product")
    of_codes = {code: kind for name, kind in kinds.items() for code in program.codes(name)}
    assert of_codes["cosine"] == "optimiser"
    assert of_codes["tanh"] in ("elementwise", "products")
    assert xla_operations._kind("jit(train_step)/jvp(x)/transpose", {"transpose", "bitcast"}) == (
        "copies"
    )


def test_what_a_loop_repeats_counts_as_often_as_it_turns():
    def nested(rows):
        return jax.lax.map(lambda row: jax.lax.map(lambda x: jnp.dot(x, x), row), rows)

    rows = jnp.ones((5, 3, 64, 64))
    program = xla_operations.Program(jax.jit(nested).lower(rows).compile().as_text())
    (name,) = program.products()
    assert program.turns(name) == 15
    assert len(program.loops) == 2
    assert {program.turns(loop) for loop in program.loops} == {1, 5}


def test_a_loop_of_unknown_length_is_refused():
    def until(x):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: jnp.dot(x, x), x)

    program = xla_operations.Program(jax.jit(until).lower(jnp.ones((64, 64))).compile().as_text())
    (name,) = program.products()
    with pytest.raises(ValueError, match="a loop of unknown length"):
        program.turns(name)

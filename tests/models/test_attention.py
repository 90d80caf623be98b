import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax.models import attention as entry
from vljepa_jax.models import attention_kernels
from vljepa_jax.models.attention import attention, kernel

KERNELS = ("plain", "chunked", "splash")  # cuDNN's needs its GPU


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_CHUNK", 3)


def draw(batch=2, queries=7, keys=7, heads=6, kv_heads=2, size=4):
    rng = np.random.default_rng(0)
    shapes = [(batch, queries, heads, size)] + 2 * [(batch, keys, kv_heads, size)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def by_hand(query, key, value, scale, allowed):
    """One head, one query, one key at a time."""
    batch, queries, heads, _ = query.shape
    shared = heads // key.shape[2]
    out = np.zeros_like(query)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                seen = [j for j in range(key.shape[1]) if allowed(b, i, j)]
                scores = np.array([query[b, i, h] @ key[b, j, h // shared] * scale for j in seen])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                out[b, i, h] = weights @ value[b, seen, h // shared]
    return out


MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]], bool)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, lambda b, i, j: True),
        ({"key_mask": MASK}, lambda b, i, j: MASK[b, j]),
        ({"causal": True}, lambda b, i, j: j <= i),
        ({"window": 3}, lambda b, i, j: abs(i - j) < 3),
        (
            {"key_mask": MASK, "causal": True, "window": 5},
            lambda b, i, j: MASK[b, j] and j <= i and i - j < 5,
        ),
    ],
)
def test_equals_attention_by_hand(settings, allowed, name):
    query, key, value = draw()
    with kernel(name):
        found = attention(query, key, value, scale=0.7, **settings)
    np.testing.assert_allclose(found, by_hand(query, key, value, 0.7, allowed), atol=1e-5)


def gradients(name, settings, arrays):
    """Of a function of the result in which every element counts for something else."""

    def loss(arrays):
        with kernel(name):
            mixed = attention(*arrays, scale=0.7, **settings)
        return jnp.sum(jnp.sin(3.0 * mixed + (jnp.arange(mixed.size) % 7).reshape(mixed.shape)))

    return jax.grad(loss)(arrays)


@pytest.mark.parametrize("name", KERNELS[1:])
@pytest.mark.parametrize(
    "settings", [{"key_mask": MASK}, {"causal": True, "window": 3}], ids=["padding", "near"]
)
def test_gradients_are_those_of_the_plain_kernel(settings, name):
    found, right = (gradients(n, settings, draw()) for n in (name, "plain"))
    for ours, theirs in zip(found, right, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_splash_takes_several_blocks(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_MOST_BLOCK", 128)
    arrays = draw(batch=1, queries=200, keys=300, heads=2, kv_heads=1, size=8)
    mask = np.arange(300)[None] < 270
    found, right = (gradients(name, {"key_mask": mask}, arrays) for name in ("splash", "plain"))
    for ours, theirs in zip(found, right, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("platform", "length", "size", "dtype", "name"),
    [
        ("cpu", 1024, 64, "float32", "plain"),
        ("cpu", 4096, 64, "float32", "chunked"),
        ("tpu", 272, 64, "bfloat16", "plain"),
        ("tpu", 1040, 64, "bfloat16", "splash"),
        ("gpu", 272, 64, "bfloat16", "cudnn"),
        ("gpu", 272, 64, "float32", "plain"),  # cuDNN has no float32
        ("gpu", 512, 256, "bfloat16", "plain"),  # nor, everywhere, heads of this size
    ],
)
def test_the_kernel_suits_the_device(platform, length, size, dtype, name):
    array = jax.ShapeDtypeStruct((2, length, 4, size), jnp.dtype(dtype))
    assert entry._choose(platform, array, array) == name


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="no kernel 'fast'"), kernel("fast"):
        pass


SHARDED = """
import jax, numpy as np
from jax.sharding import AxisType
from vljepa_jax.models.attention import attention, kernel
from vljepa_jax.models.placement import on_mesh

jax.config.update("jax_num_cpu_devices", 8)
axes = ("data", "fsdp", "tensor")
mesh = jax.make_mesh((2, 2, 2), axes, axis_types=(AxisType.Auto,) * 3)
rng = np.random.default_rng(0)
for kv_heads in (2, 3):  # the second cannot be shared out by tensor
    query = rng.standard_normal((4, 9, 6, 8), np.float32)
    key, value = rng.standard_normal((2, 4, 9, kv_heads, 8), np.float32)
    mask = np.arange(9) < np.array([[9], [5], [1], [7]])

    def loss(arrays, name):
        with kernel(name), on_mesh(mesh):
            mixed = attention(*arrays, scale=0.7, key_mask=mask)
        return (mixed**2).sum(), mixed

    results = [
        jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)((query, key, value), name)
        for name in ("plain", "splash")
    ]
    for found, right in zip(*map(jax.tree.leaves, reversed(results)), strict=True):
        assert np.abs(found - right).max() < 1e-5 * np.abs(right).max()
"""


def test_splash_on_a_mesh_is_splash_on_a_device():
    answer = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]


def test_masked_keys_change_nothing():
    query, key, value = draw()
    other_key, other_value = np.where(MASK[..., None, None], (key, value), 1e3)
    first = attention(query, key, value, scale=1.0, key_mask=MASK)
    second = attention(query, other_key, other_value, scale=1.0, key_mask=MASK)
    np.testing.assert_array_equal(first, second)


def test_row_without_keys_is_finite():
    query, key, value = draw()
    assert np.isfinite(attention(query, key, value, scale=1.0, key_mask=MASK & False)).all()


def test_softmax_is_float32_under_bfloat16():
    query, key, value = draw(queries=3, keys=300)
    half = [array.astype("bfloat16") for array in (query, key, np.ones_like(value))]
    found = attention(*half, scale=0.0)
    assert found.dtype == half[0].dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), 1.0, rtol=1e-2)


def test_heads_that_do_not_divide_are_refused():
    query, key, value = draw(heads=5)
    with pytest.raises(ValueError, match="5 query heads"):
        attention(query, key, value, scale=1.0)

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax.models import attention as entry
from vljepa_jax.models import attention_kernels, cudnn_attention, splash_attention
from vljepa_jax.models.attention import KernelError, attention, kernel
from vljepa_jax.models.attention_kernels import Masks
from vljepa_jax.models.placement import Accelerator, stated

KERNELS = ("plain", "chunked", "splash", "cudnn")  # fused ones as they run on a CPU


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


LENGTHS = np.array([7, 4], np.int32)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, lambda b, i, j: True),
        ({"key_lengths": LENGTHS}, lambda b, i, j: j < LENGTHS[b]),
        ({"causal": True}, lambda b, i, j: j <= i),
        ({"window": 3}, lambda b, i, j: abs(i - j) < 3),
        (
            {"key_lengths": LENGTHS, "causal": True, "window": 5},
            lambda b, i, j: j < LENGTHS[b] and j <= i and i - j < 5,
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
    "settings",
    [
        {"key_lengths": LENGTHS},
        {"causal": True, "window": 3},
        {"key_lengths": np.minimum(LENGTHS + 1, 7), "window": 3},  # each query sees a key
    ],
    ids=["padding", "near", "both"],
)
def test_gradients_are_those_of_the_plain_kernel(settings, name):
    found, right = (gradients(n, settings, draw()) for n in (name, "plain"))
    for ours, theirs in zip(found, right, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_splash_takes_several_blocks(monkeypatch):
    monkeypatch.setattr(splash_attention, "_MOST_BLOCK", 128)
    arrays = draw(batch=1, queries=200, keys=300, heads=2, kv_heads=1, size=8)
    lengths = np.array([270], np.int32)
    found, right = (
        gradients(name, {"key_lengths": lengths}, arrays) for name in ("splash", "plain")
    )
    for ours, theirs in zip(found, right, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


CPU, TPU, ROCM = (Accelerator(platform) for platform in ("cpu", "tpu", "rocm"))
V100, A100, L4, H100, B200 = (
    Accelerator("cuda", capability) for capability in ((7, 0), (8, 0), (8, 9), (9, 0), (10, 0))
)


@pytest.mark.parametrize(
    ("device", "length", "size", "dtype", "name"),
    [
        (CPU, 1024, 64, "float32", "plain"),
        (CPU, 4096, 64, "float32", "chunked"),
        (TPU, 255, 64, "bfloat16", "plain"),
        (TPU, 272, 64, "bfloat16", "splash"),
        (TPU, 1040, 64, "bfloat16", "splash"),
        (A100, 272, 64, "bfloat16", "cudnn"),
        (A100, 135, 64, "bfloat16", "cudnn"),  # odd lengths are padded
        (A100, 272, 80, "float16", "cudnn"),
        (H100, 512, 256, "bfloat16", "cudnn"),
        (A100, 512, 256, "bfloat16", "plain"),
        (L4, 512, 256, "bfloat16", "plain"),
        (B200, 512, 256, "bfloat16", "plain"),  # cuDNN has no backward pass there
        (B200, 512, 128, "bfloat16", "cudnn"),
        (H100, 512, 68, "bfloat16", "plain"),
        (H100, 272, 64, "float32", "plain"),
        (V100, 272, 64, "float16", "plain"),
        (ROCM, 4096, 64, "bfloat16", "chunked"),
    ],
    ids=str,
)
def test_the_kernel_suits_the_device(device, length, size, dtype, name):
    array = jax.ShapeDtypeStruct((2, length, 4, size), jnp.dtype(dtype))
    assert entry._choose(array, array, Masks(None), device) == name


def test_no_fused_kernel_after_kept_keys():
    array = jax.ShapeDtypeStruct((2, 4096, 4, 64), jnp.bfloat16)
    assert entry._choose(array, array, Masks(None, query_start=1), H100) == "chunked"


@pytest.mark.parametrize("name", ["plain", "chunked"])
def test_queries_of_each_row_follow_on_as_many_keys_as_it_has(name):
    starts = np.array([3, 0], np.int32)
    query, key, value = draw(queries=4)
    with kernel(name):
        found = attention(query, key, value, scale=0.7, causal=True, query_start=starts)
    expected = by_hand(query, key, value, 0.7, lambda b, i, j: j <= starts[b] + i)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "device", "dtype", "size", "words"),
    [
        ("cudnn", V100, "bfloat16", 64, "from compute capability 8.0, and these are cuda 7.0"),
        ("cudnn", A100, "bfloat16", 256, "on cuda 8.0 it takes heads of at most 128 .* have 256"),
        ("cudnn", H100, "float32", 64, "these are float32"),
        ("cudnn", ROCM, "bfloat16", 64, "these devices are rocm"),
        ("cudnn", TPU, "bfloat16", 64, "these devices are tpu"),
        ("splash", H100, "bfloat16", 64, "these devices are cuda 9.0"),
    ],
    ids=str,
)
def test_a_kernel_that_cannot_be_taken_says_why(name, device, dtype, size, words):
    array = jnp.zeros((1, 8, 2, size), dtype)
    with kernel(name), stated(device), pytest.raises(KernelError, match=f"'{name}'.*{words}"):
        attention(array, array, array, scale=1.0)


def test_a_fused_kernel_after_kept_keys_says_why():
    with kernel("splash"), pytest.raises(KernelError, match="keys that were kept"):
        attention(*draw(), scale=1.0, query_start=3)


@pytest.mark.parametrize("device", [A100, H100, B200], ids=str)
@pytest.mark.parametrize("size", [64, 68, 80, 128, 136, 256, 264])
@pytest.mark.parametrize("window", [None, 3])
def test_jax_takes_what_is_taken(device, size, window):
    """JAX's own checks, of a training step with odd lengths."""
    array = jax.ShapeDtypeStruct((2, 135, 4, size), jnp.bfloat16)
    if cudnn_attention.refusal(array, array, device) is not None:
        return

    def loss(*arrays):
        return cudnn_attention.attend(*arrays, 1.0, Masks(None, window=window), device).sum()

    with cudnn_attention.told(device):
        jax.eval_shape(jax.grad(loss, (0, 1, 2)), array, array, array)


def test_jax_refuses_what_is_refused():
    array = jax.ShapeDtypeStruct((2, 136, 4, 256), jnp.bfloat16)
    with cudnn_attention.told(A100), pytest.raises(NotImplementedError, match="head dim"):
        jax.eval_shape(lambda x: cudnn_attention.attend(x, x, x, 1.0, Masks(None), A100), array)


def test_unknown_kernels_are_refused():
    with pytest.raises(KernelError, match="no kernel 'fast'"), kernel("fast"):
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
    lengths = np.array([9, 5, 1, 7], np.int32)

    def loss(arrays, name):
        with kernel(name), on_mesh(mesh):
            mixed = attention(*arrays, scale=0.7, key_lengths=lengths)
        return (mixed**2).sum(), mixed

    right, *fused = [
        jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)((query, key, value), name)
        for name in ("plain", "splash", "cudnn")
    ]
    for found in fused:
        for ours, theirs in zip(*map(jax.tree.leaves, (found, right)), strict=True):
            assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
"""


def test_fused_kernels_on_a_mesh_are_those_on_a_device():
    answer = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]


@pytest.mark.parametrize("name", KERNELS)
def test_padding_keys_change_nothing(name):
    query, key, value = draw()
    there = np.arange(7)[:, None, None] < LENGTHS[:, None, None, None]
    other_key, other_value = np.where(there, (key, value), 1e3)
    with kernel(name):
        first = attention(query, key, value, scale=1.0, key_lengths=LENGTHS)
        second = attention(query, other_key, other_value, scale=1.0, key_lengths=LENGTHS)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", KERNELS)
def test_row_without_keys_is_finite(name):
    for array in gradients(name, {"key_lengths": 0 * LENGTHS, "window": 3}, draw()):
        assert np.isfinite(array).all()


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


@pytest.mark.parametrize(
    "masks",
    [
        Masks(None),
        Masks(None, causal=True),
        Masks(None, window=2, query_start=1),
        Masks(jnp.array([2, 7])),
        Masks(jnp.array([7, 3]), causal=True),
    ],
    ids=["all", "causal", "window", "lengths", "causal lengths"],
)
@pytest.mark.parametrize("kv_heads", [6, 2])
def test_a_head_at_a_time_is_the_plain_kernel(masks, kv_heads):
    inputs = draw(kv_heads=kv_heads)

    def total(compute):
        return lambda *inputs: jnp.sum(jnp.sin(compute(*inputs, 0.5, masks)))

    plain, apart = attention_kernels.plain, attention_kernels.by_heads
    np.testing.assert_allclose(apart(*inputs, 0.5, masks), plain(*inputs, 0.5, masks), atol=1e-6)
    found, expected = (jax.grad(total(c), (0, 1, 2))(*inputs) for c in (apart, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize(
    ("device", "shortest", "taken"), [("cpu", 49, True), ("cpu", 50, False), ("tpu", 49, False)]
)
def test_long_rows_go_a_head_at_a_time_on_a_cpu(monkeypatch, device, shortest, taken):
    monkeypatch.setattr(entry, "_BY_HEADS_FROM", shortest)
    with stated(Accelerator(device)):
        program = jax.make_jaxpr(lambda *inputs: attention(*inputs, scale=1.0))(*draw())
    assert ("scan" in str(program)) == taken

"""The one entry to attention; which kernel computes it is decided here and nowhere else.

Axes: b batch, t query tokens, s key tokens, h query heads, g key/value heads (h is a multiple
of g), k head size.

The kernel follows from where the computation will run. A training step says so by
``placement.on_mesh``: a fused kernel is one device's program, which the compiler cannot divide, and
so it runs under ``shard_map`` with the rows over (fsdp, data) and the heads over tensor. Without a
mesh (inference on one device, a test) attention is computed by XLA.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.models import attention_kernels as kernels
from vljepa_jax.models.placement import mesh_here, platform

Kernel = Literal["auto", "plain", "chunked", "splash", "cudnn"]

# Scores of more pairs of tokens than these are computed by chunks of the queries (where XLA does
# it), or by splash; below, padding to whole blocks costs more than the scores do.
_CHUNKED_FROM = 4096 * 2048
_SPLASH_FROM = 512 * 512

_kernel: contextvars.ContextVar[Kernel] = contextvars.ContextVar("kernel", default="auto")


@contextlib.contextmanager
def kernel(name: Kernel) -> Iterator[None]:
    """What is traced within uses this kernel; "auto" takes what suits devices and lengths.

    "splash" runs on other devices than a TPU too, slowly, in Pallas' interpreter.

    Raises:
        ValueError: there is no such kernel.
    """
    if name not in get_args(Kernel):
        raise ValueError(f"attention: no kernel '{name}'; there are {', '.join(get_args(Kernel))}")
    token = _kernel.set(name)
    try:
        yield
    finally:
        _kernel.reset(token)


def attention(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g k"],
    *,
    scale: float,
    key_mask: Bool[Array, "b s"] | None = None,
    causal: bool = False,
    window: int | None = None,
    query_start: int | Int[Array, ""] = 0,
) -> Float[Array, "b t h k"]:
    """Scaled dot-product attention with grouped key/value heads and a float32 softmax.

    What may attend to what is said in structure (padding, causal, window) and not as a dense mask,
    so that a fused kernel can skip what is masked; positions j of keys count from 0, positions i of
    queries from ``query_start``.

    Args:
        query: [b, t, h, k], already rotated.
        key: [b, s, g, k], already rotated.
        value: [b, s, g, k].
        scale: multiplies the scores.
        key_mask: [b, s], False at padding. A row without any True key averages all values, which
            is finite; its result means nothing and the caller must not use it.
        causal: only keys j <= i.
        window: only keys with |i - j| < window (two-sided).
        query_start: position of the first query among the keys; above 0 where the keys of earlier
            positions were kept.

    Returns:
        [b, t, h, k] in the dtype of ``value``.

    Raises:
        ValueError: the query heads cannot be shared out evenly among the key/value heads.
    """
    heads, kv_heads = query.shape[2], key.shape[2]
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads do not divide over {kv_heads} key heads")
    masks = kernels.Masks(key_mask, causal, window, query_start)
    mesh = mesh_here()
    name = _kernel.get()
    if not isinstance(query_start, int) or query_start:
        name = "plain"  # a token or few after kept keys: scores are small, and no kernel knows it
    elif name == "auto":
        name = _choose(platform() if mesh is not None else "cpu", query, key)
    if name == "splash":
        return _sharded(kernels.splash, mesh, platform() != "tpu")(query, key, value, scale, masks)
    if name == "cudnn":
        return _sharded(kernels.cudnn, mesh)(query, key, value, scale, masks)
    compute = kernels.chunked if name == "chunked" else kernels.plain
    return compute(query, key, value, scale, masks)


def _choose(device: str, query: Array, key: Array) -> Kernel:
    """The kernel for these shapes on this kind of device."""
    pairs = query.shape[1] * key.shape[1]
    if device == "tpu" and pairs >= _SPLASH_FROM:
        return "splash"
    # cuDNN computes in half precision, with heads of up to 128 features on every GPU since Ampere.
    size = query.shape[3]
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    if device in ("gpu", "cuda") and half and size <= 128 and size % 8 == 0:
        return "cudnn"
    return "chunked" if pairs >= _CHUNKED_FROM else "plain"


def _sharded(compute, mesh: Mesh | None, *settings):
    """``compute(query, key, value, scale, masks, *settings)`` on each device's rows and heads."""
    if mesh is None or mesh.size == 1:
        return lambda *inputs: compute(*inputs, *settings)

    def run(query, key, value, scale, masks):
        rows = mesh.shape["fsdp"] * mesh.shape["data"]
        rows_axes = ("fsdp", "data") if query.shape[0] % rows == 0 else None
        # All heads on every device of the axis where the key heads do not share out.
        heads_axis = "tensor" if key.shape[2] % mesh.shape["tensor"] == 0 else None
        heads = PartitionSpec(rows_axes, None, heads_axis)
        spec = (heads, heads, heads, PartitionSpec(rows_axes))

        def local(query, key, value, key_mask):
            local_masks = kernels.Masks(key_mask, masks.causal, masks.window)
            return compute(query, key, value, scale, local_masks, *settings)

        # Every input is divided by what its spec says or equal everywhere, and so is the output;
        # kernels do not say so themselves, hence check_vma.
        return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=heads, check_vma=False)(
            query, key, value, masks.key_mask
        )

    return run

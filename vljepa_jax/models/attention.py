"""The one entry to attention; which kernel computes it is decided here and nowhere else.

Axes: b batch, t query tokens, s key tokens, h query heads, g key/value heads (h is a multiple
of g), k head size.

The kernel follows from where the computation will run, which a training step says by
``placement.on_mesh``, and from what the fused kernel of those devices accepts: what it refuses, XLA
computes. A fused kernel is one device's program, which the compiler cannot divide, and so it runs
under ``shard_map`` with the rows over (fsdp, data) and the heads over tensor. Without a mesh
(inference on one device, a test) attention is computed by XLA.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from vljepa_jax.models import attention_kernels as kernels
from vljepa_jax.models import cudnn_attention, splash_attention
from vljepa_jax.models.placement import Accelerator, accelerator, mesh_here, stated

Kernel = Literal["auto", "plain", "chunked", "splash", "cudnn"]

_FUSED = {"splash": splash_attention, "cudnn": cudnn_attention}
_FUSED_ON = {"tpu": "splash", "cuda": "cudnn"}  # platform -> its kernel
# Scores of more pairs of tokens than these are computed by chunks of the queries (where XLA does
# it), or by splash. With fewer, splash's padding to whole blocks costs more than the scores do; at
# 272 tokens, padded to 384, scores cost more, as they go through a TPU's memory (docs/scaling.md).
_CHUNKED_FROM = 4096 * 2048
_SPLASH_FROM = 256 * 256
# On a CPU, the scores of all heads for so many pairs no longer stay in its cache.
_BY_HEADS_FROM = 1024 * 1024

_kernel: contextvars.ContextVar[Kernel] = contextvars.ContextVar("kernel", default="auto")


class KernelError(ValueError):
    """A kernel that was asked for and cannot be taken; the message says why."""


@contextlib.contextmanager
def kernel(name: Kernel) -> Iterator[None]:
    """Traces with this kernel; "auto" takes what suits devices, lengths and masks.

    "splash" and "cudnn" are their devices' own, and run on a CPU too, slowly, for tests.

    Raises:
        KernelError: there is no such kernel; or, from ``attention``, it does not take the shapes,
            the dtype, the masks or the devices.
    """
    if name not in get_args(Kernel):
        raise KernelError(f"attention: no kernel '{name}'; there are {', '.join(get_args(Kernel))}")
    token = _kernel.set(name)
    try:
        yield
    finally:
        _kernel.reset(token)


@contextlib.contextmanager
def compiled_for(device: Accelerator) -> Iterator[None]:
    """Traces for devices of this kind, which need not be at hand.

    The programs can be read, or compiled where a compiler for such devices is installed.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stated(device))
        if device.platform == "cuda":
            stack.enter_context(cudnn_attention.told(device))
        yield


def attention(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g k"],
    *,
    scale: float,
    key_lengths: Int[Array, " b"] | None = None,
    causal: bool = False,
    window: int | None = None,
    query_start: int | Int[Array, " b"] = 0,
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
        key_lengths: [b], how many keys of each row there are; those behind are padding. A row of
            length 0 sees its first key, so that all is finite; its result means nothing and the
            caller must not use it.
        causal: only keys j <= i.
        window: only keys with |i - j| < window (two-sided).
        query_start: position of the first query among the keys, of all rows or of each; above 0
            where the keys of earlier positions were kept.

    Returns:
        [b, t, h, k] in the dtype of ``value``.

    Raises:
        ValueError: the query heads cannot be shared out evenly among the key/value heads.
        KernelError: the kernel that ``kernel`` names cannot be taken.
    """
    heads, kv_heads = query.shape[2], key.shape[2]
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads do not divide over {kv_heads} key heads")
    if key_lengths is not None:
        key_lengths = jnp.maximum(key_lengths, 1)
    masks = kernels.Masks(key_lengths, causal, window, query_start)
    mesh = mesh_here()
    device, name = accelerator(), _kernel.get()
    if name == "auto":
        # Without a mesh nobody said how rows are divided, which a fused kernel has to know.
        name = _choose(query, key, masks, Accelerator("cpu") if mesh is None else device)
    elif reason := _refusal(name, query, key, masks, device):
        raise KernelError(f"attention: '{name}' cannot be taken: {reason}")
    if name in _FUSED:
        attend = _sharded(_FUSED[name].attend, mesh, device)
    elif name == "chunked":
        attend = kernels.chunked
    elif _kernel.get() == "auto" and _by_heads(query, key, masks, mesh, device):
        attend = kernels.by_heads
    else:
        attend = kernels.plain
    with jax.named_scope("attend"):  # apart from projections, for who reads a profile
        return attend(query, key, value, scale, masks)


def _choose(query: Array, key: Array, masks: kernels.Masks, device: Accelerator) -> Kernel:
    """The first kernel that accepts these shapes and masks on this kind of device."""
    pairs = query.shape[1] * key.shape[1]
    fused = _FUSED_ON.get(device.platform)
    worth = fused is not None and (fused != "splash" or pairs >= _SPLASH_FROM)
    if worth and _refusal(fused, query, key, masks, device) is None:
        return fused
    return "chunked" if pairs >= _CHUNKED_FROM else "plain"


def _by_heads(
    query: Array, key: Array, masks: kernels.Masks, mesh: Mesh | None, device: Accelerator
) -> bool:
    """Whether plain attention is computed a head at a time: on one CPU, for long rows."""
    return (
        device.platform == "cpu"
        and (mesh is None or mesh.size == 1)
        and jax.device_count() == 1
        and query.shape[1] * key.shape[1] >= _BY_HEADS_FROM
        and isinstance(masks.query_start, int)
    )


def _refusal(
    name: Kernel, query: Array, key: Array, masks: kernels.Masks, device: Accelerator
) -> str | None:
    """Why a kernel cannot be taken; ``None`` where it can."""
    if name not in _FUSED:
        return None
    if not isinstance(masks.query_start, int) or masks.query_start:
        return "the queries follow on keys that were kept, which no fused kernel knows"
    return _FUSED[name].refusal(query, key, device)


def _sharded(compute: Callable, mesh: Mesh | None, device: Accelerator) -> Callable:
    """``compute(query, key, value, scale, masks, device)`` on each device's rows and heads."""
    if mesh is None or mesh.size == 1:
        return lambda *inputs: compute(*inputs, device)

    def run(query, key, value, scale, masks):
        rows = mesh.shape["fsdp"] * mesh.shape["data"]
        rows_axes = ("fsdp", "data") if query.shape[0] % rows == 0 else None
        # All heads on every device of the axis where the key heads do not share out.
        heads_axis = "tensor" if key.shape[2] % mesh.shape["tensor"] == 0 else None
        heads = PartitionSpec(rows_axes, None, heads_axis)
        spec = (heads, heads, heads, PartitionSpec(rows_axes))

        def local(query, key, value, key_lengths):
            local_masks = kernels.Masks(key_lengths, masks.causal, masks.window)
            return compute(query, key, value, scale, local_masks, device)

        # Every input is divided by what its spec says or equal everywhere, and so is the output;
        # kernels do not say so themselves, hence check_vma.
        return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=heads, check_vma=False)(
            query, key, value, masks.key_lengths
        )

    return run

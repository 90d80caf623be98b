"""Products of activations with kernels: on a CPU, gradients as its matrix products compute best.

XLA's CPU backend computes one and the same gradient of a kernel at rates that differ twofold with
the order of its sides in memory (``benchmarks/speed_features.py --cases=gradients``, and
docs/performance.md). Nothing of this concerns other devices, whose compilers lay memory out
themselves.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vljepa_jax.models.placement import accelerator

# Rows so many bytes apart, or a multiple, fall on few sets of a processor's first cache, where a
# product that walks down their columns finds nothing again.
_ALIASED = 2048
_TURNED_UP_TO = 512  # outputs of a tall kernel
# A checkpoint policy sees no product inside a function with a gradient of its own, but this name.
_NAME = "product_with_kernel"
_FORWARD = (((1,), (0,)), ((), ()))

# The checkpoint policy that keeps the results of products with kernels.
products_saveable = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(_NAME),
)


def product(x: Array, kernel: Array, dimensions: Any, **precision: Any) -> Array:
    """``lax.dot_general`` of activations [*b, in] with a kernel [in, out].

    On CPU the rows become one axis first: XLA's backend there transposes and copies both sides of a
    kernel's gradient where it sums over two axes, which takes longer than the product itself.
    """
    of_last_axis = dimensions == (((x.ndim - 1,), (0,)), ((), ()))
    if accelerator().platform != "cpu" or x.ndim < 3 or not of_last_axis:
        return jax.lax.dot_general(x, kernel, dimensions, **precision)
    inputs, outputs = kernel.shape
    rows = x.reshape(-1, inputs)
    if set(precision.values()) <= {None}:
        found = checkpoint_name(product_of_rows(rows, kernel), _NAME)
    else:
        found = jax.lax.dot_general(rows, kernel, _FORWARD, **precision)
    return found.reshape(*x.shape[:-1], outputs)


# A projection of the last axis, as ``nn.Dense``.
Dense = functools.partial(nn.Dense, dot_general=product)


@jax.custom_vjp
def product_of_rows(rows: Float[Array, "n in"], kernel: Float[Array, "in out"]) -> Array:
    """``rows @ kernel``, whose kernel's gradient is ``gradient_of_kernel``."""
    return jax.lax.dot_general(rows, kernel, _FORWARD)


def _backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    rows, kernel = saved
    of_rows = jax.lax.dot_general(cotangent, kernel, (((1,), (1,)), ((), ())))
    return of_rows, gradient_of_kernel(rows, cotangent)


product_of_rows.defvjp(
    lambda rows, kernel: (product_of_rows(rows, kernel), (rows, kernel)), _backward
)


def gradient_of_kernel(
    rows: Float[Array, "n in"], cotangent: Float[Array, "n out"]
) -> Float[Array, "in out"]:
    """``rows.T @ cotangent``, by the way that takes a CPU least time for these sizes."""
    inputs, outputs = rows.shape[1], cotangent.shape[1]
    if outputs * cotangent.dtype.itemsize % _ALIASED == 0:
        return copied(rows, cotangent)
    tall = 2 * outputs <= inputs and outputs <= _TURNED_UP_TO
    return turned(rows, cotangent) if tall else as_it_stands(rows, cotangent)


# Barriers, since XLA would turn the sides of a product instead of what is said to be turned.
def as_it_stands(rows: Array, cotangent: Array) -> Array:
    return jax.lax.dot_general(rows, cotangent, (((0,), (0,)), ((), ())))


def turned(rows: Array, cotangent: Array) -> Array:
    """Computed as [out, in]: bitwise the same."""
    return jax.lax.optimization_barrier(as_it_stands(cotangent, rows)).T


def copied(rows: Array, cotangent: Array) -> Array:
    """With the narrower side transposed in memory first, so that no product walks down columns."""
    if rows.shape[1] > cotangent.shape[1]:
        return jax.lax.optimization_barrier(copied(cotangent, rows)).T
    return jax.lax.dot_general(jax.lax.optimization_barrier(rows.T), cotangent, _FORWARD)

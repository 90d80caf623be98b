"""cuDNN's fused attention for NVIDIA GPUs, through jax.nn.dot_product_attention.

Shapes and masks are those of ``attention_kernels``. What cuDNN accepts is said in the support
matrix of its attention (docs.nvidia.com/deeplearning/cudnn/frontend, operations/Attention, and
cudnn-frontend's sdpa_support_surface.h), for cuDNN 9.8 and later, which jax 0.10 asks for. JAX
itself checks part of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljepa_jax.models.attention_kernels import Masks, padded, rounded_up
from vljepa_jax.models.placement import Accelerator

_OLDEST = (8, 0)  # Ampere
_EVEN = 2  # JAX takes no odd length in training
_CUDNN = 91002  # of ``told``: 9.10.2, as 9.10.0 and 9.10.1 have no attention


def refusal(query: Array, key: Array, accelerator: Accelerator) -> str | None:
    """Why cuDNN does not take these queries and keys there; ``None`` where it does.

    What it takes in the forward pass alone counts as refused: nobody knows here what will be
    differentiated.
    """
    del key  # has the queries' dtype and head size, and any length will be padded
    if accelerator.platform == "cpu":
        return None
    if accelerator.platform != "cuda":
        return f"it is an NVIDIA GPU's kernel, and these devices are {accelerator}"
    if accelerator.capability < _OLDEST:
        return f"it takes GPUs from compute capability 8.0, and these are {accelerator}"
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16 or float16, and these are {query.dtype}"
    size, most = query.shape[3], _largest_head(accelerator.capability)
    if size > most or size % 8:
        return (
            f"on {accelerator} it takes heads of at most {most} features, a multiple of 8, and "
            f"these have {size}"
        )
    return None


def _largest_head(capability: tuple[int, int]) -> int:
    """Features of a head that the backward pass takes: Hopper's alone goes beyond 128."""
    return 256 if capability[0] == 9 else 128


def attend(
    query, key, value, scale: float, masks: Masks, accelerator: Accelerator
) -> Float[Array, "b t h k"]:
    """Attention; on a CPU the same call, which XLA computes in one piece."""
    batch, queries = query.shape[:2]
    keys = key.shape[1]
    padded_queries, padded_keys = rounded_up(queries, _EVEN), rounded_up(keys, _EVEN)
    nearby = None
    if masks.window is not None:  # cuDNN's own windows, as JAX offers them, look back only
        nearby = Masks(None, window=masks.window).dense(0, padded_queries, padded_keys)[None, None]
    mixed = jax.nn.dot_product_attention(
        padded(query, padded_queries),
        padded(key, padded_keys),
        padded(value, padded_keys),
        mask=nearby,
        scale=scale,
        is_causal=masks.causal,
        key_value_seq_lengths=masks.lengths(batch, keys, padded_keys),
        implementation="xla" if accelerator.platform == "cpu" else "cudnn",
    )
    return mixed[:, :queries]


@contextlib.contextmanager
def told(accelerator: Accelerator) -> Iterator[None]:
    """Within, JAX takes this for the GPU of this process, where it asks what cuDNN accepts.

    It asks while a program is traced, of the devices at hand, though the program may be for others.
    """
    from jax._src.cudnn import fused_attention_stablehlo as asking

    def at_least(capability: str) -> bool:
        return accelerator.capability >= tuple(map(int, capability.split(".")))

    def equal(capability: str) -> bool:
        return accelerator.capability == tuple(map(int, capability.split(".")))

    with (
        mock.patch.object(asking, "check_cudnn_version", return_value=_CUDNN),
        mock.patch.object(asking, "check_compute_capability", at_least),
        mock.patch.object(asking, "is_cuda_compute_capability_equal", equal),
    ):
        yield

"""The best rate of matrix products that JAX and torch reach here, and the processor's name."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

Clock = Callable[[], float]


def peaks(gpu: bool, repetitions: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Operations a second, multiplications and additions apart: bfloat16 on a GPU, else float32.

    Args:
        clock: ``time.process_time`` gives those a second of a processor, whatever else it does.
    """
    return {
        "jax": jax_peak(gpu, repetitions, clock),
        "torch": _best(lambda size: _torch_product(size, gpu), _sizes(gpu), repetitions, clock),
    }


def jax_peak(gpu: bool, repetitions: int, clock: Clock = time.perf_counter) -> float:
    """As ``peaks``, of JAX alone; torch need not be there."""
    return _best(lambda size: _jax_product(size, gpu), _sizes(gpu), repetitions, clock)


def _sizes(gpu: bool) -> tuple[int, ...]:
    return (4096, 8192) if gpu else (1024, 2048)


def _jax_product(size: int, gpu: bool) -> Callable[[], object]:
    multiply = jax.jit(jnp.matmul)
    a = jnp.ones((size, size), jnp.bfloat16 if gpu else jnp.float32)
    return lambda: multiply(a, a).block_until_ready()


def _torch_product(size: int, gpu: bool) -> Callable[[], object]:
    import torch

    dtype, device = (torch.bfloat16, "cuda") if gpu else (torch.float32, "cpu")
    a = torch.ones((size, size), dtype=dtype, device=device)

    def run() -> None:
        torch.matmul(a, a)
        if gpu:
            torch.cuda.synchronize()

    return run


def _best(
    product: Callable[[int], Callable[[], object]],
    sizes: tuple[int, ...],
    repetitions: int,
    clock: Clock,
) -> float:
    rates = []
    for size in sizes:
        run = product(size)
        run()
        for _ in range(max(3, repetitions)):
            start = clock()
            run()
            rates.append(2.0 * size**3 / (clock() - start))
    return max(rates)

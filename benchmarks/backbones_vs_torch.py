"""Our backbones against transformers on torch: same weights, same inputs, one process.

    python benchmarks/backbones_vs_torch.py
    python benchmarks/backbones_vs_torch.py --cases=vjepa2_8,gemma --repetitions=3
    python benchmarks/backbones_vs_torch.py --rows=16       # on a GPU, which one clip does not fill

It needs the environment of ``make test-parity``. On a CPU both compute in float32 with the same
number of threads; on a GPU in bfloat16, torch through torch.compile. Torch attends through
scaled_dot_product_attention. The two take turns, both warm, and the JSON that is printed holds the
median of each, the ratio, and the share of the best matrix-product rate that either library reached
here. Outputs are compared before anything is timed. Of the forward passes it also tells what our
attention takes, timed alone and taken times the layers, and the share of peak of it and of the
rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references and the models around the backbones

CASES = ("vjepa2_8", "vjepa2_16", "predictor", "predictor_train", "gemma")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=7, help="of each, in turns")
    parser.add_argument("--threads", type=int, default=host.available_cpus())
    parser.add_argument("--rows", type=int, default=1, help="clips at a time")
    parser.add_argument("--layers", type=int, default=None, help="of each stack, instead of all")
    parser.add_argument("--scan", action="store_true", help="scan our layers, where it is a CPU")
    chosen = parser.parse_args()
    unknown = set(chosen.cases.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--cases: no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return chosen


ARGUMENTS = arguments()
host.keep_memory()
# Before jax starts its threads: as many as it sees processors. Torch is told below.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGUMENTS.threads])
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs room on a GPU too

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import peaks  # noqa: E402

import tests.helpers.reference_twins as reference  # noqa: E402
from tests.helpers.twins import parameters  # noqa: E402
from vljepa_jax.config import ShardingConfig  # noqa: E402
from vljepa_jax.config.published_sizes import PUBLISHED  # noqa: E402
from vljepa_jax.models.attention import attention  # noqa: E402
from vljepa_jax.models.gemma import Gemma  # noqa: E402
from vljepa_jax.models.llama import Llama  # noqa: E402
from vljepa_jax.models.placement import on_mesh  # noqa: E402
from vljepa_jax.models.vjepa2 import VJEPA2  # noqa: E402
from vljepa_jax.parallel.sharding import make_mesh  # noqa: E402

GPU = jax.default_backend() == "gpu"
UNROLL = not (GPU or ARGUMENTS.scan)
DTYPE, TORCH_DTYPE = (jnp.bfloat16, torch.bfloat16) if GPU else (jnp.float32, torch.float32)
DEVICE = "cuda" if GPU else "cpu"
TOLERANCE = 0.1 if GPU else 1e-3  # max |a - b| / max |b|

VISUAL_TOKENS, QUERY_TOKENS = 1024, 64
TEXTS, TEXT_TOKENS = 32, 64

# The sizes of configs/vljepa_1b.py. Token tables are cut: a look-up has no arithmetic.
VITL = PUBLISHED["vjepa2-vitl"]
PREDICTOR = dataclasses.replace(
    PUBLISHED["llama-3.2-1b"], vocab_size=1024, num_layers=8, causal=False
)
GEMMA = dataclasses.replace(PUBLISHED["embeddinggemma-300m"], vocab_size=1024, dense_sizes=())
if ARGUMENTS.layers is not None:
    VITL, PREDICTOR, GEMMA = (
        dataclasses.replace(config, num_layers=ARGUMENTS.layers)
        for config in (VITL, PREDICTOR, GEMMA)
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """Two computations of the same, each returning when its result is there.

    Attributes:
        ours, theirs: both give numpy arrays to compare.
        flops: of the matrix products, multiplications and additions apart.
        attention: our attention in one layer, with the shapes of the case; nothing in backward.
        layers: how often it is called.
        attention_flops: of the two products of attention in all layers.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    flops: float
    attention: Callable[[], Any] | None = None
    layers: int = 0
    attention_flops: float = 0.0


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    rates = peaks(GPU, ARGUMENTS.repetitions)
    best = max(rates.values())
    report = {
        "machine": jax.devices()[0].device_kind if GPU else processor(),
        "threads": ARGUMENTS.threads,
        "dtype": jnp.dtype(DTYPE).name,
        "versions": {m.__name__: m.__version__ for m in (jax, torch, transformers)},
        "layers": "unrolled" if UNROLL else "scanned",
        "rows": ARGUMENTS.rows,
        "repetitions": ARGUMENTS.repetitions,
        "matmul_gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "cases": {},
    }
    mesh = make_mesh(ShardingConfig(data=1, fsdp=1, tensor=1, rules=()), jax.devices()[:1])
    for name in ARGUMENTS.cases.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        with on_mesh(mesh):  # says where it runs: without, no fused kernel is taken
            report["cases"][name] = found = _measure(MAKERS[name](), best)
        print(json.dumps(found), file=sys.stderr, flush=True)  # what there is, if it is cut short
    print(json.dumps(report, indent=2))


def _measure(case: Case, peak: float) -> dict[str, float]:
    ours, theirs = case.ours(), case.theirs()  # compiles, and warms both
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not error < TOLERANCE:
        raise SystemExit(f"the two differ by {error:.1e}: nothing to compare")
    runs = {"ours": case.ours, "theirs": case.theirs}
    if case.attention:
        case.attention()
        runs["attention"] = case.attention
    seconds: dict[str, list[float]] = {whose: [] for whose in runs}
    for _ in range(ARGUMENTS.repetitions):
        for whose, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[whose].append(time.perf_counter() - start)
    median = {whose: statistics.median(times) for whose, times in seconds.items()}
    parts = {}
    if case.attention:
        within = case.layers * median["attention"]
        rest = median["ours"] - within
        parts = {
            "our_attention_ms": round(within * 1e3, 2),
            "our_attentions_share_of_peak": round(case.attention_flops / within / peak, 3),
            "our_rests_share_of_peak": round((case.flops - case.attention_flops) / rest / peak, 3),
        }
    return {
        "ours_ms": round(median["ours"] * 1e3, 2),
        "torch_ms": round(median["theirs"] * 1e3, 2),
        "torch_over_ours": round(median["theirs"] / median["ours"], 3),
        "ours_share_of_peak": round(case.flops / median["ours"] / peak, 3),
        "torch_share_of_peak": round(case.flops / median["theirs"] / peak, 3),
        "gflop": round(case.flops / 1e9, 1),
        "difference": float(f"{error:.1e}"),
    } | parts


# ---------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------
def vjepa2(frames: int) -> Case:
    model = reference.vjepa2_reference(VITL, attention="sdpa")
    params = _parameters(VITL, model)
    rows = ARGUMENTS.rows
    video = np.random.default_rng(1).standard_normal((rows, frames, 256, 256, 3), np.float32)
    module = VJEPA2(VITL, DTYPE, unroll=UNROLL)
    pixels = _tensor(video.transpose(0, 1, 4, 2, 3))
    theirs = _torch_forward(model, pixel_values_videos=pixels, skip_predictor=True)
    tokens = frames // 2 * 256
    patches = 2 * rows * tokens * 2 * 16 * 16 * 3 * VITL.hidden_size
    return Case(
        _ours_forward(module, params, jnp.asarray(video), method="encode"),
        theirs,
        patches + _layers_flops(VITL, tokens, rows, VITL.num_heads, gated=False),
        *_attention(VITL, tokens, rows, VITL.num_heads),
    )


def predictor(train: bool) -> Case:
    model = reference.llama_reference(PREDICTOR, PREDICTOR.num_layers, attention="sdpa")
    model.config.is_causal = False
    for layer in model.layers:
        layer.self_attn.is_causal = False
    params = _parameters(PREDICTOR, model)
    del params["token_embedding"]
    rows, length = ARGUMENTS.rows, VISUAL_TOKENS + QUERY_TOKENS
    x = np.random.default_rng(1).standard_normal((rows, length, 2048), np.float32)
    module = Llama(PREDICTOR, DTYPE, unroll=UNROLL)
    flops = _layers_flops(PREDICTOR, length, rows, PREDICTOR.num_kv_heads, gated=True)
    embedded = _tensor(x)
    if not train:
        theirs = _torch_forward(model, inputs_embeds=embedded, use_cache=False)
        parts = _attention(PREDICTOR, length, rows, PREDICTOR.num_kv_heads)
        return Case(_ours_forward(module, params, jnp.asarray(x)), theirs, flops, *parts)

    @jax.jit
    def gradients(params, x):
        return jax.grad(lambda p: jnp.mean(jnp.square(module.apply({"params": p}, x))))(params)

    inputs = jnp.asarray(x)
    model.requires_grad_(True)
    model.embed_tokens.requires_grad_(False)
    compiled = torch.compile(model) if GPU else model

    def ours() -> np.ndarray:
        found = jax.block_until_ready(gradients(params, inputs))
        return np.asarray(found["norm"]["scale"], np.float32)

    def theirs() -> np.ndarray:
        model.zero_grad(set_to_none=True)
        states = compiled(inputs_embeds=embedded, use_cache=False).last_hidden_state
        states.float().square().mean().backward()
        _synchronise()
        return model.norm.weight.grad.float().cpu().numpy()

    return Case(ours, theirs, 3 * flops)


def gemma() -> Case:
    model = reference.gemma_reference(GEMMA, attention="sdpa")
    params = _parameters(GEMMA, model)
    tokens = np.random.default_rng(1).integers(0, GEMMA.vocab_size, (TEXTS, TEXT_TOKENS))
    module = Gemma(GEMMA, DTYPE, unroll=UNROLL)
    inputs = jnp.asarray(tokens, jnp.int32), jnp.ones(tokens.shape, bool)
    ids = torch.tensor(tokens, device=DEVICE)
    theirs = _torch_forward(model, input_ids=ids, use_cache=False)
    return Case(
        _ours_forward(module, params, *inputs),
        lambda: theirs().mean(axis=1),  # no padding: the mean over all tokens
        _layers_flops(GEMMA, TEXT_TOKENS, TEXTS, GEMMA.num_kv_heads, gated=True),
        *_attention(GEMMA, TEXT_TOKENS, TEXTS, GEMMA.num_kv_heads),
    )


MAKERS: dict[str, Callable[[], Case]] = {
    "vjepa2_8": lambda: vjepa2(8),
    "vjepa2_16": lambda: vjepa2(16),
    "predictor": lambda: predictor(train=False),
    "predictor_train": lambda: predictor(train=True),
    "gemma": gemma,
}


def _parameters(config: Any, model: torch.nn.Module) -> Any:
    """Randomises the reference; the same weights for ours, by our converter."""
    params = parameters(config, reference.weights_of(model, seed=0))
    model.to(DEVICE, TORCH_DTYPE)
    return jax.device_put(params)


def _ours_forward(module, params, *inputs, method=None) -> Callable[[], np.ndarray]:
    apply = jax.jit(
        lambda params, *inputs: module.apply({"params": params}, *inputs, method=method)
    )
    return lambda: np.asarray(apply(params, *inputs), np.float32)


def _attention(config: Any, tokens: int, batch: int, kv_heads: int):
    """Of a stack: one layer's attention to be run, how many there are, and FLOPs of all."""
    heads, head = config.num_heads, _head_size(config)
    query, key, value = (
        jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), DTYPE)
        for seed, shape in enumerate(
            ((batch, tokens, heads, head), *[(batch, tokens, kv_heads, head)] * 2)
        )
    )
    apply = jax.jit(lambda *inputs: attention(*inputs, scale=head**-0.5))
    flops = _attention_flops(config, tokens, batch)
    return lambda: jax.block_until_ready(apply(query, key, value)), config.num_layers, flops


def _torch_forward(model, **inputs) -> Callable[[], np.ndarray]:
    compiled = torch.compile(model) if GPU else model

    @torch.inference_mode()
    def run() -> np.ndarray:
        return compiled(**inputs).last_hidden_state.float().cpu().numpy()

    return run


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, device=DEVICE, dtype=TORCH_DTYPE)


def _synchronise() -> None:
    if GPU:
        torch.cuda.synchronize()


# ---------------------------------------------------------------------------------------------
# Arithmetic
# ---------------------------------------------------------------------------------------------
def _layers_flops(config: Any, tokens: int, batch: int, kv_heads: int, *, gated: bool) -> float:
    """Matrix products of a stack: projections, MLP, and the two of attention."""
    width = config.hidden_size
    head = _head_size(config)
    projections = width * head * (2 * config.num_heads + 2 * kv_heads)
    mlp = (3 if gated else 2) * width * config.mlp_size
    products = 2.0 * batch * tokens * config.num_layers * (projections + mlp)
    return products + _attention_flops(config, tokens, batch)


def _attention_flops(config: Any, tokens: int, batch: int) -> float:
    """The two products of attention, in all layers."""
    heads, head = config.num_heads, _head_size(config)
    return 4.0 * batch * tokens**2 * heads * head * config.num_layers


def _head_size(config: Any) -> int:
    return getattr(config, "head_size", config.hidden_size // config.num_heads)


if __name__ == "__main__":
    main()

"""Measures on one NVIDIA GPU what no plan can tell, and writes docs/gpu.json.

    make gpu-check                                                # on an H100 or H200: 8 minutes
    python benchmarks/gpu_check.py --only=attention,losses --output=/tmp/gpu.json
    python benchmarks/gpu_check.py --tiny --output=/tmp/gpu.json  # the same code on a CPU

It needs jax[cuda13] and, for "torch", the environment of ``make test-parity``. The parts:

torch      encoder and predictor against torch.compile (benchmarks/backbones_vs_torch.py)
attention  cuDNN's kernel against plain attention, for each kind that the 1B model has: distance of
           results and gradients from plain attention in float32, and seconds of both
losses     ten updates of a narrow model, here and on the CPU, from the same parameters
steps      the 1B model's step for each stage at the largest batch that fits: rate, share of the
           matrix-product rate that is reached here, and memory beside what was planned

What is measured is written after each part. A part that would begin after --minutes is left out,
and said so. With --tiny all runs at sizes that mean nothing, on a CPU with the GPU's formulation of
attention: it tells that the check works before a GPU is paid for.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = ("torch", "attention", "losses", "steps")
STAGES = ("image", "video8", "sft")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="%(default)s")
    parser.add_argument("--output", default="docs/gpu.json", help="%(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="%(default)s")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU")
    chosen = parser.parse_args()
    unknown = set(chosen.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return chosen


ARGUMENTS = arguments()
TINY = ARGUMENTS.tiny
if TINY:
    os.environ["JAX_PLATFORMS"] = "cpu"
_BARE = dict(os.environ)  # of torch's part, which shares the GPU with JAX
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import jax_peak  # noqa: E402
from recipes import random_batch, recipe  # noqa: E402

from vljepa_jax.config import ShardingConfig, TrainConfig  # noqa: E402
from vljepa_jax.data.pipeline import array_spec  # noqa: E402
from vljepa_jax.models.attention import KernelError, attention, kernel  # noqa: E402
from vljepa_jax.models.placement import on_mesh  # noqa: E402
from vljepa_jax.objectives import make_objective  # noqa: E402
from vljepa_jax.parallel.chips import chip_of  # noqa: E402
from vljepa_jax.parallel.sharding import make_mesh  # noqa: E402
from vljepa_jax.training.flops import model_flops  # noqa: E402
from vljepa_jax.training.train_step import Trainer  # noqa: E402

# On a CPU, cuDNN's formulation has to be asked for.
FUSED = "cudnn" if TINY else "auto"
REPETITIONS = 2 if TINY else 10
_ONE = ShardingConfig(data=1, fsdp=1, tensor=1, rules=())


def main() -> None:
    started = time.monotonic()
    parts: dict[str, Callable[[], Any]] = {
        "torch": _torch,
        "attention": _attention,
        "losses": _losses,
        "steps": _steps,
    }
    report: dict[str, Any] = {"tiny": TINY, "parts": {}}
    # Torch's part first and in a process of its own: JAX here takes the memory and keeps it.
    for name in [part for part in parts if part in ARGUMENTS.only.split(",")]:
        minutes = (time.monotonic() - started) / 60
        if minutes > ARGUMENTS.minutes:
            report["parts"][name] = f"left out: {minutes:.1f} minutes had gone by"
        else:
            print(f"{name} ...", file=sys.stderr, flush=True)
            report["parts"][name] = parts[name]()
        if name != "torch":
            report["machine"] = _machine()
        report["minutes"] = round((time.monotonic() - started) / 60, 2)
        Path(ARGUMENTS.output).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _machine() -> dict[str, Any]:
    device = _device()
    return {
        "device": processor() if TINY else device.device_kind,
        "platform": device.client.platform_version.splitlines()[0],
        "jax": jax.__version__,
    }


def _device() -> Any:
    device = jax.devices()[0]
    if not TINY and device.platform != "gpu":
        sys.exit("error: no GPU that JAX knows: pip install 'jax[cuda13]'; or try --tiny")
    return device


def _seconds(run: Callable[[], Any]) -> float:
    """The median of some runs, after one that compiles."""
    jax.block_until_ready(run())
    taken = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _torch() -> Any:
    """The JSON of the other benchmark; what it said where it failed."""
    command = [sys.executable, "benchmarks/backbones_vs_torch.py"]
    command.append("--cases=vjepa2_8,predictor,predictor_train")
    command += ["--layers=1", "--repetitions=1"] if TINY else ["--rows=16", "--repetitions=5"]
    answer = subprocess.run(command, cwd=ROOT, env=_BARE, capture_output=True, text=True)
    if answer.returncode:
        return {"failed": answer.stderr[-2000:]}
    return json.loads(answer.stdout)


# ---------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Kind:
    """An attention of the 1B model: its shapes and masks."""

    rows: int
    tokens: int
    heads: int
    kv_heads: int
    size: int
    padded: bool = False  # rows of different lengths
    causal: bool = False
    window: int | None = None


KINDS = {
    "x_encoder, 8 frames": Kind(16, 1024, 16, 16, 64),
    "predictor, an image": Kind(64, 272, 32, 8, 64, padded=True),
    "predictor, 8 frames": Kind(16, 1040, 32, 8, 64, padded=True),
    "y_encoder": Kind(64, 512, 3, 1, 256, padded=True),
    "y_encoder, nearby": Kind(64, 512, 3, 1, 256, padded=True, window=257),
    "y_decoder": Kind(64, 135, 32, 8, 64, causal=True),
}


def _attention() -> dict[str, Any]:
    return {name: _kind(_smaller(kind) if TINY else kind) for name, kind in KINDS.items()}


def _smaller(kind: Kind) -> Kind:
    window = None if kind.window is None else 5
    return dataclasses.replace(kind, rows=2, tokens=kind.tokens // 16 + 1, size=8, window=window)


def _kind(kind: Kind) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def draw(heads: int) -> jax.Array:
        shape = (kind.rows, kind.tokens, heads, kind.size)
        return jnp.asarray(rng.standard_normal(shape, np.float32), jnp.bfloat16)

    query, key, value = draw(kind.heads), draw(kind.kv_heads), draw(kind.kv_heads)
    lengths = np.full(kind.rows, kind.tokens, np.int32)
    if kind.padded:
        lengths = rng.integers(kind.tokens // 2, kind.tokens + 1, kind.rows).astype(np.int32)
    # What stands at padding means nothing, and gets no gradient.
    there = np.arange(kind.tokens)[:, None, None] < lengths[:, None, None, None]
    weights = jnp.asarray(draw(kind.heads) * there)
    mesh = make_mesh(_ONE, [_device()])

    def compute(name: str) -> Callable:
        def loss(query, key, value):
            with kernel(name), on_mesh(mesh):
                mixed = attention(
                    query,
                    key,
                    value,
                    scale=kind.size**-0.5,
                    key_lengths=jnp.asarray(lengths) if kind.padded else None,
                    causal=kind.causal,
                    window=kind.window,
                )
            return jnp.sum(mixed * weights, dtype=jnp.float32), mixed * there

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))

    exact = compute("plain")(*(x.astype(jnp.float32) for x in (query, key, value)))
    found: dict[str, Any] = {}
    for label, name in (("cudnn", "cudnn"), ("plain", "plain")):
        run = compute(name)
        try:
            result = run(query, key, value)
        except KernelError as error:
            found[label] = {"refused": str(error)}
            continue
        errors = [
            float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            for ours, theirs in (
                (np.asarray(x, np.float32), np.asarray(y, np.float32))
                for x, y in zip(*map(jax.tree.leaves, (result, exact)), strict=True)
            )
        ]
        names = ("query_gradient", "key_gradient", "value_gradient", "result")
        seconds = _seconds(lambda run=run: run(query, key, value))
        found[label] = {
            "ms": round(seconds * 1e3, 3),
            "distance": dict(zip(names, (float(f"{x:.1e}") for x in errors), strict=True)),
        }
    return dataclasses.asdict(kind) | found


# ---------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------
def _losses() -> dict[str, Any]:
    """A step's loss after each of ten updates, here and on the CPU, both in bfloat16."""
    config = _narrow(recipe("configs/vljepa_1b.py", "video8"))
    objective = make_objective(config)
    devices = {"here": _device(), "cpu": jax.devices("cpu")[0]}
    trainers = {
        name: Trainer(config, objective, make_mesh(config.sharding, [device]))
        for name, device in devices.items()
    }
    with kernel("plain"):
        start = jax.device_get(trainers["cpu"].init())
    losses = {}
    for name, trainer in trainers.items():
        with kernel(FUSED if name == "here" else "plain"):
            step = trainer.compile(array_spec(config))
        state = jax.tree.map(
            lambda leaf, like: jax.device_put(leaf, like.sharding), start, trainer.abstract_state
        )
        losses[name] = []
        for index in range(10):
            state, metrics = step(state, trainer.put(_batch(config, index % 2)))
            losses[name].append(round(float(metrics["loss"]), 5))
    here, cpu = (np.array(losses[name]) for name in ("here", "cpu"))
    # Of the first loss: what is left of a loss that is nearly gone has no digits to compare.
    return losses | {"largest_difference": float(f"{np.max(np.abs(here - cpu)) / cpu[0]:.1e}")}


def _narrow(config: TrainConfig) -> TrainConfig:
    """Two layers of each part, with heads as wide as the 1B model's, on small clips."""
    model = config.model
    heads = {"hidden_size": 256, "num_layers": 2, "num_heads": 4, "mlp_size": 512}
    parts = {
        "x_encoder": dataclasses.replace(model.x_encoder, image_size=64, **heads),
        "predictor": dataclasses.replace(
            model.predictor, **heads, first_layer=0, num_kv_heads=2, vocab_size=1024
        ),
        "y_encoder": dataclasses.replace(
            model.y_encoder, **heads | {"num_heads": 2}, vocab_size=1024, dense_sizes=()
        ),
    }
    data = config.data
    return dataclasses.replace(
        config,
        batch_size=16,
        model=dataclasses.replace(model, **parts, embedding_size=128),
        data=dataclasses.replace(
            data,
            video=dataclasses.replace(data.video, image_size=64),
            text=dataclasses.replace(data.text, query_length=16, target_length=48),
        ),
        optimizer=dataclasses.replace(
            config.optimizer, learning_rate=3e-4, schedule="constant", warmup_steps=0
        ),
    )


def _batch(config: TrainConfig, seed: int) -> dict[str, np.ndarray]:
    """Random, with texts of different lengths."""
    rng = np.random.default_rng(seed)
    arrays = random_batch(config, seed)
    for name in ("query_mask", "target_mask"):
        rows, length = arrays[name].shape
        arrays[name] = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return arrays


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------
def _steps() -> dict[str, Any]:
    peak = jax_peak(not TINY, REPETITIONS)
    found: dict[str, Any] = {"matmul_tflops": round(peak / 1e12, 3)}
    for stage in STAGES[:1] if TINY else STAGES:
        found[stage] = _stage(stage, peak)
        gc.collect()
    return found


def _stage(stage: str, peak: float) -> dict[str, Any]:
    config = recipe("configs/vljepa_1b.py", stage)
    sharding = dataclasses.replace(config.sharding, data=1, fsdp=1)
    config = dataclasses.replace(_narrow(config) if TINY else config, sharding=sharding)
    device = _device()
    room = 2**28 if TINY else device.memory_stats()["bytes_limit"]
    rows = 2 if TINY else 32
    _, _, fixed, one = _compiled(config, rows)
    most = 8 if TINY else config.batch_size
    rows = min(most, int((0.97 * room - fixed) / one) // 8 * 8)
    while True:
        config = dataclasses.replace(config, batch_size=rows)
        try:
            return {"batch_size": rows, **_timed(config, peak)}
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or rows <= 8:
                raise
        gc.collect()
        rows = int(0.85 * rows) // 8 * 8  # cuDNN's workspaces are in no plan


def _compiled(config: TrainConfig, rows: int) -> tuple[Trainer, Any, float, float]:
    """The step of so many rows: (trainer, step, bytes whatever the rows, bytes of a row)."""
    config = dataclasses.replace(config, batch_size=rows)
    trainer = Trainer(config, make_objective(config), make_mesh(config.sharding, [_device()]))
    with kernel(FUSED):
        step = trainer.compile(array_spec(config))
    analysis = step.memory_analysis()
    batch = sum(np.prod(shape) * dtype.itemsize for shape, dtype in array_spec(config).values())
    fixed = analysis.argument_size_in_bytes - batch
    return trainer, step, float(fixed), float(batch + analysis.temp_size_in_bytes) / rows


def _timed(config: TrainConfig, peak: float) -> dict[str, Any]:
    trainer, step, fixed, one = _compiled(config, config.batch_size)
    state, batch = trainer.init(), trainer.put(_batch(config, 0))
    state, metrics = jax.block_until_ready(step(state, batch))
    start = time.perf_counter()
    for _ in range(REPETITIONS):
        state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    seconds = (time.perf_counter() - start) / REPETITIONS
    flops, chip = model_flops(config), chip_of(_device())
    held = None if TINY else _device().memory_stats()["peak_bytes_in_use"]
    return {
        "loss": round(float(metrics["loss"]), 4),
        "seconds": round(seconds, 4),
        "examples_per_second": round(config.batch_size / seconds, 1),
        "share_of_measured_peak": round(flops / seconds / peak, 3),
        "share_of_data_sheet": None if chip is None else round(flops / seconds / chip.flops, 3),
        "planned_gib": round((fixed + one * config.batch_size) / 2**30, 2),
        # Since the process began, so of the largest stage so far.
        "most_held_gib": None if held is None else round(held / 2**30, 2),
    }


if __name__ == "__main__":
    main()

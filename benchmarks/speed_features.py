"""The effect of each speed feature of the training step: the step with it, and without.

    python benchmarks/speed_features.py
    python benchmarks/speed_features.py --cases=remat,attention --repetitions=9

Sizes: "small" is configs/demo.py from pixels, "quarter" the widths of configs/vljepa_1b.py:video8
with a quarter of its layers, for two clips of 8 frames of 128 pixels. Of each pair the steps take
turns on the same batch in one process; the JSON that is printed holds the medians' ratio (above 1:
the feature is faster) and what else it changes: seconds to compile, or bytes of temporaries and
state as the compiler reports them. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
import recipes
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from machine import processor

from vljepa_jax import host
from vljepa_jax.config import OptimizerRule, TrainConfig
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.models import attention, products
from vljepa_jax.models import attention_kernels as kernels
from vljepa_jax.models.placement import Accelerator
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training.train_step import Trainer

MIB = 2**20


def small() -> TrainConfig:
    config = recipes.recipe("configs/demo.py")
    data = dataclasses.replace(config.data, visual_tokens="compute")
    return dataclasses.replace(config, data=data)


def quarter() -> TrainConfig:
    config = with_model(recipes.quarter(), dtype="float32", remat="none")
    video = dataclasses.replace(config.data.video, image_size=128)
    data = dataclasses.replace(config.data, video=video)
    return dataclasses.replace(config, batch_size=2, micro_batch_size=0, data=data)


def with_model(config: TrainConfig, **fields: Any) -> TrainConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fields))


class Step:
    """A compiled step with a state of its own."""

    def __init__(self, config: TrainConfig):
        mesh = make_mesh(config.sharding, jax.devices()[:1])
        self.trainer = Trainer(config, make_objective(config), mesh)
        traced = self.trainer.trace(array_spec(config))
        start = time.perf_counter()
        self.compiled = traced.lower().compile()
        self.compile_seconds = time.perf_counter() - start
        self.memory = self.compiled.memory_analysis()
        self.state = self.trainer.init()
        self.batch = recipes.random_batch(config, 0)

    def dispatch(self) -> dict[str, jax.Array]:
        self.state, metrics = self.compiled(self.state, self.trainer.put(self.batch))
        return metrics

    def __call__(self) -> None:
        jax.block_until_ready(self.dispatch())


def compare(plain: Callable[[], None], feature: Callable[[], None], turns: int) -> dict[str, float]:
    """Milliseconds of both, in turns, and the ratio of the medians."""
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for turn in range(turns + 1):  # the first of each warms up
        for name, run in (("without", plain), ("with", feature)):
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    without, having = (statistics.median(seconds[name]) for name in ("without", "with"))
    return {
        "without_ms": round(1e3 * without, 1),
        "with_ms": round(1e3 * having, 1),
        "ratio": round(without / having, 3),
    }


def steps(plain: Step, feature: Step, turns: int) -> dict[str, Any]:
    return compare(plain, feature, turns) | {
        "compile_seconds": [round(step.compile_seconds, 1) for step in (plain, feature)],
        "temporaries_mib": [
            round(step.memory.temp_size_in_bytes / MIB) for step in (plain, feature)
        ],
    }


# ---------------------------------------------------------------------------------------------
# The features
# ---------------------------------------------------------------------------------------------
def rows(turns: int) -> dict[str, Any]:
    """Products with kernels over one axis of rows, on CPU; "demo" from cached tokens."""
    found = {}
    for name, config in (("demo", recipes.recipe("configs/demo.py")), ("quarter", quarter())):
        with mock.patch.object(products, "accelerator", return_value=Accelerator("tpu")):
            plain = Step(config)
        found[name] = steps(plain, Step(config), turns)
    return found


def gradients(turns: int) -> dict[str, Any]:
    """Gradients of kernels alone, by each way to compute them: GFLOP in a processor's second."""
    shapes = (
        *((10_240, 512, 192), (10_240, 192, 512), (4_608, 320, 160), (4_608, 160, 40)),
        *((2_080, 2_048, 2_048), (2_080, 2_048, 512), (2_080, 2_048, 8_192)),
        *((2_080, 8_192, 2_048), (256, 768, 1_152), (256, 1_152, 768)),
    )
    ways = {
        "as_it_stands": products.as_it_stands,
        "turned": products.turned,
        "copied": products.copied,
    }
    found = {}
    for rows, inputs, outputs in shapes:
        rng = np.random.default_rng(0)
        sides = [
            jax.device_put(rng.standard_normal((rows, size), np.float32))
            for size in (inputs, outputs)
        ]
        compiled = {name: jax.jit(way) for name, way in ways.items()}
        flops = 2.0 * rows * inputs * outputs
        repeated = max(1, round(2e9 / flops))
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(turns + 1):  # the first of each compiles
            for name, way in compiled.items():
                start = time.process_time()
                for _ in range(repeated):
                    way(*sides).block_until_ready()
                if turn:
                    rates[name].append(repeated * flops / (time.process_time() - start) / 1e9)
        taken = str(jax.make_jaxpr(products.gradient_of_kernel)(*sides))
        found[f"{rows}x{inputs}x{outputs}"] = {
            name: round(statistics.median(of), 1) for name, of in rates.items()
        } | {"taken": next(n for n, w in ways.items() if str(jax.make_jaxpr(w)(*sides)) == taken)}
    return found


def bfloat16(turns: int) -> dict[str, Any]:
    return steps(Step(quarter()), Step(with_model(quarter(), dtype="bfloat16")), turns)


def remat(turns: int) -> dict[str, Any]:
    plain = Step(quarter())
    return {
        policy: steps(plain, Step(with_model(quarter(), remat=policy)), turns)
        for policy in ("dots", "full")
    }


def scan(turns: int) -> dict[str, Any]:
    return {
        name: steps(
            Step(with_model(make(), unroll_layers=True)),
            Step(with_model(make(), unroll_layers=False)),
            turns,
        )
        for name, make in (("small", small), ("quarter", quarter))
    }


def chunks(turns: int) -> dict[str, Any]:
    """Attention at 4,096 tokens, as 32 frames have: scores of a part of the queries at a time."""
    shape = (1, 4096, 16, 64)
    query, key, value = (
        np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in range(3)
    )

    def gradients(name: attention.Kernel) -> Any:
        def total(*inputs):
            return attention.attention(*inputs, scale=0.125).sum()

        with attention.kernel(name):
            return jax.jit(jax.grad(total, (0, 1, 2))).lower(query, key, value).compile()

    plain, chunked = gradients("plain"), gradients("chunked")
    found = compare(
        lambda: jax.block_until_ready(plain(query, key, value)),
        lambda: jax.block_until_ready(chunked(query, key, value)),
        turns,
    )
    temporaries = [
        round(compiled.memory_analysis().temp_size_in_bytes / MIB) for compiled in (plain, chunked)
    ]
    return found | {"temporaries_mib": temporaries}


def heads(turns: int) -> dict[str, Any]:
    """Attention over two clips of 1,024 tokens: all heads at once, and a key head at a time.

    Milliseconds of processors, forward alone: of ViT-L, and of as many query heads of which four
    share a key head.
    """
    rng = np.random.default_rng(0)
    ways = {
        name: jax.jit(functools.partial(kernel, scale=0.125, masks=kernels.Masks(None)))
        for name, kernel in (("plain", kernels.plain), ("by_heads", kernels.by_heads))
    }
    taken: dict[str, list[float]] = collections.defaultdict(list)
    for ending, key_heads in (("", 16), ("_shared", 4)):
        shapes = ((2, 1024, count, 64) for count in (16, key_heads, key_heads))
        inputs = [rng.standard_normal(shape, np.float32) for shape in shapes]
        for turn in range(turns + 1):  # the first of each compiles
            for name, run in ways.items():
                start = time.process_time()
                jax.block_until_ready(run(*inputs))
                if turn:
                    taken[name + ending].append(time.process_time() - start)
    return {name: round(1e3 * statistics.median(times), 1) for name, times in taken.items()}


def donation(turns: int) -> dict[str, Any]:
    """The state that a step gives takes the place of the one it was given."""
    del turns
    memory = Step(quarter()).memory
    return {
        "arguments_mib": round(memory.argument_size_in_bytes / MIB),
        "results_mib": round(memory.output_size_in_bytes / MIB),
        "of_these_in_place_mib": round(memory.alias_size_in_bytes / MIB),
    }


def compilation_cache(turns: int) -> dict[str, Any]:
    """The same program compiled, and found again by another process (caches in memory dropped)."""
    del turns
    with tempfile.TemporaryDirectory() as directory:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        first = Step(quarter()).compile_seconds
        jax.clear_caches()
        again = Step(quarter()).compile_seconds
        jax.config.update("jax_compilation_cache_dir", None)
        reset_cache()  # it would go on in the directory that is about to go
    return {"compile_seconds": [round(first, 1), round(again, 1)], "ratio": round(first / again, 1)}


def overlap(turns: int) -> dict[str, Any]:
    """Batches put and metrics fetched while another step is computed, as train_loop.py does; the
    batch is made anew each time, for half as long as a step takes."""
    step = Step(small())
    step()
    start = time.perf_counter()
    step()
    made_for = 0.5 * (time.perf_counter() - start)
    count = 5

    def make() -> None:
        time.sleep(made_for)  # in the loader's processes

    def one_after_the_other() -> None:
        for _ in range(count):
            make()
            jax.device_get(step.dispatch())

    def overlapping() -> None:
        before = None
        for _ in range(count):
            make()
            metrics = step.dispatch()
            if before is not None:
                jax.device_get(before)
            before = metrics
        jax.device_get(before)

    return compare(one_after_the_other, overlapping, turns)


def token_cache(turns: int) -> dict[str, Any]:
    """The demo's step from pixels and from cached tokens; it saves the decoding as well."""
    config = small()
    rules = (
        OptimizerRule("^x_encoder/", frozen=True, rate=0.0, decay=0.0),
        *config.optimizer.rules,
    )
    config = dataclasses.replace(
        config, optimizer=dataclasses.replace(config.optimizer, rules=rules)
    )
    cached = dataclasses.replace(
        config, data=dataclasses.replace(config.data, visual_tokens="cache")
    )
    shape, dtype = array_spec(cached)["visual_tokens"]
    stored = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    return steps(Step(config), Step(cached), turns) | {"bytes_a_clip": stored}


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    "rows": rows,
    "gradients": gradients,
    "bfloat16": bfloat16,
    "remat": remat,
    "scan": scan,
    "attention": chunks,
    "heads": heads,
    "donation": donation,
    "compilation_cache": compilation_cache,
    "overlap": overlap,
    "token_cache": token_cache,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="of each, in turns")
    chosen = parser.parse_args()
    names = chosen.cases.split(",")
    if unknown := sorted(set(names) - set(CASES)):
        parser.error(f"--cases: no {', '.join(unknown)}; there are {', '.join(CASES)}")
    device = jax.devices()[0]
    report: dict[str, Any] = {
        "machine": processor() if device.platform == "cpu" else device.device_kind,
        "jax": jax.__version__,
        "repetitions": chosen.repetitions,
        "cases": {},
    }
    for name in names:
        report["cases"][name] = CASES[name](chosen.repetitions)
        print(name, json.dumps(report["cases"][name]), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    host.set_up()
    main()

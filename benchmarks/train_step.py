"""Our full training step against the same step built from transformers' modules, in one process.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --cases=demo --repetitions=9
    python benchmarks/train_step.py --cases=1b        # on a GPU: the whole 1B model, ours alone

It needs the environment of ``make test-parity``. "demo" has the sizes of configs/demo.py, from
pixels; "quarter" the widths of configs/vljepa_1b.py and a quarter of its layers. Both steps go from
the same weights over the same batches, X-Encoder and token table frozen: forward, symmetric
InfoNCE, backward, clipping, AdamW with the recipe's rates and decays. The losses of the first steps
are compared before anything is timed. On a CPU both compute in float32 with the same number of
threads; on a GPU in bfloat16, torch through autocast and torch.compile. The two take turns, and the
JSON that is printed holds medians; the median ratio of a turn, by the clock and by the seconds of
processors, which other load of the machine changes less (but torch's threads wait busily: with
--threads=1 nobody waits); and shares of the best rate of matrix products reached here, of the
model's own arithmetic. Run it on a machine that does nothing else.

"1b" doubles the batch until the memory is full and gives the share of that peak for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references

CASES = ("demo", "quarter")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="%(default)s; or 1b")
    parser.add_argument("--repetitions", type=int, default=9, help="of each, in turns")
    parser.add_argument("--threads", type=int, default=host.available_cpus())
    chosen = parser.parse_args()
    unknown = set(chosen.cases.split(",")) - {*CASES, "1b"}
    if unknown:
        parser.error(f"--cases: no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}, 1b")
    return chosen


ARGUMENTS = arguments()
host.keep_memory()
# Before jax starts its threads: as many as it sees processors. Torch is told below.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGUMENTS.threads])
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs room on a GPU too

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from both_steps import CONFIGS, GPU, OurStep, their_step  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import peaks  # noqa: E402
from recipes import random_batch, recipe  # noqa: E402

from vljepa_jax.config import TrainConfig  # noqa: E402
from vljepa_jax.training.flops import model_flops  # noqa: E402

TOLERANCE = 0.03 if GPU else 1e-3  # of the losses, relative
COMPARED_STEPS = 3


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    rates = peaks(GPU, ARGUMENTS.repetitions)
    report: dict[str, Any] = {
        "machine": jax.devices()[0].device_kind if GPU else processor(),
        "threads": ARGUMENTS.threads,
        "dtype": "bfloat16" if GPU else "float32",
        "versions": {m.__name__: m.__version__ for m in (jax, torch, transformers)},
        "repetitions": ARGUMENTS.repetitions,
        "matmul_gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "cases": {},
    }
    for name in ARGUMENTS.cases.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        best = max(rates.values())
        found = _largest_batch(best) if name == "1b" else _measure(CONFIGS[name](), best)
        report["cases"][name] = found
        print(json.dumps(found), file=sys.stderr, flush=True)  # what there is, if it is cut short
        gc.collect()
    print(json.dumps(report, indent=2))


def _measure(config: TrainConfig, peak: float) -> dict[str, Any]:
    theirs, weights = their_step(config)
    ours = OurStep(config, weights)
    batches = [random_batch(config, seed) for seed in range(COMPARED_STEPS)]
    losses = {
        name: np.array([step(batch) for batch in batches])
        for name, step in (("ours", ours), ("theirs", theirs))
    }
    difference = np.max(np.abs(losses["ours"] / losses["theirs"] - 1))
    if not difference < TOLERANCE:
        raise SystemExit(f"the losses differ, there is nothing to compare: {losses}")
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for _ in range(ARGUMENTS.repetitions):
        for name, step in (("ours", ours), ("theirs", theirs)):
            start, processors = time.perf_counter(), time.process_time()
            step(batches[0])
            clock = time.perf_counter() - start
            taken[name].append((clock, time.process_time() - processors))
    median = {name: statistics.median(clock for clock, _ in pairs) for name, pairs in taken.items()}
    by_clock, by_processors = (
        statistics.median(
            theirs[which] / ours[which]
            for ours, theirs in zip(taken["ours"], taken["theirs"], strict=True)
        )
        for which in range(2)
    )
    flops = model_flops(config)
    return {
        "batch_size": config.batch_size,
        "ours_ms": round(median["ours"] * 1e3, 1),
        "torch_ms": round(median["theirs"] * 1e3, 1),
        "torch_over_ours": round(by_clock, 3),
        "torch_over_ours_by_processors": round(by_processors, 3),
        "ours_share_of_peak": round(flops / median["ours"] / peak, 3),
        "torch_share_of_peak": round(flops / median["theirs"] / peak, 3),
        "model_gflop": round(flops / 1e9, 1),
        "losses": {name: [round(float(x), 5) for x in values] for name, values in losses.items()},
        "largest_difference": float(f"{difference:.1e}"),
    }


def _largest_batch(peak: float) -> dict[str, Any]:
    """The 1B model, image stage, at growing batches until they do not fit."""
    if not GPU:
        raise SystemExit("--cases=1b needs a GPU")
    base = recipe("configs/vljepa_1b.py", "image")
    found: dict[str, Any] = {}
    batch_size = 32
    while True:
        config = dataclasses.replace(base, batch_size=batch_size)
        try:
            step = OurStep(config, None)
            batch = random_batch(config, 0)
            step(batch)
            seconds = []
            for _ in range(ARGUMENTS.repetitions):
                start = time.perf_counter()
                step(batch)
                seconds.append(time.perf_counter() - start)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return found
        median = statistics.median(seconds)
        share = model_flops(config) / median / peak
        found[str(batch_size)] = {"ms": round(median * 1e3, 1), "share_of_peak": round(share, 3)}
        del step
        gc.collect()
        batch_size *= 2


if __name__ == "__main__":
    main()

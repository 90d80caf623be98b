"""The cost of glibc's malloc in a training step on a CPU, as it is and keeping freed memory.

    python benchmarks/allocator.py
    python benchmarks/allocator.py --size=wide --ways=glibc,mallopt   # 4 GB of memory each
    python benchmarks/allocator.py --preload=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2

Each way has a process of its own, and these step in turns: "glibc" as it comes; "mallopt", as the
commands set it at their start (vljepa_jax/host.py); "environment", the same by MALLOC_* variables;
and --preload libraries. "demo" is configs/demo.py from pixels; "wide" has the widths of
configs/vljepa_1b.py:video8 and one layer a part, for two clips of 8 frames of 128 pixels. The JSON
that is printed holds medians of a step: seconds, their ratio to "mallopt", the processors' seconds,
the kernel's among them, and page faults, which other load of the machine changes less; and the most
memory that each process held.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import processor

from vljepa_jax import host

KEEP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=7, help="of each, in turns")
    parser.add_argument("--ways", default="glibc,mallopt,environment", help="%(default)s")
    parser.add_argument("--preload", action="append", default=[], help="a library with a malloc")
    parser.add_argument("--size", choices=["demo", "wide"], default="demo", help="%(default)s")
    parser.add_argument("--step", choices=["plain", "mallopt"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        if chosen.step == "mallopt":
            host.keep_memory()
        step_when_told(chosen.size)
        return
    known = {"glibc": ("plain", {}), "mallopt": ("mallopt", {}), "environment": ("plain", KEEP)}
    names = chosen.ways.split(",")
    if "mallopt" not in names or not known.keys() >= set(names):
        parser.error(f"--ways: mallopt and any others of {', '.join(known)}")
    ways = {name: known[name] for name in names}
    ways |= {Path(path).name: ("plain", {"LD_PRELOAD": path}) for path in chosen.preload}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    inherited["JAX_PLATFORMS"] = "cpu"
    children = {
        name: subprocess.Popen(
            [sys.executable, __file__, f"--step={how}", f"--size={chosen.size}"],
            env=inherited | extra,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, (how, extra) in ways.items()
    }
    measured = {name: [] for name in children}
    for turn in range(chosen.repetitions + 2):  # the first compiles, the second warms up
        for name, child in children.items():
            print(file=child.stdin, flush=True)
            answer = json.loads(child.stdout.readline())
            if turn >= 2:
                measured[name].append(answer)
    for child in children.values():
        child.communicate()
    report = {
        name: {key: statistics.median(step[key] for step in steps) for key in steps[0]}
        for name, steps in measured.items()
    }
    for found in report.values():
        found["ratio"] = round(found["seconds"] / report["mallopt"]["seconds"], 2)
    about = {"machine": processor(), "cpus": host.available_cpus(), "size": chosen.size}
    print(json.dumps(about | {"steps": report}, indent=2))


def step_when_told(size: str) -> None:
    """A training step for each line of standard input; tells what it took."""
    import jax
    from speed_features import Step, quarter, small, with_model

    config = small()
    if size == "wide":
        model = quarter().model
        parts = {
            name: dataclasses.replace(getattr(model, name), num_layers=1)
            for name in ("x_encoder", "predictor", "y_encoder")
        }
        config = with_model(quarter(), **parts)
    step = None
    for _ in sys.stdin:
        if step is None:
            step = Step(config)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        jax.block_until_ready(step.dispatch())
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        kernel = after.ru_stime - before.ru_stime
        answer = {
            "seconds": round(seconds, 3),
            "cpu_seconds": round(after.ru_utime - before.ru_utime + kernel, 3),
            "kernel_seconds": round(kernel, 3),
            "page_faults": after.ru_minflt - before.ru_minflt,
            "most_memory_gib": round(after.ru_maxrss / 2**20, 2),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

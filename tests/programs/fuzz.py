"""Reads damaged files by the commands' own functions, in processes of limited memory and time.

    python -m tests.programs.fuzz [--media=10000] [--manifests=2000] [--others=1000] [--seed=0]
        [--hours=0] [--processes=2] [--only=TARGET] [--keep=DIR]

Whatever a file is, its reader either reads it or raises an error of the package that names it. All
else is a fault: another kind of error, a crash, more than 2 GiB of memory, more than a minute. A
case is told by its target and number, and made anew from these and the seed:
--only=media --first=17 --media=1. With --hours seeds follow each other until the time is over.
Faults are printed and counted, and end it with status 1; --keep holds on to their files.
"""

import argparse
import collections
import functools
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.fuzz.targets import TARGETS
from vljepa_jax.data.process_pool import ProcessPool

_MEMORY = 2 << 30  # bytes that a case may take
_SECONDS = 60  # of a processor; and ten times as many on the clock, for what waits
_CHUNK = 20  # cases that a process is handed at a time


class Case(NamedTuple):
    target: str
    number: int
    seed: int


class Outcome(NamedTuple):
    """``fault`` is "" where a case was read or refused."""

    case: Case
    refused: bool
    fault: str


def run_case(case: Case, seeds: Path, keep: Path | None = None) -> Outcome:
    """Makes a damaged file and reads it."""
    target = TARGETS[case.target]
    rng = np.random.default_rng([case.seed, case.number, *case.target.encode()])
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        try:
            target.read(seeds / case.target, Path(scratch), rng)
        except target.expected():
            return Outcome(case, True, "")
        except BaseException:
            if keep is not None:
                shutil.copytree(scratch, keep / f"{case.target}-{case.seed}-{case.number}")
            return Outcome(case, False, traceback.format_exc())
    return Outcome(case, False, "")


def _run_limited(seeds: Path, keep: Path | None, cases: list[Case]) -> list[Outcome]:
    """In a process of its own, which ends when a case takes too long."""
    os.nice(10 - os.nice(0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain of each damaged file there
    running = seeds / f"running-{os.getpid()}"
    outcomes = []
    for case in cases:
        running.write_text(json.dumps(case))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, resource.RLIM_INFINITY))
        for timer, seconds in ((signal.ITIMER_PROF, _SECONDS), (signal.ITIMER_REAL, 600)):
            signal.setitimer(timer, seconds)
        outcomes.append(run_case(case, seeds, keep))
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
    running.unlink()
    return outcomes


def run_cases(cases: list[Case], seeds: Path, processes: int, keep: Path | None = None):
    """Yields the outcome of each case; those that end their process are found and told."""
    run = functools.partial(_run_limited, seeds, keep)
    while cases:
        done = 0
        try:
            with ProcessPool(processes) as pool:
                chunks = [cases[first : first + _CHUNK] for first in range(0, len(cases), _CHUNK)]
                for outcomes in pool.map(run, chunks):
                    yield from outcomes
                    done += len(outcomes)
        except ChildProcessError:
            # Of those that were at work, the pool has ended all but one; an empty file is of a case
            # that had not begun.
            running = (file.read_text() for file in seeds.glob("running-*"))
            suspects = [Case(*json.loads(text)) for text in running if text]
            for case in suspects:
                try:
                    with ProcessPool(1) as pool:
                        yield from next(pool.map(run, [[case]]))
                except ChildProcessError:
                    yield Outcome(case, False, "ends its process: a crash, or over its time")
            cases = [case for case in cases[done:] if case not in suspects]
            for file in seeds.glob("running-*"):
                file.unlink()
        else:
            return


def prepare(targets, folder: Path) -> None:
    """Writes the sound files of some targets."""
    for name in targets:
        (folder / name).mkdir()
        TARGETS[name].prepare(folder / name)


def make_cases(counts: dict[str, int], targets, seed: int, first: int = 0) -> list[Case]:
    """As many cases of each group as ``counts`` says, shared among its targets."""
    cases = []
    for group, count in counts.items():
        own = [name for name in targets if TARGETS[name].group == group]
        for name, number in itertools.islice(
            ((name, number) for number in itertools.count(first) for name in own),
            count if own else 0,
        ):
            cases.append(Case(name, number, seed))
    return sorted(cases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for group, count in {"media": 10_000, "manifests": 2_000, "others": 1_000}.items():
        parser.add_argument(f"--{group}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    os.environ |= {"SVT_LOG": "0", "JAX_PLATFORMS": "cpu"}
    targets = [asked.only] if asked.only else list(TARGETS)
    counts = {group: getattr(asked, group) for group in ("media", "manifests", "others")}
    began, tally, faults = time.monotonic(), collections.Counter(), 0
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        prepare(targets, Path(folder))
        for seed in itertools.count(asked.seed):
            cases = make_cases(counts, targets, seed, asked.first)
            for outcome in run_cases(cases, Path(folder), asked.processes, asked.keep):
                word = "faults" if outcome.fault else "refused" if outcome.refused else "read"
                tally[outcome.case.target, word] += 1
                if outcome.fault:
                    faults += 1
                    print(f"{outcome.case}\n{outcome.fault}", flush=True)
            if time.monotonic() - began >= asked.hours * 3600:
                break
    for name in targets:
        counted = {word: tally[name, word] for word in ("read", "refused", "faults")}
        print(f"{name}: {sum(counted.values()):,} cases, {counted}")
    print(f"seeds {asked.seed} to {seed}, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

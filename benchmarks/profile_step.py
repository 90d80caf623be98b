"""Where the time of a training step goes, ours and that of transformers' modules on torch.

    python benchmarks/profile_step.py --case=demo
    python benchmarks/profile_step.py --case=quarter --steps=5
    python benchmarks/profile_step.py --case=encoder --detail=20   # our dearest operations, too
    python benchmarks/profile_step.py --case=demo --floor          # the products alone

It needs the environment of ``make test-parity``. "demo" and "quarter" are the steps of
benchmarks/train_step.py, "encoder" is the quarter's X-Encoder alone, forward. Both libraries have
one thread on one processor, so that no two operations share it. Each traces itself: ours is read
from the trace of jax.profiler and the compiled program's text, torch's from torch.profiler. The
two take turns, and the JSON that is printed has, of each, the processor's milliseconds of a step
(the median) and how they divide:

    products      matrix products with weights, and what XLA fuses into them, forward and backward
    attention     scores, softmax and mixing
    elementwise   activations, norms, rotary embeddings, losses; reductions
    copies        what does nothing but move: copies, transposes, slices, concatenations
    optimiser     clipping and AdamW
    dispatch      the rest: between the operations

and of products, attention and the whole the share of the fastest matrix product that either
library reaches here. What a compiler fuses is counted whole: in ours, a transpose that goes into an
addition is elementwise. A step is divided by the clock; what else the machine does stretches each
part alike.

--floor prints instead what the matrix products of our program take alone, each at the better rate
of the two libraries on exactly its shapes: the time of a step in which nothing else took any.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references

KINDS = ("products", "attention", "elementwise", "copies", "optimiser", "dispatch")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=("demo", "quarter", "encoder"), required=True)
    parser.add_argument("--steps", type=int, default=9, help="of each, in turns; %(default)s")
    parser.add_argument("--floor", action="store_true", help="the products alone")
    parser.add_argument("--detail", type=int, default=0, help="so many of our operations as well")
    return parser.parse_args()


ARGUMENTS = arguments()
os.environ["JAX_PLATFORMS"] = "cpu"
host.keep_memory()
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # before jax starts its threads

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from both_steps import CONFIGS, OurStep, TorchVLJEPA, converted, their_step  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import peaks  # noqa: E402
from recipes import random_batch  # noqa: E402
from xla_operations import Product, Program, kinds_of, of_attention, traced  # noqa: E402

from vljepa_jax.config import TrainConfig  # noqa: E402
from vljepa_jax.models.video_encoder import make_video_encoder  # noqa: E402
from vljepa_jax.parallel.sharding import make_mesh  # noqa: E402
from vljepa_jax.training import count  # noqa: E402
from vljepa_jax.training.flops import traced_step  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    peak = max(peaks(False, ARGUMENTS.steps, time.process_time).values())
    pair = _encoders() if ARGUMENTS.case == "encoder" else _steps(CONFIGS[ARGUMENTS.case]())
    about: dict[str, Any] = {
        "machine": processor(),
        "threads": 1,
        "versions": {m.__name__: m.__version__ for m in (jax, torch, transformers)},
        "matmul_gflops": round(peak / 1e9, 1),
        "case": ARGUMENTS.case,
    }
    found = _floor(pair.program, peak) if ARGUMENTS.floor else _divisions(pair, peak)
    print(json.dumps(about | found, indent=2))


def _divisions(pair: Pair, peak: float) -> dict[str, Any]:
    """Both steps, divided into kinds."""
    kinds, loops = kinds_of(pair.program), pair.program.loops
    splits: dict[str, list[dict[str, float]]] = {"ours": [], "torch": []}
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    dearest: collections.Counter[str] = collections.Counter()
    for _ in range(2):  # compiled, and memory taken
        pair.ours()
        pair.theirs()
    for _ in range(ARGUMENTS.steps):
        for name, run in (("ours", pair.ours), ("torch", pair.theirs)):
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
        found, clock = traced(pair.ours)
        found = [(name, s) for name, s in found if name not in loops]
        splits["ours"].append(_divided(((kinds[name], s) for name, s in found), clock))
        dearest.update({name: s / clock / ARGUMENTS.steps for name, s in found})
        splits["torch"].append(_divided(*_their_trace(pair.theirs)))
    report: dict[str, Any] = {
        "steps": ARGUMENTS.steps,
        "gflop": {name: round(flops / 1e9, 2) for name, flops in pair.flops.items()},
    }
    for name, found in splits.items():
        taken = statistics.median(seconds[name])
        parts = {kind: taken * statistics.median(s[kind] for s in found) for kind in KINDS}
        report[name] = {
            "ms": round(1e3 * taken, 1),
            "parts_ms": {kind: round(1e3 * part, 1) for kind, part in parts.items()},
            "shares_of_peak": {
                "products": round(pair.flops["products"] / parts["products"] / peak, 3),
                "attention": round(pair.flops["attention"] / parts["attention"] / peak, 3),
                "all": round(sum(pair.flops.values()) / taken / peak, 3),
            },
        }
    ratios = (t / o for o, t in zip(seconds["ours"], seconds["torch"], strict=True))
    report["torch_over_ours"] = round(statistics.median(ratios), 3)
    if ARGUMENTS.detail:
        taken = report["ours"]["ms"]
        report["our_dearest"] = {
            f"{kinds[name]} {name} {pair.program.place(name)}": round(taken * share, 2)
            for name, share in dearest.most_common(ARGUMENTS.detail)
        }
    return report


def _floor(program: Program, peak: float) -> dict[str, Any]:
    """The time of a program's matrix products, each at its best rate."""
    counted: collections.Counter[Product] = collections.Counter()
    for name, product in program.products().items():
        counted[product] += program.turns(name)
    seconds = flops = 0.0
    products = {}
    for product, times in counted.items():
        rates = {name: product.flops / _alone(work) for name, work in _works(product).items()}
        best = max(rates, key=rates.__getitem__)
        seconds += times * product.flops / rates[best]
        flops += times * product.flops
        products[f"{times} x {product.shapes}"] = f"{best} {rates[best] / 1e9:.0f} GFLOP/s"
    return {
        "gflop": round(flops / 1e9, 2),
        "floor_ms": round(1e3 * seconds, 1),
        "share_of_peak": round(flops / seconds / peak, 3),
        "products": products,
    }


def _works(product: Product) -> dict[str, Callable[[], Any]]:
    """A product by each library."""
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal(shape, np.float32) for shape in product.shapes]
    multiply = jax.jit(lambda a, b: jax.lax.dot_general(a, b, (product.contracted, product.batch)))
    letters = [list("abcdefg"[: len(product.shapes[0])]), list("tuvwxyz"[: len(product.shapes[1])])]
    for left, right in zip(*product.contracted, strict=True):
        letters[1][right] = letters[0][left]
    for left, right in zip(*product.batch, strict=True):
        letters[1][right] = letters[0][left]
    summed = {letters[0][axis] for axis in product.contracted[0]}
    batch = [letters[0][axis] for axis in product.batch[0]]
    kept = dict.fromkeys([*batch, *letters[0], *letters[1]])  # each once, in this order
    equation = f"{''.join(letters[0])},{''.join(letters[1])}->" + "".join(
        letter for letter in kept if letter not in summed
    )
    arrays, tensors = jax.device_put(sides), [torch.from_numpy(side) for side in sides]
    return {
        "jax": lambda: multiply(*arrays).block_until_ready(),
        "torch": lambda: torch.einsum(equation, *tensors),
    }


def _alone(work: Callable[[], Any]) -> float:
    """The least of the processor's seconds for one."""
    work()
    taken = []
    for _ in range(ARGUMENTS.steps):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def _divided(operations: Iterable[tuple[str, float]], clock: float) -> dict[str, float]:
    """The share of each kind in a step that took ``clock`` seconds."""
    found = dict.fromkeys(KINDS, 0.0)
    for kind, seconds in operations:
        found[kind] += seconds / clock
    found["dispatch"] += 1.0 - sum(found.values())
    return found


# ---------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Pair:
    """The same computation of both libraries.

    Attributes:
        ours, theirs: run it once.
        program: ours, compiled.
        flops: of the matrix products: "products" and "attention".
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    program: Program
    flops: dict[str, float]


def _steps(config: TrainConfig) -> Pair:
    theirs, weights = their_step(config)
    ours = OurStep(config, weights)
    batch = random_batch(config, 0)
    mesh = make_mesh(config.sharding, jax.devices()[:1])
    return Pair(
        lambda: ours(batch),
        lambda: theirs(batch),
        Program(ours.compiled.as_text()),
        _flops(traced_step(config, mesh)),
    )


def _encoders() -> Pair:
    config = CONFIGS["quarter"]()
    model = TorchVLJEPA(config)
    params = converted(config, model)["x_encoder"]
    module = make_video_encoder(config.model)
    video = random_batch(config, 0)["video"]
    pixels = torch.as_tensor(video)

    def apply(params: Any, video: jax.Array) -> jax.Array:
        return module.apply({"params": params}, video)

    compiled = jax.jit(apply).lower(params, video).compile()
    params = jax.device_put(params)

    def theirs() -> None:
        with torch.no_grad():
            model.visual_tokens(pixels)

    return Pair(
        lambda: jax.block_until_ready(compiled(params, video)),
        theirs,
        Program(compiled.as_text()),
        _flops(count.operations(apply, params, video)),
    )


def _flops(operations: list[count.Operation]) -> dict[str, float]:
    flops = {"products": 0.0, "attention": 0.0}
    for operation in operations:
        if operation.kind == "product":
            flops["attention" if of_attention(operation.place) else "products"] += operation.flops
    return flops


# ---------------------------------------------------------------------------------------------
# torch's
# ---------------------------------------------------------------------------------------------
_THEIR_PRODUCTS = re.compile(r"aten::(mm|addmm|bmm|baddbmm|\w*convolution\w*)$")
_THEIR_COPIES = re.compile(r"aten::(copy_|clone|contiguous|cat|repeat|index|embedding)$")
_THEIR_DISPATCH = re.compile(
    r"autograd::|torch::autograd|detach$|aten::(view|_unsafe_view|reshape|t|transpose|permute|"
    r"expand|as_strided|unsqueeze|squeeze|slice|select|unbind|split|chunk|narrow|alias|detach|"
    r"empty\w*|to|_to_copy|linear|matmul|stack|result_type|item|_local_scalar_dense|"
    r"resolve_\w+|lift_fresh|scaled_dot_product_attention)$"
)


def _their_trace(run: Callable[[], Any]) -> tuple[list[tuple[str, float]], float]:
    """As ``xla_operations.traced``, by kinds."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        run()
        clock = time.perf_counter() - start
    return [(_their_kind(e), e.self_cpu_time_total / 1e6) for e in profile.events()], clock


def _their_kind(event: Any) -> str:
    names = [event.name]
    above = event
    while above := above.cpu_parent:
        names.append(above.name)
    if "optimiser" in names:
        return "optimiser"
    if any("scaled_dot_product" in name and "evaluate_function" not in name for name in names):
        return "attention"
    if any(_THEIR_PRODUCTS.match(name) for name in names):
        return "products"
    if _THEIR_DISPATCH.match(event.name):
        return "dispatch"
    return "copies" if _THEIR_COPIES.match(event.name) else "elementwise"


if __name__ == "__main__":
    main()

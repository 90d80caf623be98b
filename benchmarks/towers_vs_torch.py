"""The towers of CLIP, SigLIP 2 and PE-Core against their references on torch, in one process.

    python benchmarks/towers_vs_torch.py
    python benchmarks/towers_vs_torch.py --layers=4 --towers=pe_core_l/image,clip_b16/text

It needs the environment of ``make test-parity``. Both compute in float32 on a CPU with the same
number of threads, torch through scaled_dot_product_attention. The two take turns, both warm, and
the JSON that is printed holds the median of each, the median of the pairs' ratios (above 1: ours is
faster) with its quartiles, by the clock and by the seconds of processors, which what else the
machine does hardly changes, and the share of the best matrix-product rate that either library
reached here. Outputs are compared before anything is timed. A tower above a billion parameters runs
at truncated depth (``DEPTH``), and ``--layers`` truncates all; what is left of a layer's work does
not depend on how many there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references

TOWERS = {
    "clip_b32": ("openai/clip-vit-base-patch32", 8),
    "clip_b16": ("openai/clip-vit-base-patch16", 4),
    "clip_l": ("openai/clip-vit-large-patch14", 2),
    "clip_l_336": ("openai/clip-vit-large-patch14-336", 1),
    "siglip2_b": ("google/siglip2-base-patch16-224", 4),
    "siglip2_l": ("google/siglip2-large-patch16-256", 2),
    "siglip2_so400m": ("google/siglip2-so400m-patch14-384", 1),
    "siglip2_g": ("google/siglip2-giant-opt-patch16-256", 1),
    "pe_core_t": ("timm/PE-Core-T-16-384", 4),
    "pe_core_s": ("timm/PE-Core-S-16-384", 4),
    "pe_core_b": ("timm/PE-Core-B-16", 4),
    "pe_core_l": ("timm/PE-Core-L-14-336", 1),
    "pe_core_g": ("timm/PE-Core-bigG-14-448", 1),
}  # name -> repository, and images at a time
SIDES = ("image", "text")
TEXTS = 32
DEPTH = 8  # layers of a tower above a billion parameters
TOLERANCE = 1e-3  # max |a - b| / max |b|


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [f"{name}/{side}" for name in TOWERS for side in SIDES]
    parser.add_argument("--towers", default=",".join(names), help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=7, help="of each, in turns")
    parser.add_argument("--threads", type=int, default=host.available_cpus())
    parser.add_argument("--layers", type=int, default=None, help="of each tower, instead of all")
    chosen = parser.parse_args()
    if unknown := set(chosen.towers.split(",")) - set(names):
        parser.error(f"--towers: no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return chosen


ARGUMENTS = arguments()
host.keep_memory()
# Before jax starts its threads: as many as it sees processors. Torch is told below.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGUMENTS.threads])
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import peaks  # noqa: E402

import tests.helpers.tower_references as reference  # noqa: E402
from tests.helpers.reference_twins import torch, weights_of  # noqa: E402
from tests.helpers.tower_twins import inputs, parameters  # noqa: E402
from vljepa_jax.config import DualEncoderConfig  # noqa: E402
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS  # noqa: E402
from vljepa_jax.models.dual_encoder import DualEncoder  # noqa: E402


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    rates = peaks(False, ARGUMENTS.repetitions)
    report = {
        "machine": processor(),
        "threads": ARGUMENTS.threads,
        "versions": {m.__name__: m.__version__ for m in (jax, torch)},
        "repetitions": ARGUMENTS.repetitions,
        "matmul_gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "towers": {},
    }
    for tower in ARGUMENTS.towers.split(","):
        print(f"{tower} ...", file=sys.stderr, flush=True)
        report["towers"][tower] = found = _measure(*tower.split("/"), max(rates.values()))
        print(json.dumps(found), file=sys.stderr, flush=True)  # what there is, if it is cut short
    print(json.dumps(report, indent=2))


def _measure(name: str, side: str, peak: float) -> dict[str, float]:
    repository, images = TOWERS[name]
    config = _measured(PUBLISHED_TOWERS[repository], side)
    own = getattr(config, side)
    rows = images if side == "image" else TEXTS
    ours, theirs = _pair(config, side, rows)
    error = float(np.abs(ours() - theirs()).max() / np.abs(theirs()).max())  # compiles, warms
    if not error < TOLERANCE:
        raise SystemExit(f"{name}/{side}: the two differ by {error:.1e}: nothing to compare")
    clock: dict[str, list[float]] = {"ours": [], "torch": []}
    processors: dict[str, list[float]] = {"ours": [], "torch": []}
    pair = [("ours", ours), ("torch", theirs)]
    for _ in range(ARGUMENTS.repetitions):
        for whose, run in pair:
            start, busy = time.perf_counter(), time.process_time()
            run()
            clock[whose].append(time.perf_counter() - start)
            processors[whose].append(time.process_time() - busy)
        pair.reverse()
    median = {whose: statistics.median(times) for whose, times in clock.items()}
    flops = _flops(config, side, rows)
    return {
        "rows": rows,
        "layers": own.num_layers,
        "ours_ms": round(median["ours"] * 1e3, 2),
        "torch_ms": round(median["torch"] * 1e3, 2),
        "torch_over_ours": _ratio(clock),
        "torch_over_ours_of_processors": _ratio(processors),
        "ours_share_of_peak": round(flops / median["ours"] / peak, 3),
        "torch_share_of_peak": round(flops / median["torch"] / peak, 3),
        "gflop": round(flops / 1e9, 1),
        "difference": float(f"{error:.1e}"),
    }


def _ratio(taken: dict[str, list[float]]) -> list[float]:
    """The median of the pairs' ratios, and their quartiles."""
    ratios = np.divide(taken["torch"], taken["ours"])
    return [round(float(q), 3) for q in np.quantile(ratios, (0.5, 0.25, 0.75))]


def _measured(config: DualEncoderConfig, side: str) -> DualEncoderConfig:
    """Truncated where it has to be; the other tower, which is not run, is as small as it can be.

    Token tables are cut: a look-up has no arithmetic.
    """
    own = getattr(config, side)
    parameters_of = 12 * own.num_layers * own.hidden_size**2
    depth = ARGUMENTS.layers or (DEPTH if parameters_of > 1e9 else own.num_layers)
    layers = {"image": 1, "text": 1, side: depth}
    return dataclasses.replace(
        config,
        image=dataclasses.replace(config.image, num_layers=layers["image"]),
        text=dataclasses.replace(config.text, num_layers=layers["text"], vocab_size=1024),
    )


def _pair(config: DualEncoderConfig, side: str, rows: int) -> tuple[Callable, Callable]:
    """Both towers' embeddings of the same, of ours and of the reference's."""
    make = reference.REFERENCES[config.family]
    model = make(config) if config.family == "pe_core" else make(config, "sdpa")
    params = jax.device_put(parameters(config, weights_of(model, seed=0)))
    length = config.text.max_length
    arrays = inputs(config, 1, (length,) * rows)
    module = DualEncoder(config, unroll=True)
    pixels = arrays["images"].astype(np.float32)
    tokens = torch.tensor(arrays["tokens"], dtype=torch.long)
    if side == "image":
        given, method = (jax.numpy.asarray(pixels),), "embed_images"
        nchw = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
        forward = functools.partial(reference.embed_images, model, nchw)
    else:
        given, method = (arrays["tokens"], arrays["mask"]), lambda m, *a: m.text(*a)
        forward = functools.partial(reference.embed_texts, model, tokens)
    apply = jax.jit(lambda params, *a: module.apply({"params": params}, *a, method=method))

    @torch.inference_mode()
    def theirs() -> np.ndarray:
        return forward().numpy()

    return lambda: np.asarray(apply(params, *given)), theirs


def _flops(config: DualEncoderConfig, side: str, rows: int) -> float:
    """Matrix products of the layers and of the patches; the head's are few."""
    own = getattr(config, side)
    width = own.hidden_size
    if side == "text":
        tokens, patches = own.max_length, 0.0
    else:
        tokens = own.side**2 + own.class_token
        patches = 2.0 * rows * own.side**2 * 3 * own.patch_size**2 * width
    per_token = 4 * width**2 + 2 * width * own.mlp_size
    attention = 4.0 * rows * tokens**2 * width * own.num_layers
    return patches + 2.0 * rows * tokens * own.num_layers * per_token + attention


if __name__ == "__main__":
    main()

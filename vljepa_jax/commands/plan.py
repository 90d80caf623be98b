"""Compiles the real training step for devices that you do not have, and says what it would cost.

    python launch/plan.py --config=configs/vljepa_1b.py:image --topology=v5p:4x4x4
    python launch/plan.py --config=configs/vljepa_1b.py:video8 --topology=v5e:16x16 --sweep
    python launch/plan.py --config=configs/vljepa_1b.py:sft --topology=h100:8
    python launch/plan.py --config=configs/demo.py --topology=cpu:8
    python launch/plan.py --topology=list

It prints whether the step fits, bytes of a device by kind (the compiler's own), which attentions
are fused, FLOPs, the least time of a step that the chip's rates allow (the roofline), examples per
second, and days and chip-hours for the steps of the config. A TPU topology takes libtpu, and no
TPU: pip install -r requirements-tpu.txt. One of GPUs (h100:8; h200:24x8 is 24 hosts of 8) takes
JAX's CUDA plugin, and neither a GPU nor CUDA: pip install -r requirements-gpu-plan.txt. cpu:N and
local compile for this machine.

Where the step does not fit, the plan says what to change. --sweep tries the meshes that the devices
can form, each with the largest micro-batch that fits, and ranks them; it takes as long as its some
ten compiles. Progress goes to stderr, and with --json so does everything but one JSON object.
"""

import dataclasses
import json
import os
import resource
import sys

import rich.console
import rich.table
from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import TrainConfig, command_line, parse

_CONFIG = command_line.define_config(
    "The recipe, FILE[:variant]; --config.a.b=value overrides.", required=False
)
_TOPOLOGY = flags.DEFINE_string("topology", None, "What to compile for; 'list' shows names.")
_SWEEP = flags.DEFINE_bool("sweep", False, "Try meshes and micro-batches, and rank what fits.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")
_ATTENTION = flags.DEFINE_enum(
    "attention", "auto", ["auto", "plain", "chunked", "splash", "cudnn"], "The attention kernel."
)
flags.mark_flag_as_required("topology")


def main() -> int | None:
    # This process only compiles: a TPU or GPU of this machine is not taken, unless asked for.
    if _TOPOLOGY.value != "local":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from vljepa_jax.models.attention import KernelError, kernel
    from vljepa_jax.parallel.chips import TOPOLOGIES, TopologyError, topology_devices
    from vljepa_jax.planning.plan import PlanError, plan
    from vljepa_jax.planning.sweep import advice, sweep

    console = terminal.PlainConsole(stderr=_JSON.value)
    if _TOPOLOGY.value == "list":
        console.print("\n".join((*TOPOLOGIES, "cpu:N", "local")), highlight=False)
        return None
    if _CONFIG.value is None:
        sys.exit("error: --config must name a recipe")
    with (
        command_line.explained(KernelError, TopologyError, PlanError),
        kernel(_ATTENTION.value),
    ):
        config = parse(TrainConfig, _CONFIG.value)
        devices = topology_devices(_TOPOLOGY.value)
        if not _SWEEP.value:
            with console.status(f"Compiling for {len(devices)} devices ..."):
                found = plan(config, devices)
            if _JSON.value:
                print(json.dumps(_plain(found), indent=2))
            else:
                _show(found, advice(found), console)
            return 0 if found.fits is not False else 1
        ranked = []
        with console.status(f"Compiling for {len(devices)} devices, mesh after mesh ..."):
            for found in sweep(config, devices):
                console.print(_line(found), highlight=False)
                ranked.append(found)
        ranked.sort(key=_rank)
        if _JSON.value:
            print(json.dumps([_plain(found) for found in ranked], indent=2))
        else:
            _show_ranked(ranked, console)
        if not ranked:
            sys.exit("error: no mesh divides the batch and holds the state; take more devices")
        return 0 if ranked[0].fits is not False else 1


def _rank(found) -> tuple[bool, float, float]:
    """Fitting ones first, the fastest first, of these what sends least.

    Without a chip's rates, those that take least room.
    """
    line = found.roofline
    return found.fits is False, *((line.seconds, line.network) if line else (found.memory.total, 0))


def _line(found) -> str:
    mesh = " x ".join(f"{axis} {size}" for axis, size in found.mesh.items())
    rows = found.micro_batch_size or "all"
    return f"{mesh}, {rows} rows: {_fits(found)}, {_gib(found.memory.total)} GiB" + (
        f", {_seconds(found.roofline.seconds)}" if found.roofline else ""
    )


def _fits(found) -> str:
    return {True: "fits", False: "does not fit", None: "memory of the device unknown"}[found.fits]


def _show(found, change: str | None, console: rich.console.Console) -> None:
    mesh = ", ".join(f"{axis} {size}" for axis, size in found.mesh.items())
    table = rich.table.Table(title=f"{_fits(found).capitalize()} ({mesh})", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    for name, value in dataclasses.asdict(found.memory).items():
        table.add_row(f"device memory: {name}", f"{_gib(value)} GiB")
    table.add_row("device memory: all", f"{_gib(found.memory.total)} GiB")
    if found.chip is not None:
        table.add_row(f"device memory: of {found.chip.kind}", f"{_gib(found.chip.memory)} GiB")
        if found.chip.usable < 1:
            room = found.chip.usable * found.chip.memory
            table.add_row("device memory: of this for the step", f"{_gib(room)} GiB")
    table.add_section()
    table.add_row("FLOPs of a step, as executed", f"{found.flops:.4g}")
    table.add_row("FLOPs of a step, nothing recomputed", f"{found.model_flops:.4g}")
    table.add_row("memory traffic of a device", f"{found.bytes / 1e9:.2f} GB")
    for kind, value in sorted(found.sent.items()):
        table.add_row(f"sent by a device: {kind}", f"{value / 1e9:.2f} GB")
        if between := found.sent_between_hosts.get(kind):
            table.add_row("  of this to other hosts", f"{between / 1e9:.2f} GB")
    for attention, ways in found.fused.items():
        queries, keys, size = attention.split("x")
        table.add_row(
            f"fused attention: {queries} x {keys} tokens, heads of {size}", " and ".join(ways)
        )
    if found.roofline is not None:
        line = found.roofline
        table.add_section()
        table.add_row("compute", _seconds(line.compute))
        table.add_row("waiting for memory", _seconds(line.memory))
        table.add_row("network (hidden while it can be)", _seconds(line.network))
        for part, seconds in sorted(line.parts.items(), key=lambda item: -item[1]):
            table.add_row(f"  of compute and memory: {part}", _seconds(seconds))
        table.add_row("roofline time of a step", _seconds(line.seconds))
        table.add_row("share of peak, nothing recomputed", f"{line.share:.1%}")
        table.add_row("most time goes to", line.limit)
        table.add_section()
        table.add_row("examples per second", f"{found.examples_per_second:.1f}")
        if found.clips_per_host:
            table.add_row(
                f"clips of {found.frames} frames that a host decodes in a second",
                f"{found.clips_per_host:.0f}",
            )
        table.add_row(f"days for {found.steps} steps", f"{found.days:.2f}")
        table.add_row("chip-hours", f"{found.chip_hours:.0f}")
    table.add_row("size of a checkpoint", f"{_gib(found.checkpoint)} GiB")
    console.print(table)
    if change is not None:
        console.print(f"To make it fit: {change}.", highlight=False)


def _show_ranked(ranked, console: rich.console.Console) -> None:
    table = rich.table.Table(title="Best first: data x fsdp x tensor")
    left = ("mesh", "fits", "limit")
    names = ("micro-batch", "GiB a device", "step", "examples/s", "share of peak")
    for name in (left[0], names[0], left[1], *names[1:], left[2]):
        table.add_column(name, justify="left" if name in left else "right")
    for found in ranked:
        line = found.roofline
        table.add_row(
            " x ".join(map(str, found.mesh.values())),
            str(found.micro_batch_size or "all"),
            _fits(found),
            _gib(found.memory.total),
            *(
                (
                    _seconds(line.seconds),
                    f"{found.examples_per_second:.0f}",
                    f"{line.share:.1%}",
                    line.limit,
                )
                if line
                else ("-",) * 4
            ),
        )
    console.print(table)


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def _plain(found) -> dict:
    from vljepa_jax.planning.sweep import next_micro_batch_size

    plain = dataclasses.asdict(found)
    if found.roofline:
        plain["roofline"] |= {"seconds": found.roofline.seconds, "limit": found.roofline.limit}
    return plain | {
        "fits": found.fits,
        "next_micro_batch_size": next_micro_batch_size(found),
        "examples_per_second": found.examples_per_second,
        "clips_per_host": found.clips_per_host,
        "days": found.days,
        "chip_hours": found.chip_hours,
    }


def _start_with_deep_stacks() -> None:
    """Starts this command anew, with stacks of any depth, where the system allows it.

    libtpu's compiler recurses so deeply, in threads of its own, that the process ended with a
    segmentation fault: so with the image stage on tpu7x. Stacks are sized as a process starts.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_STACK)
    if limit != most == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_STACK, (most, most))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run() -> None:
    _start_with_deep_stacks()
    command_line.run(main)

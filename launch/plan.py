"""Compiles the real training step for devices that you do not have, and says what it would cost.

    python launch/plan.py --config=configs/vljepa_1b.py:image --topology=v5p:4x4x4
    python launch/plan.py --config=configs/vljepa_1b.py:video8 --topology=v5e:16x16 --sweep
    python launch/plan.py --config=configs/demo.py --topology=cpu:8
    python launch/plan.py --topology=list

It prints whether the step fits, bytes of a device by kind (the compiler's own), FLOPs, the least
time of a step that the chip's rates allow (the roofline), examples per second, and days and
chip-hours for the steps of the config. A TPU topology takes libtpu, and no TPU:
pip install -r requirements-tpu.txt. cpu:N and local compile for this machine.

--sweep tries the meshes that the devices can form, and ranks what fits. Progress goes to stderr,
and with --json so does everything but one JSON object.
"""

import dataclasses
import json
import os
import sys

import rich.console
import rich.table
from absl import flags

from vljepa_jax import command_line
from vljepa_jax.config import TrainConfig, parse

_CONFIG = command_line.define_config(
    "The recipe, FILE[:variant]; --config.a.b=value overrides.", required=False
)
_TOPOLOGY = flags.DEFINE_string("topology", None, "What to compile for; 'list' shows names.")
_SWEEP = flags.DEFINE_bool("sweep", False, "Try all meshes, and rank what fits.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")
_ATTENTION = flags.DEFINE_enum(
    "attention", "auto", ["auto", "plain", "chunked", "splash", "cudnn"], "The attention kernel."
)
flags.mark_flag_as_required("topology")


def main() -> int | None:
    # This process only compiles: a TPU or GPU of this machine is not taken, unless asked for.
    if _TOPOLOGY.value != "local":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from vljepa_jax.models.attention import kernel
    from vljepa_jax.planning.chips import TOPOLOGIES, TopologyError, topology_devices
    from vljepa_jax.planning.plan import PlanError, plan, sweep

    console = rich.console.Console(stderr=_JSON.value)
    if _TOPOLOGY.value == "list":
        console.print("\n".join((*TOPOLOGIES, "cpu:N", "local")), highlight=False)
        return None
    if _CONFIG.value is None:
        sys.exit("error: --config must name a recipe")
    with command_line.explained(TopologyError, PlanError), kernel(_ATTENTION.value):
        config = parse(TrainConfig, _CONFIG.value)
        devices = topology_devices(_TOPOLOGY.value)
        if not _SWEEP.value:
            with console.status(f"Compiling for {len(devices)} devices ..."):
                found = plan(config, devices)
            if _JSON.value:
                print(json.dumps(_plain(found), indent=2))
            else:
                _show(found, console)
            return 0 if found.fits is not False else 1
        ranked = []
        for candidate, found in sweep(config, devices):
            console.print(_line(candidate, found), highlight=False)
            ranked.append((candidate, found))
        ranked.sort(key=_rank)
        if _JSON.value:
            print(json.dumps([_plain(found) for _, found in ranked], indent=2))
        else:
            _show_ranked(ranked, console)
        return 0 if ranked and ranked[0][1].fits is not False else 1


def _rank(entry) -> tuple[bool, float]:
    """Fitting ones first, the fastest first; without a chip's rates, those that take least room."""
    _, found = entry
    return found.fits is False, found.roofline.seconds if found.roofline else found.memory.total


def _line(config: TrainConfig, found) -> str:
    mesh = " x ".join(f"{axis} {size}" for axis, size in found.mesh.items())
    return f"{mesh}: {_fits(found)}, {_gib(found.memory.total)} GiB" + (
        f", {found.roofline.seconds:.3f} s" if found.roofline else ""
    )


def _fits(found) -> str:
    return {True: "fits", False: "does not fit", None: "memory of the device unknown"}[found.fits]


def _show(found, console: rich.console.Console) -> None:
    mesh = ", ".join(f"{axis} {size}" for axis, size in found.mesh.items())
    table = rich.table.Table(title=f"{_fits(found).capitalize()} ({mesh})", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    for name, value in dataclasses.asdict(found.memory).items():
        table.add_row(f"device memory: {name}", f"{_gib(value)} GiB")
    table.add_row("device memory: all", f"{_gib(found.memory.total)} GiB")
    if found.chip is not None:
        table.add_row(f"device memory: of {found.chip.kind}", f"{_gib(found.chip.memory)} GiB")
    table.add_section()
    table.add_row("FLOPs of a step, as executed", f"{found.flops:.4g}")
    table.add_row("FLOPs of a step, nothing recomputed", f"{found.model_flops:.4g}")
    table.add_row("memory traffic of a device", f"{found.bytes / 1e9:.2f} GB")
    for kind, value in sorted(found.sent.items()):
        table.add_row(f"sent by a device: {kind}", f"{value / 1e9:.2f} GB")
    if found.roofline is not None:
        line = found.roofline
        table.add_section()
        table.add_row("compute", f"{line.compute:.3f} s")
        table.add_row("waiting for memory", f"{line.memory:.3f} s")
        table.add_row("network (hidden while it can be)", f"{line.network:.3f} s")
        for part, seconds in sorted(line.parts.items(), key=lambda item: -item[1]):
            table.add_row(f"  of compute and memory: {part}", f"{seconds:.3f} s")
        table.add_row("roofline time of a step", f"{line.seconds:.3f} s")
        table.add_row("share of peak, nothing recomputed", f"{line.share:.1%}")
        table.add_row("most time goes to", line.limit)
        table.add_section()
        table.add_row("examples per second", f"{found.examples_per_second:.1f}")
        table.add_row(f"days for {found.steps} steps", f"{found.days:.2f}")
        table.add_row("chip-hours", f"{found.chip_hours:.0f}")
    console.print(table)


def _show_ranked(ranked, console: rich.console.Console) -> None:
    table = rich.table.Table(title="Best first")
    for name in ("mesh", "fits", "GiB a device", "step", "examples/s", "share of peak", "limit"):
        table.add_column(name, justify="left" if name in ("mesh", "fits", "limit") else "right")
    for _, found in ranked:
        line = found.roofline
        table.add_row(
            " x ".join(map(str, found.mesh.values())),
            _fits(found),
            _gib(found.memory.total),
            *(
                (
                    f"{line.seconds:.3f} s",
                    f"{found.examples_per_second:.0f}",
                    f"{line.share:.1%}",
                    line.limit,
                )
                if line
                else ("-",) * 4
            ),
        )
    console.print(table)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def _plain(found) -> dict:
    plain = dataclasses.asdict(found)
    if found.roofline:
        plain["roofline"] |= {"seconds": found.roofline.seconds, "limit": found.roofline.limit}
    return plain | {
        "fits": found.fits,
        "examples_per_second": found.examples_per_second,
        "days": found.days,
        "chip_hours": found.chip_hours,
    }


if __name__ == "__main__":
    command_line.run(main)

"""Plans stages of recipes for chips; writes the tables of docs/scaling.md and docs/open_model.md.

    pip install -r requirements-tpu.txt        # and for GPUs, requirements-gpu-plan.txt
    python docs/make_scaling.py                          # what is missing, or chosen otherwise now
    python docs/make_scaling.py --only=video8 --again    # these alone, made anew
    python docs/make_scaling.py --only=none              # the table alone

Each plan is ``launch/plan.py`` in a process of its own: about four minutes of processor time, more
in micro-batches. What does not fit is planned again with less: what the backward pass keeps, then
the rows at a time. The JSON of what fits is kept in docs/scaling/ as soon as it is there, so that
the command can be stopped and goes on. The table is made of those files.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANS = ROOT / "docs" / "scaling"
STAGES = ("image", "video8", "video32", "sft")  # of configs/vljepa_1b.py
# Of configs/vljepa_open.py: the questions are most of what it costs.
OPEN_STAGES = ("small_captions", "small", "base_captions", "base")
# The recipe divides the state over all devices, which leaves most room for activations, and keeps
# the inputs of layers alone ("full"). Where there is room for the results of their products
# ("dots"), a backward pass computes less.
RECIPE: dict[str, str | int] = {}
DOTS: dict[str, str | int] = {"model.remat": "dots"}
# The paper's cluster: 24 hosts of 8, parameters divided within a host.
BY_HOST: dict[str, str | int] = {"sharding.data": 24, "sharding.fsdp": 8}


def _pieces(rows: int) -> dict[str, str | int]:
    """Micro-batches compute the forward pass again; with "dots" little else is."""
    return DOTS | {"micro_batch_size": rows}


# topology -> stage -> what differs from the recipe there
CHOSEN = {
    "v5e:16x16": dict.fromkeys(STAGES, RECIPE),
    "v5p:4x4x4": {"image": DOTS, "video8": RECIPE, "video32": RECIPE, "sft": DOTS},
    "v6e:16x16": {"image": DOTS, "video8": RECIPE, "video32": RECIPE, "sft": DOTS},
    "tpu7x:4x4x4": {"image": RECIPE, "video8": DOTS, "video32": RECIPE, "sft": DOTS},
    "h200:24x8": {
        **dict.fromkeys(("image", "video8", "sft"), BY_HOST | DOTS),
        "video32": BY_HOST,
    },
    "h200:8": {
        "image": RECIPE,
        "video8": _pieces(1024),
        "video32": _pieces(256),
        "sft": _pieces(512),
    },
    "h100:8": {
        "image": _pieces(2048),
        "video8": _pieces(512),
        "video32": _pieces(128),
        "sft": _pieces(256),
    },
    "b200:8": {
        "image": RECIPE,
        "video8": _pieces(1536),
        "video32": _pieces(384),
        "sft": _pieces(768),
    },
    "a100-80gb:8": {
        "image": _pieces(2048),
        "video8": _pieces(512),
        "video32": _pieces(128),
        "sft": _pieces(256),
    },
}
# One GPU of 24 GB, one of 80 GB, and a small slice, on which the state of :base is divided.
DIVIDED: dict[str, str | int] = {"sharding.data": 1, "sharding.fsdp": 8}
OPEN_CHOSEN = {
    "l4:1": dict.fromkeys(("small", "base"), RECIPE),
    "h100:1": dict.fromkeys(("small", "base"), RECIPE),
    "v5e:2x4": {
        **dict.fromkeys(("small_captions", "small"), RECIPE),
        **dict.fromkeys(("base_captions", "base"), DIVIDED),
    },
}
# US dollars of an hour of one chip, from memory.
PRICES = {"l4:1": 0.7, "h100:1": 3.0, "v5e:2x4": 1.25}
_INTRODUCTION = "Where the seconds of a step go, of the whole step and of its parts:"
_GPUS = "What GPUs send a step and what their hosts decode, with the attentions that are fused:"
START, END = "<!-- plans -->", "<!-- end of plans -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a stage, a topology, or none")
    parser.add_argument("--again", action="store_true", help="plans that are there already, too")
    arguments = parser.parse_args()
    known = (*STAGES, *OPEN_STAGES, *CHOSEN, *OPEN_CHOSEN)
    if arguments.only not in ("", "none", *known):
        parser.error(f"--only: '{arguments.only}' is none of {', '.join(known)}")
    PLANS.mkdir(exist_ok=True)
    for topology, stages in (CHOSEN | OPEN_CHOSEN).items():
        for stage, fields in stages.items():
            path = _path(topology, stage)
            made = path.exists() and json.loads(path.read_text())["chosen"] == fields
            if (arguments.again or not made) and arguments.only in ("", stage, topology):
                _plan(topology, stage, fields)
                _write_tables()
    _write_tables()


def _write_tables() -> None:
    _write("scaling.md", _table(), "", _INTRODUCTION, "", _limits(), "", _GPUS, "", _gpus())
    _write("open_model.md", _open_table())


def _write(page: str, *lines: str) -> None:
    """Puts lines between the marks of a page."""
    path = ROOT / "docs" / page
    text = path.read_text()
    before, after = text[: text.index(START)], text[text.index(END) :]
    path.write_text(before + "\n".join((START, *lines)) + f"\n{after}")


def _plan(topology: str, stage: str, fields: dict[str, str | int]) -> None:
    """Keeps the first plan that fits."""
    chosen = fields
    found = _planned(topology, stage, fields)
    if not found["fits"] and fields == DOTS:
        fields = RECIPE
        found = _planned(topology, stage, fields)
    while not found["fits"]:
        size = found["next_micro_batch_size"]
        if size is None:
            sys.exit(f"error: {stage} does not fit {topology}")
        fields = fields | {"micro_batch_size": size}
        found = _planned(topology, stage, fields)
    _path(topology, stage).write_text(json.dumps({"chosen": chosen} | found, indent=2) + "\n")


def _planned(topology: str, stage: str, fields: dict[str, str | int]) -> dict:
    recipe = "vljepa_open" if stage in OPEN_STAGES else "vljepa_1b"
    command = [
        *(sys.executable, "launch/plan.py", "--json"),
        *(f"--config=configs/{recipe}.py:{stage}", f"--topology={topology}"),
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]
    print(" ".join(command), file=sys.stderr, flush=True)
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if not answer.stdout.startswith("{"):
        sys.exit(answer.stderr)
    found = {"command": command[1:], "fields": fields} | json.loads(answer.stdout)
    held = sum(found["memory"].values()) / 2**30
    print(f"  fits: {found['fits']}, {held:.1f} GiB", file=sys.stderr, flush=True)
    return found


def _path(topology: str, stage: str) -> Path:
    return PLANS / f"{stage}-{topology.replace(':', '-')}.json"


def _table() -> str:
    names = (
        *("stage", "topology", "mesh", "remat", "micro-batch", "GiB of a device", "of"),
        "step (s)",
        *("examples/s", "share of peak", "limit", "days", "chip-hours"),
    )
    rows = [names, ["---"] * len(names)]
    return _lines([*rows, *(_row(*made) for made in _made(STAGES, CHOSEN))])


def _open_table() -> str:
    names = (
        *("stage", "chips", "micro-batch", "GiB of a device", "of", "step (s)", "examples/s"),
        *("share of peak", "limit", "hours", "chip-hours", "US$"),
    )
    rows = [names, ["---"] * len(names)]
    for stage, topology, plan in _made(OPEN_STAGES, OPEN_CHOSEN):
        shared = _measures(plan)
        hours = f"{24 * plan['days']:.1f}"
        cost = f"{PRICES[topology] * plan['chip_hours']:.0f}"
        rows.append([f"`:{stage}`", topology, *shared, hours, f"{plan['chip_hours']:.1f}", cost])
    return _lines(rows)


def _made(stages: Iterable[str], topologies: Iterable[str]) -> Iterator[tuple[str, str, dict]]:
    """(stage, topology, plan) of those that are there."""
    for stage in stages:
        for topology in topologies:
            if (path := _path(topology, stage)).exists():
                yield stage, topology, json.loads(path.read_text())


def _limits() -> str:
    """Where the time of each plan goes: seconds, and executed over asked arithmetic."""
    names = (
        *("stage", "topology", "executed / asked", "compute", "waiting for memory", "network"),
        *("X-Encoder", "predictor", "Y-Encoder", "loss, update"),
    )
    rows = [names, ["---"] * len(names)]
    for stage, topology, plan in _made(STAGES, CHOSEN):
        line, parts = plan["roofline"], plan["roofline"]["parts"]
        seconds = [line[name] for name in ("compute", "memory", "network")]
        seconds += [parts[name] for name in ("x_encoder", "predictor", "y_encoder", "loss, update")]
        again = f"{plan['flops'] / plan['model_flops']:.2f}"
        rows.append([stage, topology, again, *(f"{second:.3f}" for second in seconds)])
    return _lines(rows)


def _gpus() -> str:
    names = (
        *("stage", "topology", "GB by NVLink", "GB to other hosts", "clips/s of a host"),
        *("frames", "checkpoint (GiB)", "fused forward and backward", "fused forward"),
    )
    rows = [names, ["---"] * len(names)]
    for stage, topology, plan in _made(STAGES, CHOSEN):
        if plan["chip"]["kind"].startswith("NVIDIA"):
            between = sum(plan["sent_between_hosts"].values())
            both, forward = (
                [name for name, ways in plan["fused"].items() if ("backward" in ways) == trained]
                for trained in (True, False)
            )
            rows.append(
                [
                    *(stage, topology, f"{(sum(plan['sent'].values()) - between) / 1e9:.1f}"),
                    *(f"{between / 1e9:.2f}", f"{plan['clips_per_host']:.0f}"),
                    *(str(plan["frames"]), f"{plan['checkpoint'] / 2**30:.1f}"),
                    *(", ".join(both), ", ".join(forward)),
                ]
            )
    return _lines(rows)


def _lines(rows: list) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(stage: str, topology: str, plan: dict) -> list[str]:
    return [
        stage,
        topology,
        " x ".join(str(size) for size in plan["mesh"].values()),
        plan["fields"].get("model.remat", "full"),
        *_measures(plan),
        f"{plan['days']:.1f}",
        f"{plan['chip_hours']:.0f}",
    ]


def _measures(plan: dict) -> list[str]:
    """What of a plan stands in both tables, from the micro-batch to what limits it."""
    line = plan["roofline"]
    held = sum(plan["memory"].values()) / 2**30
    return [
        str(plan["micro_batch_size"] or "all"),
        f"{held:.1f}",
        f"{plan['chip']['memory'] / 2**30:.0f}",
        f"{line['seconds']:.3f}",
        f"{plan['examples_per_second']:.0f}",
        f"{line['share']:.0%}",
        line["limit"],
    ]


if __name__ == "__main__":
    main()

"""Plans the four stages of configs/vljepa_1b.py on TPUs, and writes the table of docs/scaling.md.

    pip install -r requirements-tpu.txt
    python docs/make_scaling.py                  # all plans: an hour on a few cores
    python docs/make_scaling.py --only=video8    # these alone; the others' rows stay

Each plan is ``launch/plan.py`` in a process of its own; its JSON is kept in docs/scaling/, and the
table is made of those.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANS = ROOT / "docs" / "scaling"
STAGES = ("image", "video8", "video32", "sft")
# topology -> stage -> what differs from the recipe there: chosen by --sweep
CHOSEN: dict[str, dict[str, dict[str, int]]] = {
    "v5e:16x16": {stage: {"sharding.fsdp": 256} for stage in STAGES},
    "v5p:4x4x4": {stage: {"sharding.fsdp": 64} for stage in STAGES},
    "v6e:16x16": {stage: {"sharding.fsdp": 256} for stage in STAGES},
    "tpu7x:4x4x4": {stage: {"sharding.fsdp": 128} for stage in STAGES},
}
START, END = "<!-- plans -->", "<!-- end of plans -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a stage, or a topology")
    only = parser.parse_args().only
    PLANS.mkdir(exist_ok=True)
    for topology, stages in CHOSEN.items():
        for stage, fields in stages.items():
            if only in ("", stage, topology):
                _plan(topology, stage, fields)
    page = ROOT / "docs" / "scaling.md"
    text = page.read_text()
    before, after = text[: text.index(START)], text[text.index(END) :]
    page.write_text(f"{before}{START}\n{_table()}\n{after}")


def _plan(topology: str, stage: str, fields: dict[str, int]) -> None:
    command = [
        *(sys.executable, "launch/plan.py", "--json"),
        *(f"--config=configs/vljepa_1b.py:{stage}", f"--topology={topology}"),
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]
    print(" ".join(command), file=sys.stderr, flush=True)
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if not answer.stdout.startswith("{"):
        sys.exit(answer.stderr)
    found = {"command": command[1:], "fields": fields} | json.loads(answer.stdout)
    _path(topology, stage).write_text(json.dumps(found, indent=2) + "\n")


def _path(topology: str, stage: str) -> Path:
    return PLANS / f"{stage}-{topology.replace(':', '-')}.json"


def _table() -> str:
    names = (
        *("stage", "topology", "mesh", "micro-batch", "GiB of a device", "of", "step (s)"),
        *("examples/s", "share of peak", "limit", "days", "chip-hours"),
    )
    rows = [names, ["---"] * len(names)]
    for stage in STAGES:
        for topology in CHOSEN:
            path = _path(topology, stage)
            if path.exists():
                rows.append(_row(stage, topology, json.loads(path.read_text())))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(stage: str, topology: str, plan: dict) -> list[str]:
    line = plan["roofline"]
    held = sum(plan["memory"].values()) / 2**30
    return [
        stage,
        topology,
        " x ".join(str(size) for size in plan["mesh"].values()),
        str(plan["fields"].get("micro_batch_size", "all")),
        f"{held:.1f}" if plan["fits"] else f"**{held:.1f}: does not fit**",
        f"{plan['chip']['memory'] / 2**30:.0f}",
        f"{line['seconds']:.3f}",
        f"{plan['examples_per_second']:.0f}",
        f"{line['share']:.0%}",
        line["limit"],
        f"{plan['days']:.1f}",
        f"{plan['chip_hours']:.0f}",
    ]


if __name__ == "__main__":
    main()

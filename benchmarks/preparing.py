"""Preparation of many rows, killed now and then: rows a second, memory, and whether bytes stay.

    python benchmarks/preparing.py --rows=2000000 --processes=2
    python benchmarks/preparing.py --rows=200000 --kills=5

Rows are made up: captions, ten of an image that follow each other, as lines of a few files. They
are prepared by the command, ``launch/prepare.py --dataset=plm_sft --noembed --nodecode``, once as
it is, and with --kills again, killed with SIGKILL, all its processes at once, whenever one more
equal part of the shares is written, and started again. Memory is the largest resident set, of
each process and of all together, looked at every half second. The JSON that is printed has the
figures.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

REPOSITORY = pathlib.Path(__file__).parents[1]
_FILES, _IMAGES, _OF_AN_IMAGE = 16, 1000, 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000, help="%(default)s")
    parser.add_argument("--processes", type=int, default=2, help="%(default)s")
    parser.add_argument("--share_mib", type=int, default=8, help="of a share; %(default)s")
    parser.add_argument("--kills", type=int, default=0, help="of a second preparation; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "source")
        _write_source(root, options.rows)
        first = pathlib.Path(folder, "first", "rows")
        seconds, used, largest, together = _prepare(root, first, options)
        card = json.loads((first / "card.json").read_text())
        report = {
            "rows": card["rows"],
            "annotations": card["annotations"],
            "source_bytes": sum(path.stat().st_size for path in root.glob("*.jsonl")),
            "dataset_bytes": sum(path.stat().st_size for path in first.iterdir()),
            "processes": options.processes,
            "seconds": round(seconds, 1),
            "rows_per_second": round(card["rows"] / seconds),
            "processor_seconds": round(used, 1),
            "largest_process_mib": largest >> 20,
            "all_processes_mib": together >> 20,
        }
        if options.kills:
            second = pathlib.Path(folder, "second", "rows")
            shares, kills = json.loads((first / "job.json").read_text())["shares"], 0
            while not second.exists():
                written = shares * (kills + 1) // (options.kills + 1)
                _prepare(root, second, options, written if kills < options.kills else None)
                if not second.exists():
                    kills += 1
                    found = _written(second)
                    print(f"kill {kills}: {found} shares are written", file=sys.stderr, flush=True)
            report["kills"] = kills
            report["same_bytes"] = _digests(first) == _digests(second)
    print(json.dumps(report, indent=2))
    if not report.get("same_bytes", True):
        raise SystemExit("a preparation that was killed and given again wrote other bytes")


def _write_source(root: pathlib.Path, rows: int) -> None:
    (root / "images").mkdir(parents=True)
    for index in range(_IMAGES):
        pixels = np.full((16, 16, 3), index % 256, np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index}.jpg")
    each = rows // _FILES
    for number in range(_FILES):
        with open(root / f"{number:02d}.jsonl", "w") as file:
            for row in range(each + (rows % _FILES if number == 0 else 0)):
                image = row // _OF_AN_IMAGE % _IMAGES
                text = f"Caption {row} of file {number}, of usual length for a picture like this."
                file.write(json.dumps({"image": f"images/{image}.jpg", "text": text}) + "\n")


def _prepare(
    root: pathlib.Path,
    output: pathlib.Path,
    options: argparse.Namespace,
    kill_at: int | None = None,
) -> tuple[float, float, int, int]:
    """Runs the command, or kills it and its processes once ``kill_at`` shares are written.

    Returns:
        Seconds of the clock and of all processes, as they were seen last; and bytes that the
        largest process, and all together, had in memory.
    """
    output.parent.mkdir(exist_ok=True)
    command = [
        *(sys.executable, str(REPOSITORY / "launch" / "prepare.py"), "--dataset=plm_sft"),
        *(f"--root={root}", f"--output={output}", f"--num_workers={options.processes}"),
        *("--noembed", "--nodecode", f"--share_mib={options.share_mib}"),
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    largest = together = 0
    used: dict[int, float] = {}
    while process.poll() is None:
        if kill_at is not None and _written(output) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
        found = {pid: _usage(pid) for pid in _session(process.pid)}
        used |= {pid: seconds for pid, (seconds, _) in found.items() if seconds}
        sizes = [size for _, size in found.values()]
        largest, together = max([largest, *sizes]), max(together, sum(sizes))
        time.sleep(0.5)
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return time.monotonic() - began, sum(used.values()), largest, together


def _written(output: pathlib.Path) -> int:
    return len(list(output.with_name(f".{output.name}.partial").glob("*.report.json")))


def _session(leader: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(name)) == leader:
                found.append(int(name))
    return found


def _usage(process: int) -> tuple[float, int]:
    """Seconds that a process has computed for, and bytes that it has in memory."""
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0, 0
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


def _digests(directory: pathlib.Path) -> dict[str, str]:
    """Of all files, by their names."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }


if __name__ == "__main__":
    main()

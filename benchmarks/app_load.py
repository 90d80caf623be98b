"""The page under load: many visitors at once, and memory over many requests.

    python benchmarks/app_load.py --checkpoint=runs/demo
    python benchmarks/app_load.py --checkpoint=runs/demo --requests=2000 --visitors=32

Starts launch/app.py, and then visitors that each send a clip of the world and ask about it, again
and again, as a browser does: an upload, its reading, a question with candidates and a text. Printed
are answers, errors, seconds for one, and the server's resident memory and threads after each tenth
of the requests. It needs the extra app.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import vljepa_jax
from vljepa_jax.data.datasets import find_dataset

_CLIPS = 16
_CANDIDATES = "a dog spins\na cat jumps\na bird flies"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a run on the world")
    parser.add_argument("--requests", type=int, default=500, help="%(default)s")
    parser.add_argument("--visitors", type=int, default=16, help="at once; %(default)s")
    return parser.parse_args()


OPTIONS = arguments()

import httpx  # noqa: E402 - of the extra app


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clips = _clips(OPTIONS.checkpoint, Path(folder))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "launch/app.py", f"--checkpoint={OPTIONS.checkpoint}"]
        server = subprocess.Popen([*command, f"--port={port}"], cwd=Path(__file__).parents[1])
        try:
            print(json.dumps(_load(f"http://127.0.0.1:{port}", server.pid, clips, OPTIONS)))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)


def _clips(checkpoint: str, folder: Path) -> list[Path]:
    """Clips of the world, each a file."""
    history = vljepa_jax.load(checkpoint).history
    media = find_dataset("@world", history.config.world).media("test")
    paths = []
    for index in range(_CLIPS):
        paths.append(folder / f"clip{index}.mp4")
        paths[-1].write_bytes(media[index].media[0].data)
    return paths


class Visitor:
    """One browser's session with the page, in the protocol of Gradio's own client."""

    def __init__(self, address: str, number: int) -> None:
        self._client = httpx.Client(base_url=address, timeout=600)
        self._session = f"visitor{number}"
        config = self._client.get("/config").json()
        names = {part["id"]: part for part in config["components"]}
        self._take = next(d for d in config["dependencies"] if _is(d, names, "file", "upload"))
        self._ask = next(d for d in config["dependencies"] if _is(d, names, "button", "click"))

    def ask(self, path: Path) -> str:
        """The page's HTML about a clip."""
        with path.open("rb") as file:
            sent = self._client.post("/gradio_api/upload", files={"files": (path.name, file)})
        data = {"path": sent.raise_for_status().json()[0], "orig_name": path.name}
        self._call(self._take["id"], [data | {"meta": {"_type": "gradio.FileData"}}])
        return self._call(self._ask["id"], [None, "What happens?", _CANDIDATES, True])[0]

    def _call(self, function: int, data: list) -> list:
        """Joins the queue and waits for the outcome."""
        body = {"fn_index": function, "data": data, "session_hash": self._session}
        event = self._client.post("/gradio_api/queue/join", json=body).raise_for_status().json()
        with self._client.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self._session}
        ) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                news = json.loads(line.removeprefix("data:"))
                if news.get("event_id") != event["event_id"]:
                    continue
                if news["msg"] == "process_completed":
                    if not news["success"]:
                        raise RuntimeError(str(news["output"]))
                    return news["output"]["data"]
        raise RuntimeError("the page gave no answer")


def _is(dependency: dict, names: dict, kind: str, event: str) -> bool:
    """Whether a function of the page belongs to the event of a component of that kind."""
    return any(
        i in names and names[i]["type"] == kind and name == event
        for i, name in dependency["targets"]
    )


def _load(address: str, pid: int, clips: list[Path], options: argparse.Namespace) -> dict:
    _wait_for(address)
    visitors = [Visitor(address, number) for number in range(options.visitors)]
    seconds: list[float] = []
    errors: list[str] = []
    memory = []
    turns = itertools.count()
    lock = threading.Lock()
    tenth = max(1, options.requests // 10)

    def visit(visitor: Visitor) -> None:
        while (turn := next(turns)) < options.requests:
            began = time.monotonic()
            try:
                html = visitor.ask(clips[turn % len(clips)])
                if html.count('class="bar') != 3:
                    raise RuntimeError(f"no bars: {html[:200]}")
            except (httpx.HTTPError, RuntimeError) as error:
                errors.append(repr(error))
            with lock:
                seconds.append(time.monotonic() - began)
                if len(seconds) % tenth == 0:
                    memory.append(_usage(pid))
                    print(json.dumps({"requests": len(seconds), **memory[-1]}), flush=True)

    visitors[0].ask(clips[0])  # compiles what all need
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.visitors) as pool:
        list(pool.map(visit, visitors))
    took = time.monotonic() - began
    return {
        "requests": len(seconds),
        "visitors": options.visitors,
        "errors": len(errors),
        "first_errors": errors[:3],
        "requests_per_second": round(len(seconds) / took, 2),
        "median_seconds": round(float(np.median(seconds)), 2),
        "longest_seconds": round(max(seconds), 2),
        "resident_mb": [each["resident_mb"] for each in memory],
        "processors": os.cpu_count(),
    }


def _usage(pid: int) -> dict[str, int]:
    """Resident megabytes and threads of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {
        "resident_mb": int(fields["VmRSS"].split()[0]) // 1024,
        "threads": int(fields["Threads"]),
    }


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            httpx.get(address).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(1)
    raise SystemExit("error: the page did not start")


if __name__ == "__main__":
    main()

"""Hours of a stream whose source is lost again and again: does memory stay flat?

    python benchmarks/stream_soak.py --checkpoint=runs/demo --output=docs/figures/stream_soak.json

A server on loopback sends MPEG-TS without an end, as a camera does, --speed times as fast as it
would be shown: one of the world's streams, a frame a second, over and over. It breaks off --losses
times; a second server takes the events. launch/stream.py's ``follow`` follows it with labels, a
window each --stride seconds. Printed are the hours of video that were sent, the windows embedded
and dropped, how often the source was opened again, the events, and the resident memory of the
process (servers included), as medians of the quarters of the time.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import rich.console

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.live_source import parse_source
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import play
from vljepa_jax.inference.streams.live import LiveSettings, follow

_FPS = 1
_ENCODING = {"preset": "ultrafast", "g": "10", "bf": "0"}
_LABELS = "A yellow square spins. >= 0.3\nA yellow square moves down.\nA dog jumps.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--hours", type=float, default=6.0, help="of video: %(default)s")
    parser.add_argument("--losses", type=int, default=20, help="%(default)s")
    parser.add_argument("--speed", type=float, default=120.0, help="%(default)s times its own")
    parser.add_argument("--stride", type=float, default=20.0, help="seconds: %(default)s")
    parser.add_argument("--output", help="the JSON file to write")
    options = parser.parse_args()
    part = options.hours * 3600 / (options.losses + 1)
    model = vljepa_jax.load(options.checkpoint)
    dataset = find_dataset("@world", model.history.config.world)
    (medium,) = dataset.media("streams")[0].media
    camera = _Camera(_pictures(medium), part, options.losses + 1, options.speed)
    hook = _Hook()
    memory: list[tuple[float, float]] = []
    over = threading.Event()
    threading.Thread(target=_watch, args=(memory, over), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.txt"
        labels.write_text(_LABELS)
        settings = LiveSettings(
            labels=str(labels),
            ticks_per_second=1 / options.stride,
            rate=0.25 / options.stride,
            change_window=4 * options.stride,
            change_delay=options.stride,
            jsonl=str(Path(folder) / "events.jsonl"),
            on_event=hook.address,
        )
        began = time.monotonic()
        source = parse_source(camera.address)
        summary = follow(model, source, settings, console=rich.console.Console())
        seconds = time.monotonic() - began
        written = (Path(folder) / "events.jsonl").stat().st_size
    over.set()
    first = memory[0][0]
    quarters = [[] for _ in range(4)]
    for at, megabytes in memory:
        quarters[min(3, int(4 * (at - first) / (memory[-1][0] - first + 1e-9)))].append(megabytes)
    report = {
        "hours_of_video": camera.sent / 3600,
        "minutes": seconds / 60,
        "windows": summary.windows,
        "dropped": summary.dropped,
        "reconnections": summary.reconnections,
        "delivered": summary.delivered,
        "given_up": summary.given_up,
        "lost": summary.lost,
        "received": hook.received,
        "events_kilobytes": written // 1024,
        "megabytes_by_quarter": [round(statistics.median(own)) for own in quarters],
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if options.output:
        Path(options.output).write_text(text)


def _pictures(medium: Medium) -> list[np.ndarray]:
    """The first frame of each second."""
    seconds = {int(frame.begin): frame for frame in reversed(list(play(medium)))}
    return [np.asarray(frame.image().convert("RGB")) for _, frame in sorted(seconds.items())]


class _Camera:
    """Sends video on loopback: a part of it a connection, after the last one no more.

    Attributes:
        address: where.
        sent: seconds of video, of all parts.
    """

    def __init__(self, pictures: list[np.ndarray], part: float, parts: int, speed: float) -> None:
        self.sent = 0.0
        self._pictures = pictures
        self._part, self._left, self._speed = part, parts, speed
        self.address = _serve(self._answer) + "/live.ts"

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)  # as a person ends launch/stream.py
            request.send_error(503)
            return
        self._left -= 1
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        with av.open(_Sink(request.wfile), "w", format="mpegts") as output:
            began = time.monotonic()
            for index, packet in _packets(output, round(self._part * _FPS), self._pictures):
                output.mux(packet)
                late = began + index / _FPS / self._speed - time.monotonic()
                time.sleep(max(0.0, late))
        self.sent += self._part


class _Sink:
    """A file that can be written on alone, as a socket."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _packets(
    output: av.container.OutputContainer, frames: int, pictures: list[np.ndarray]
) -> Iterator[tuple[int, av.Packet]]:
    """Pictures over and over."""
    stream = output.add_stream("libx264", rate=_FPS, options=_ENCODING)
    stream.height, stream.width, _ = pictures[0].shape
    stream.pix_fmt = "yuv420p"
    for index in range(frames):
        picture = pictures[index % len(pictures)]
        for packet in stream.encode(av.VideoFrame.from_ndarray(picture)):
            yield index, packet
    for packet in stream.encode():
        yield frames, packet


class _Hook:
    """Takes events.

    Attributes:
        address: where.
        received: how many.
    """

    def __init__(self) -> None:
        self.received = 0
        self.address = _serve(self._answer) + "/hook"

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.received += 1
        request.send_response(204)
        request.end_headers()


def _serve(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> str:
    """Starts a server on loopback, in threads; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _watch(memory: list[tuple[float, float]], over: threading.Event) -> None:
    """Notes the time and the resident megabytes, every two seconds."""
    page = os.sysconf("SC_PAGE_SIZE")
    while not over.wait(2.0):
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append((time.monotonic(), resident * page / 2**20))


if __name__ == "__main__":
    host.set_up()
    main()

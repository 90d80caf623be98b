"""Hours of a stream whose source is lost again and again: does memory stay flat?

    python benchmarks/stream_soak.py --checkpoint=runs/demo --output=docs/figures/stream_soak.json

A server on loopback sends MPEG-TS without an end, as a camera does, --speed times as fast as it
would be shown, and breaks off --losses times; a second one takes the events. launch/stream.py's
``follow`` follows it with labels, a window each --stride seconds. Printed are the hours of video
that were sent, the windows embedded and dropped, how often the source was opened again, the events,
and the resident memory of the process (servers included), as medians of the quarters of the time.
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
from vljepa_jax.data.live_source import parse_source
from vljepa_jax.inference.streams.live import LiveSettings, follow

_FPS, _PIXELS = 4, 96
_LABELS = "a dog >= 0.3\na red car | a red bus\na person\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--hours", type=float, default=6.0, help="of video: %(default)s")
    parser.add_argument("--losses", type=int, default=20, help="%(default)s")
    parser.add_argument("--speed", type=float, default=60.0, help="%(default)s times its own")
    parser.add_argument("--stride", type=float, default=4.0, help="seconds: %(default)s")
    parser.add_argument("--output", help="the JSON file to write")
    options = parser.parse_args()
    part = options.hours * 3600 / (options.losses + 1)
    camera = _Camera(part, options.losses + 1, options.speed)
    hook = _Hook()
    model = vljepa_jax.load(options.checkpoint)
    memory: list[tuple[float, float]] = []
    over = threading.Event()
    threading.Thread(target=_watch, args=(memory, over), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.txt"
        labels.write_text(_LABELS)
        settings = LiveSettings(
            labels=str(labels),
            ticks_per_second=1 / options.stride,
            rate=0.1,
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


class _Camera:
    """Sends video on loopback: a part of it a connection, after the last one no more.

    Attributes:
        address: where.
        sent: seconds of video, of all parts.
    """

    def __init__(self, part: float, parts: int, speed: float) -> None:
        self.sent = 0.0
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
            for index, packet in _packets(output, round(self._part * _FPS)):
                output.mux(packet)
                late = began + index / _FPS / self._speed - time.monotonic()
                time.sleep(max(0.0, late))
        self.sent += self._part


class _Sink:
    """A file that can be written on alone, as a socket."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _packets(output: av.container.OutputContainer, frames: int) -> Iterator[tuple[int, av.Packet]]:
    """Squares that move, in new colours every few seconds."""
    rng = np.random.default_rng(0)
    stream = output.add_stream("libx264", rate=_FPS, options={"g": str(_FPS), "bf": "0"})
    stream.width = stream.height = _PIXELS
    stream.pix_fmt = "yuv420p"
    for index in range(frames):
        if index % (5 * _FPS) == 0:
            back, front = rng.integers(0, 256, (2, 3), np.uint8)
        picture = np.tile(back, (_PIXELS, _PIXELS, 1))
        left = index * 7 % (_PIXELS - 24)
        picture[30:54, left : left + 24] = front
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

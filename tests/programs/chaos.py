"""Ends commands at random moments, and looks whether what docs/guarantees.md promises still holds.

    python tests/programs/chaos.py [--seed=0] [--kills=4] [--only=train,prepare]

Commands on a few small clips are killed (SIGKILL, SIGTERM, SIGINT, the last two also twice), are
started twice at once, and are given full and read-only disks, replaced files and a source that
comes and goes. After each, the next start of the same command must reach the state of one that
nothing happened to, bitwise, and no process, shared memory or half-written file may remain. The
seed decides the moments and the signals; how far a command has come by then, the machine does.
Prints a line each, and the counts; the status is 1 where something did not hold.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.helpers.random_run import random_params, save_run
from tests.helpers.sample_media import encode, numbered_frames
from tests.helpers.small_run import computed, small_config, write_clips
from vljepa_jax.config import as_dict
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.search.index import VideoIndex
from vljepa_jax.run_dir import newest, read_params

ROOT = Path(__file__).parents[2]
LONGEST = 1800.0  # seconds that a command may take
AFTER = 300.0  # seconds within which all processes of a killed command are gone
ENDINGS = ((signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGINT,)) + tuple(
    (number, number) for number in (signal.SIGTERM, signal.SIGINT)
)
CLIPS = 72  # enough to be read by several processes
STEPS = 8


# Starts a command as on a full disk; what Python and JAX keep for themselves is not cut off.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Failed(AssertionError):
    """A promise that did not hold."""


def require(condition, *told):
    if not condition:
        raise Failed(" ".join(map(str, told)))


class Command:
    """A command under way, in a session of its own.

    Attributes:
        started: the processes of all commands.
    """

    started = set()

    def __init__(self, script, *flags, limit=0):
        """``limit``: bytes that a file may grow to; 0 for none."""
        start = [sys.executable, f"launch/{script}.py", *map(str, flags)]
        limited = [sys.executable, "-c", LIMITED, str(limit)] if limit else []
        self.process = subprocess.Popen(
            [*limited, *start],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # which hold all that these commands print
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.add(self.process.pid)

    def end(self, signals=(), after=0.0):
        """Sends signals, the first after so many seconds; gives status, output and errors."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(after if signals else LONGEST)
            for number in signals:
                while number != signal.SIGKILL and not self._answers():
                    time.sleep(0.05)  # Python still loads the command
                if self.process.poll() is None:
                    self.process.send_signal(number)
                    time.sleep(0.3)
            status = self.process.wait(LONGEST)
            latest = time.monotonic() + AFTER
            while (left := of_session(self.process.pid)) and time.monotonic() < latest:
                time.sleep(0.1)
            require(not left, "processes remain:", left)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        texts = self.process.stdout.read(), self.process.stderr.read()
        require("Traceback" not in texts[1] or signal.SIGKILL in signals, texts[1][-3000:])
        return status, *texts

    def _answers(self):
        """Whether it has a handler for SIGTERM, or has ended."""
        if self.process.poll() is not None:
            return True
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)


def of_session(session):
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ")[:200])
    return found


def dead_segments():
    """What lies in shared memory of commands that were started here and have ended."""
    dead = []
    for lock in Path("/dev/shm").glob("vljepa_jax-*.lock"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if set(file.read().split()[1:2]) <= {str(pid) for pid in Command.started}:
                dead += Path("/dev/shm").glob(f"*{lock.name.removesuffix('.lock')}*")
    return dead


def half_written(output):
    """Files that a killed process would have left, at an output and beside it."""
    endings = (".tmp", ".partial", ".lock")
    return [
        path
        for path in [*output.rglob("*"), *output.parent.glob(f".{output.name}*")]
        if path.name.endswith(endings) or "orbax-checkpoint-tmp" in path.name
    ]


def digest(folder, *, without=()):
    """The bytes of all files below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


class Chaos:
    """The inputs, what commands make of them undisturbed, and the ways to disturb them."""

    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng
        self.counts = {}
        self.seconds = {}  # that an undisturbed command takes
        self._number = 0
        self._undisturbed = {}
        clips = np.random.default_rng(0)
        (folder / "media").mkdir()
        rows = []
        for index in range(CLIPS):
            path = folder / "media" / f"{index:02d}.mp4"
            path.write_bytes(write_mp4(clips.integers(0, 256, (16, 64, 64, 3), np.uint8), 8))
            rows.append(
                {"id": f"{index}", "media": [{"path": path.name}], "texts": [f"clip {index}"]}
            )
        (folder / "media" / "05.mp4").write_bytes(b"no video")
        manifest = folder / "media" / "clips.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_clips(folder / "clips")
        config = small_config(folder / "clips", steps=STEPS)
        data = dataclasses.replace(config.data, num_workers=2)
        self.config = dataclasses.replace(config, data=data)
        recipe = folder / "recipe.py"
        (folder / "recipe.json").write_text(json.dumps(as_dict(self.config)))
        recipe.write_text(
            "import json\nfrom pathlib import Path\nfrom ml_collections import ConfigDict\n\n\n"
            "def get_config():\n"
            "    text = Path(__file__).with_suffix('.json').read_text()\n"
            "    return ConfigDict(json.loads(text))\n"
        )
        save_run(folder / "model", self.config, random_params(self.config))
        (folder / "texts.txt").write_text("a dog\na cat\na bus\n")

    # Each command, with where it writes.
    def train(self, output):
        return "train", f"--config={self.folder}/recipe.py", f"--workdir={output}"

    def prepare(self, output):
        manifest = f"--manifest={self.folder}/media/clips.jsonl"
        return (
            "prepare",
            manifest,
            f"--output={output}",
            "--split=test",
            "--name=clips",
            "--num_workers=2",
        )

    def embed(self, output):
        flags = f"--checkpoint={self.folder}/model", f"--videos={self.folder}/media/*.mp4"
        return "embed", *flags, f"--output={output}", "--shard_rows=8", "--batch_size=8"

    def eval(self, output):
        benchmark = f"--config=configs/eval/clips.py:{self.folder}/undisturbed-prepare"
        flags = f"--checkpoint={self.folder}/model", "--benchmarks=clips/t2v"
        return "eval", benchmark, *flags, f"--output={output}"

    def stream(self, output, source=None):
        source = source or f"{self.folder}/media/00.mp4"
        flags = f"--checkpoint={self.folder}/model", f"--texts={self.folder}/texts.txt"
        where = f"--jsonl={output}/events.jsonl"
        return "stream", f"--source={source}", *flags, where, "--window=0.5", "--query=What?"

    # What must be the same in the end.
    def state(self, name, output):
        if name == "train":
            params = read_params(newest(output))
            leaves = [np.asarray(leaf).tobytes() for leaf in _leaves(params)]
            return computed(output), hashlib.sha256(b"".join(leaves)).hexdigest()
        if name == "prepare":
            return digest(output)
        if name == "embed":
            index = VideoIndex(output)
            rows = {name: len(entry.spans) for name, entry in index.entries.items()}
            hits = index.search(np.eye(index.settings.size, dtype=np.float32)[:4], top=50)
            return rows, [[(hit.name, round(hit.score, 6)) for hit in sorted(row)] for row in hits]
        if name == "eval":
            return json.loads((output / "report.json").read_text())["metrics"]
        return None

    def new_output(self, name):
        self._number += 1
        return self.folder / f"{name}-{self._number}"

    def undisturbed(self, name):
        """The state that a command reaches by itself."""
        if name not in self._undisturbed:
            self._undisturbed[name] = self._run_undisturbed(name)
        return self._undisturbed[name]

    def _run_undisturbed(self, name):
        if name == "eval":
            self.undisturbed("prepare")
        states = []
        for output in (self.new_output(name), self.folder / f"undisturbed-{name}"):
            if name == "stream":
                output.mkdir()
            began = time.monotonic()
            status, _, errors = Command(*getattr(self, name)(output)).end()
            require(status == 0, name, errors)
            self.seconds[name] = time.monotonic() - began  # of the second: all is compiled
            states.append(self.state(name, output))
        require(states[0] == states[1], name, "differs by itself")
        return states[0]

    def completes(self, name, output):
        """The same command once more, to the state that was promised."""
        expected = self.undisturbed(name)
        status, out, errors = Command(*getattr(self, name)(output)).end()
        done = status == 0 or (name == "prepare" and "exists" in errors)
        require(done, f"status {status}", out, errors)
        require(self.state(name, output) == expected, "another state than undisturbed")
        require(not half_written(output), half_written(output))

    def kill(self, name):
        """A command is ended at some moment, and started again."""
        self.undisturbed(name)
        signals = self.rng.choice(ENDINGS)
        share = self.rng.uniform(0.1, 1.0)
        for _ in range(8):
            output = self.new_output(name)
            if name == "stream":
                output.mkdir()
            moment = share * self.seconds[name]
            told = "+".join(number.name for number in signals) + f" after {moment:.1f} s"
            began = time.monotonic()
            status, out, errors = Command(*getattr(self, name)(output)).end(signals, moment)
            if status != 0 or time.monotonic() - began > moment:
                break
            self.seconds[name] = time.monotonic() - began  # done before: the machine is quicker now
        number = int(signals[0])
        require(status in (0, 128 + number, -number), told, f"status {status}", out, errors)
        if status == 128 + number and len(signals) == 1:
            # Training says so on its console, which wraps lines, and perhaps a library after it.
            require(signals[0].name in errors + out, told, out, errors)
        if name == "prepare" and output.exists():
            require(self.state(name, output) == self.undisturbed(name), told, "half a dataset")
        if name == "stream":
            self._check_events(output / "events.jsonl", told)
        else:
            self.completes(name, output)
        return f"{told}: status {status}"

    def _check_events(self, path, told):
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            if line.endswith("\n"):
                require("at" in json.loads(line), told, line)
        status, _, errors = Command(*self.stream(path.parent)).end()
        require(status == 0, told, errors)
        require(path.read_text().startswith("".join(lines)), told, "earlier events are lost")
        require(json.loads(path.read_text().splitlines()[-1])["event"] == "summary", told)
        require(not half_written(path.parent), half_written(path.parent))

    def two_owners(self, name):
        """Two of the same command at once: one is refused, or comes too late; nothing is harmed."""
        self.undisturbed(name)
        output = self.new_output(name)
        first = Command(*getattr(self, name)(output))
        time.sleep(self.rng.uniform(0.0, 1.0))
        second = Command(*getattr(self, name)(output))
        ended = [command.end() for command in (first, second)]
        statuses = sorted(status for status, *_ in ended)
        require(statuses[0] == 0 and statuses[1] in (0, 1), ended)
        for status, _, errors in ended:
            require(status == 0 or "is writing to" in errors or "exists" in errors, errors)
        self.completes(name, output)
        return f"statuses {statuses}"

    def full_disk(self, name):
        """No file may grow beyond some size."""
        self.undisturbed(name)
        output = self.new_output(name)
        size = int(2 ** self.rng.uniform(6, 15))
        status, out, errors = Command(*getattr(self, name)(output), limit=size).end()
        require(status in (0, 1), f"status {status}", out, errors)
        require(status == 0 or "error: " in errors, errors)
        self.completes(name, output)
        return f"{size} bytes a file: status {status}"

    def read_only(self, name):
        """The output is on a disk that cannot be written to."""
        self.undisturbed(name)
        disk = self.new_output("disk")
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", disk], capture_output=True
        )
        if mounted.returncode:
            return "not tried: mount needs the rights of root"
        try:
            status, out, errors = Command(*getattr(self, name)(disk / "out")).end()
        finally:
            subprocess.run(["umount", disk], check=True)
        require(status == 1, status, out, errors)
        require("Read-only file system" in errors, errors)
        return errors.strip().splitlines()[-1][-60:]

    def replaced_files(self, name):
        """A file is replaced while it is embedded, or a moment before the next start."""
        output = self.new_output(name)
        chosen = self.folder / "media" / f"{self.rng.randrange(6, CLIPS):02d}.mp4"
        before = chosen.read_bytes()
        pixels = np.random.default_rng(self.rng.randrange(2**32))
        self.undisturbed(name)
        command = Command(*self.embed(output))
        time.sleep(self.rng.uniform(0.2, 1.0) * self.seconds[name])
        try:
            new = chosen.with_suffix(".new")
            new.write_bytes(write_mp4(pixels.integers(0, 256, (16, 64, 64, 3), np.uint8), 8))
            new.replace(chosen)
            require(command.end()[0] == 0)
            require(Command(*self.embed(output)).end()[0] == 0)
            afresh = self.new_output(name)
            require(Command(*self.embed(afresh)).end()[0] == 0)
            require(self.state(name, output) == self.state(name, afresh), "stale embeddings")
        finally:
            chosen.write_bytes(before)
        return chosen.name

    def source_comes_and_goes(self, name):
        """An address that is not there at first, breaks off once, and then gives all."""
        output = self.new_output(name)
        output.mkdir()
        recording = self.folder / "recording.mkv"  # which is read from its beginning on
        encode(recording, numbered_frames(40))
        data = recording.read_bytes()
        asked = []

        class Server(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                if len(asked) == 1:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if len(asked) == 2 else data)

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            source = f"http://me:secret@127.0.0.1:{server.server_port}/a.mkv?key=secret"
            status, out, errors = Command(*self.stream(output, source), "--fast").end()
        finally:
            server.shutdown()
        require(status == 0, out, errors)
        require("secret" not in out + errors + (output / "events.jsonl").read_text(), out)
        reference = self.new_output(name)
        reference.mkdir()
        require(Command(*self.stream(reference, recording), "--fast").end()[0] == 0)
        ticks, expected = (
            [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
            for folder in (output, reference)
        )
        times = [
            [event["time"] for event in events if event["event"] == "tick"]
            for events in (ticks, expected)
        ]
        require(times[0] == times[1], "other windows than of the file", times)
        return f"{len(asked)} requests, {len(times[0])} windows"

    def run(self, kind, name, times):
        """Whether it held each time."""
        held = 0
        for turn in range(times):
            where = f"{kind} {name} {turn + 1}/{times}"
            try:
                told = getattr(self, kind)(name)
                require(not dead_segments(), dead_segments())
                held += 1
                print(f"held    {where}: {told}", flush=True)
            except Failed as failure:
                print(f"FAILED  {where}: {failure}", flush=True)
        self.counts[kind, name] = (held, times)


def _leaves(tree):
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from _leaves(tree[name])
    else:
        yield tree


# The kind of disturbance, the commands that meet it, and how often of ``--kills`` times.
KINDS = (
    ("kill", ("train", "prepare", "embed", "eval", "stream"), 1.0),
    ("two_owners", ("train", "prepare", "embed"), 0.25),
    ("full_disk", ("train", "prepare", "embed"), 0.25),
    ("read_only", ("train", "prepare", "embed", "eval"), 0.0),
    ("replaced_files", ("embed",), 0.25),
    ("source_comes_and_goes", ("stream",), 0.0),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=4, help="of each command")
    parser.add_argument("--only", default="", help="commands, between commas")
    parser.add_argument("--kinds", default="", help="disturbances, between commas")
    arguments = parser.parse_args()
    os.environ |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles quickly
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="vljepa_jax_chaos_"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    try:
        chaos = Chaos(folder, random.Random(arguments.seed))
        for kind, names, share in KINDS:
            for name in names:
                if (not arguments.only or name in arguments.only.split(",")) and (
                    not arguments.kinds or kind in arguments.kinds.split(",")
                ):
                    chaos.run(kind, name, max(1, round(share * arguments.kills)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for (kind, name), (held, times) in chaos.counts.items():
        print(f"{kind:22} {name:8} {held} of {times} held")
    print(f"seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    sys.exit(any(held < times for held, times in chaos.counts.values()))


if __name__ == "__main__":
    main()

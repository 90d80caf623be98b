"""Following a source: pace, drops, breaks and silence, with clocks and sources made up."""

import dataclasses
import io
import socket
import threading
import time
import types

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.data import live_source
from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.live_source import (
    LiveSource,
    NoSource,
    RecordedFrame,
    SourceEnded,
    SourceError,
    parse_source,
    play,
)
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.streams import window_reader
from vljepa_jax.inference.streams.window_reader import WindowReader
from vljepa_jax.inference.streams.windows import SlidingWindow

VIDEO = dataclasses.replace(tiny_train_config().video_input, frames=2, image_size=16)
CAMERA = LiveSource("camera", "made-up")


def sliding(rate=4.0):
    return SlidingWindow(VIDEO, seconds=0.5, ticks_per_second=rate)


def frames(count, first=0, fps=8):
    for index in range(count):
        image = Image.new("RGB", (16, 16), (first + index, 0, 0))
        yield PlayedFrame(index / fps, (index + 1) / fps, lambda image=image: image)


def everything(reader):
    arrivals = []
    while (taken := reader.take(0.5, 8)) is not None:
        arrivals += taken
    return arrivals


def last_pause(ended):
    """A pause after which a source is not tried again; it tells that all frames were read."""

    def sleep(seconds):
        ended.set()
        return True

    return sleep


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "clip.mp4"
    rng = np.random.default_rng(0)
    path.write_bytes(write_mp4(rng.integers(0, 256, (24, 32, 32, 3), np.uint8), 8))
    return str(path)


def test_a_file_read_fast_gives_every_window_however_slowly_they_are_taken(file):
    with WindowReader(parse_source(file), sliding(), fast=True, capacity=2) as reader:
        time.sleep(0.3)
        arrivals = everything(reader)
    assert reader.dropped == 0
    ends = [arrival.window.end for arrival in arrivals]
    np.testing.assert_allclose(ends, np.arange(0.5, 3.01, 0.25), atol=1e-6)
    assert [arrival.restarted for arrival in arrivals] == [True] + [False] * 10


def test_a_file_keeps_its_own_pace(file):
    began = time.monotonic()
    with WindowReader(parse_source(file), sliding()) as reader:
        arrivals = everything(reader)
    assert time.monotonic() - began > 2.5  # 3 seconds of video
    # A window is due when it ends, not when the machine gets to it; the first one perhaps a frame
    # before, when its last frame begins.
    due = np.array([arrival.due for arrival in arrivals])
    ends = np.array([arrival.window.end for arrival in arrivals])
    assert (due - due[0] <= ends - ends[0] + 1 / 8 + 1e-6).all()


def test_a_live_source_drops_the_oldest_windows_and_counts_them():
    ended = threading.Event()
    with WindowReader(
        CAMERA, sliding(), capacity=3, player=lambda _: frames(40), sleep=last_pause(ended)
    ) as reader:
        ended.wait()
        arrivals = everything(reader)
    assert [a.window.end for a in arrivals] == pytest.approx([4.5, 4.75, 5.0])
    assert reader.dropped == 19 - 3
    assert arrivals[0].restarted  # what was dropped before it was the beginning


def test_a_broken_source_is_tried_again_with_growing_pauses():
    pauses, plays, notes = [], [], []

    def player(source):
        plays.append(source)
        if len(plays) in (2, 3):
            raise SourceError("made-up: no route")
        if len(plays) == 5:
            raise SourceError("made-up: silent")
        yield from frames(16)

    def sleep(seconds):
        pauses.append(seconds)
        return len(pauses) == 5

    with WindowReader(
        CAMERA, sliding(), capacity=99, player=player, sleep=sleep, notify=notes.append
    ) as reader:
        arrivals = everything(reader)
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]  # from the beginning after every success
    assert reader.reconnections == 4
    assert sum(arrival.restarted for arrival in arrivals) == 2
    times = [arrival.window.end for arrival in arrivals]
    assert times == sorted(times)  # the stream's clock goes on
    assert any("no route" in note and "again in" in note for note in notes)


def test_a_recording_at_an_address_is_not_played_again():
    def player(_):
        yield from frames(16)
        raise SourceEnded

    source = LiveSource("network", "http://made-up/clip.mp4")
    with WindowReader(source, sliding(), capacity=99, player=player) as reader:
        assert len(everything(reader)) == 7
    assert reader.reconnections == 0


def test_a_fault_of_a_file_is_raised_where_windows_are_taken(tmp_path):
    path = tmp_path / "no-video.mp4"
    path.write_bytes(b"not a video at all")
    with (
        WindowReader(parse_source(str(path)), sliding()) as reader,
        pytest.raises(ValueError, match=r"no-video\.mp4"),
    ):
        everything(reader)


def test_leaving_ends_the_thread_even_while_it_waits():
    def endless(_):
        while True:
            yield from ()
            time.sleep(0.01)
            yield next(frames(1))
            raise SourceError("made-up: gone")

    with WindowReader(CAMERA, sliding(), player=endless, notify=lambda _: None) as reader:
        time.sleep(0.1)
    reader._thread.join(300)
    assert not reader._thread.is_alive()


def test_raw_frames_come_from_standard_input():
    source = parse_source("-", size="4x2", rate=10.0)
    pixels = np.arange(3 * 24, dtype=np.uint8)
    got = list(play(source, io.BytesIO(pixels.tobytes())))
    assert [(f.begin, f.end) for f in got] == [(0.0, 0.1), (0.1, 0.2), (0.2, 0.3)]
    np.testing.assert_array_equal(np.asarray(got[1].image()), pixels[24:48].reshape(2, 4, 3))
    with pytest.raises(SourceError, match="ended inside a frame: 5 of 24"):
        list(play(source, io.BytesIO(b"12345")))


@pytest.mark.parametrize(
    ("text", "message"),
    [("nothing.mp4", "there is no file 'nothing.mp4'"), ("-", "--size=WIDTHxHEIGHT and --fps")],
)
def test_a_source_that_cannot_be_is_one_clear_error(text, message):
    with pytest.raises(SourceError, match=message):
        parse_source(text)


def test_addresses_and_cameras_are_told_apart(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    assert parse_source("rtsp://x/y") == LiveSource("network", "rtsp://x/y")
    assert parse_source("camera:1") == LiveSource("camera", "/dev/video1", "v4l2")
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SourceError, match="win32"):
        parse_source("camera")


def test_a_file_that_is_there_goes_before_what_its_name_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("camera", "camera:1", "concat:a.mp4"):
        (tmp_path / name).write_bytes(b"x")
        assert parse_source(name) == LiveSource("file", str(tmp_path / name))


def test_an_address_that_nobody_answers_is_a_source_error():
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        list(play(LiveSource("network", "tcp://127.0.0.1:9")))


def recorded(count, first=0):
    for frame in list(frames(count))[first:]:
        yield RecordedFrame(*frame)


@pytest.mark.parametrize("fast", [True, False])
def test_a_recording_at_an_address_is_waited_for_like_a_file(monkeypatch, fast):
    def player(_):
        yield from recorded(24)
        raise SourceEnded

    source, pauses = LiveSource("network", "http://made-up/clip.mp4"), []
    clock = types.SimpleNamespace(monotonic=lambda: sum(pauses))  # goes on while it waits alone
    monkeypatch.setattr(window_reader, "time", clock)

    capacity = 2 if fast else 99
    with WindowReader(
        source, sliding(), fast=fast, capacity=capacity, player=player, sleep=pauses.append
    ) as reader:
        time.sleep(0.2)
        arrivals = everything(reader)
    assert reader.dropped == 0
    ends = [arrival.window.end for arrival in arrivals]
    np.testing.assert_allclose(ends, np.arange(0.5, 3.01, 0.25), atol=1e-6)
    assert sum(pauses) == (0 if fast else 23 / 8)  # when the last frame begins


def test_a_finished_playlist_is_a_recording(tmp_path):
    with av.open(str(tmp_path / "a.m3u8"), "w", format="hls", options={"hls_time": "1"}) as output:
        stream = output.add_stream("libx264", rate=8, options={"g": "8"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in frames(24):
            picture = av.VideoFrame.from_image(frame.image().resize((32, 32)))
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    source = parse_source(f"file://{tmp_path}/a.m3u8")
    with WindowReader(source, sliding(), fast=True, capacity=2) as reader:
        time.sleep(0.3)
        ends = [arrival.window.end for arrival in everything(reader)]
    assert reader.dropped == reader.reconnections == 0
    np.testing.assert_allclose(ends, np.arange(0.5, 3.01, 0.25), atol=1e-3)


def test_a_recording_that_breaks_goes_on_where_it_was():
    plays = []

    def player(_):
        plays.append(1)
        if len(plays) == 1:
            time.sleep(0.3)
            raise SourceError("made-up: not there yet")
        yield from recorded(12 if len(plays) == 2 else 24)
        if len(plays) == 2:
            raise SourceError("made-up: broken off")
        raise SourceEnded

    source = LiveSource("network", "http://made-up/clip.mp4")
    with WindowReader(
        source,
        sliding(),
        fast=True,
        capacity=99,
        player=player,
        sleep=lambda _: False,
        notify=lambda _: None,
    ) as reader:
        arrivals = everything(reader)
    assert reader.reconnections == 2
    assert [arrival.restarted for arrival in arrivals] == [True] + [False] * 10
    ends = [arrival.window.end for arrival in arrivals]
    np.testing.assert_allclose(ends, np.arange(0.5, 3.01, 0.25), atol=1e-6)
    values = [int(arrival.window.clip[0, 0, 0, 0]) for arrival in arrivals]
    assert values == sorted(values)


def test_fast_is_for_recordings_and_a_camera_is_told_so():
    notes, ended = [], threading.Event()

    def player(_):
        yield from frames(16)

    with WindowReader(
        CAMERA,
        sliding(),
        fast=True,
        capacity=2,
        player=player,
        notify=notes.append,
        sleep=last_pause(ended),
    ) as reader:
        ended.wait()
        everything(reader)
    assert reader.dropped > 0  # it does not wait
    assert notes[0] == "--fast is for recordings: this source is followed as it comes"


def test_an_unknown_protocol_is_not_tried_again():
    pauses = []
    source = parse_source("hppt://made-up/clip.mp4")
    with (
        WindowReader(source, sliding(), sleep=pauses.append, notify=lambda _: None) as reader,
        pytest.raises(NoSource, match="hppt://made-up/clip.mp4: FFmpeg knows no such protocol"),
    ):
        everything(reader)
    assert pauses == []


def test_a_source_that_says_nothing_is_silent(monkeypatch):
    monkeypatch.setattr(live_source, "_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SourceError, match=rf"127\.0\.0\.1:{port}/a: silent for"):
            list(play(LiveSource("network", f"http://127.0.0.1:{port}/a?key=secret")))


def test_what_lets_one_in_is_not_shown():
    source = LiveSource("network", "rtsp://me:pass@word.host:554/live?token=abc#x")
    assert str(source) == "rtsp://word.host:554/live"
    source = LiveSource("network", "rtsp://me:p@ss#w?rd@host:554/live")
    assert str(source) == "rtsp://host:554/live"
    source = LiveSource("network", "rtsp://host:554/user=me&password=word&channel=1/live.sdp")
    assert str(source) == "rtsp://host:554/…/live.sdp"
    assert str(LiveSource("file", "/a?b\n.mp4")) == "/a?b\\n.mp4"


def test_an_address_that_cannot_be_opened_is_told_without_its_password(capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = parse_source(f"http://me:secret@127.0.0.1:{port}/a?key=secret")
    with pytest.raises(SourceError, match=rf"^http://127\.0\.0\.1:{port}/a: ") as lost:
        list(play(source))
    assert "secret" not in str(lost.value) + "".join(capfd.readouterr())
    with pytest.raises(SourceError) as lost:
        parse_source("s3://me:secret@host/a.mp4")
    assert "secret" not in str(lost.value)

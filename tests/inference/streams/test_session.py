"""Several sources and one model: common batches, thresholds of labels, events for others."""

import io
import json
import socket
import threading
import time

import numpy as np
import pytest
import rich.console

from tests.helpers.colour_model import COLOURS, ColourModel
from vljepa_jax.data.live_source import LiveSource, parse_source
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.calibration import Calibration
from vljepa_jax.inference.streams import window_reader
from vljepa_jax.inference.streams.alarms import Alarms
from vljepa_jax.inference.streams.live import LiveError, LiveSettings, follow
from vljepa_jax.inference.streams.narrator import NONE, Labels, Said
from vljepa_jax.inference.streams.session import Session

SEGMENTS = {"threshold": 0.2, "rate": None, "change_window": 1.0, "change_delay": 0.25}
TIMES = {"window": 0.5, "ticks_per_second": 4.0, "patience": 0.0, "fast": True, **SEGMENTS}


def video(path, *colours):
    seconds = [np.full((16, 32, 32, 3), COLOURS[colour], np.uint8) for colour in colours]
    path.write_bytes(write_mp4(np.concatenate(seconds), 8))
    return parse_source(str(path))


def followed(model, sources, tmp_path, **settings):
    told, jsonl = io.StringIO(), tmp_path / "events.jsonl"
    summary = follow(
        model,
        sources,
        LiveSettings(jsonl=str(jsonl), **TIMES, **settings),
        console=rich.console.Console(file=told, width=200),
    )
    return summary, [json.loads(line) for line in jsonl.read_text().splitlines()], told.getvalue()


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(COLOURS))
    return str(path)


class Batches(ColourModel):
    """Notes whether red and green, which no source shows one after the other, meet in a batch."""

    batch_size = 8

    def __init__(self):
        super().__init__()
        self.mixed = False

    def predict_and_judge(self, clips, queries):
        brightest = clips.mean(axis=(1, 2, 3)).argmax(axis=1)
        self.mixed |= {0, 1} <= set(brightest.tolist())
        return super().predict_and_judge(clips, queries)


def texts(events, source):
    return [
        event["text"]
        for event in events
        if event["event"] == "text" and event["source"] == str(source) and event["new"]
    ]


def test_each_source_is_told_as_if_it_were_alone(labels, tmp_path, monkeypatch):
    sources = [
        video(tmp_path / "a.mp4", "red", "blue"),
        video(tmp_path / "b.mp4", "green", "blue", "green"),
    ]
    alone = []
    for number, source in enumerate(sources):
        folder = tmp_path / str(number)
        folder.mkdir()
        summary, events, _ = followed(ColourModel(), source, folder, labels=labels)
        alone.append((summary, texts(events, source)))
    run = Session.run

    def run_when_all_have_windows(session, stopped):
        while not all(source.reader.ready for source in session._sources):
            time.sleep(0.01)
        run(session, stopped)

    monkeypatch.setattr(Session, "run", run_when_all_have_windows)
    model = Batches()
    summary, events, told = followed(model, sources, tmp_path, labels=labels)
    for source, (_, expected) in zip(sources, alone, strict=True):
        assert texts(events, source) == expected
    assert alone[1][1] == ["green", "blue", "green"]
    assert summary.windows == sum(own.windows for own, _ in alone)
    assert summary.decodings == sum(own.decodings for own, _ in alone)
    assert model.mixed
    assert f"{sources[0]}: red" in told  # a line says of which it tells
    said = [event for event in events if event["event"] == "text"]
    assert all(event["start_utc"] is None for event in said)  # read fast: at no time of day


def test_a_source_that_cannot_be_read_ends_alone(labels, tmp_path):
    good = video(tmp_path / "a.mp4", "red", "blue")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    bad = parse_source(str(tmp_path / "b.mp4"))
    summary, events, told = followed(ColourModel(), [bad, good], tmp_path, labels=labels)
    assert texts(events, good) == ["red", "blue"]
    assert summary.failed == 1
    assert "b.mp4: is followed no longer: " in told
    with pytest.raises(ValueError, match=r"b\.mp4"):
        followed(ColourModel(), [bad, bad], tmp_path, labels=labels)
    with pytest.raises(LiveError, match="--timeline draws one source, and there are 2"):
        followed(ColourModel(), [good, good], tmp_path, labels=labels, timeline="a.png")


def test_a_camera_that_answers_rubbish_is_tried_again_beside_the_others(
    labels, tmp_path, monkeypatch
):
    """An address that does not speak HTTP; the other source is followed to its end meanwhile."""
    monkeypatch.setattr(window_reader, "_FIRST_PAUSE", 0.01)
    good, jsonl = video(tmp_path / "a.mp4", "red", "blue"), tmp_path / "events.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as server:
        tried = []

        def rubbish():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                tried.append(connection.recv(4096))
                connection.sendall(b"\x00\xffrubbish\r\n\r\n")
                connection.close()
                if len(tried) >= 3 and '"text": "blue"' in jsonl.read_text():
                    signal_end.set()

        signal_end = threading.Event()
        threading.Thread(target=rubbish, daemon=True).start()
        camera = LiveSource("network", f"http://127.0.0.1:{server.getsockname()[1]}/live")
        monkeypatch.setattr(
            "vljepa_jax.inference.streams.live._interrupts", lambda _: _entered(signal_end)
        )
        summary, events, _ = followed(ColourModel(), [camera, good], tmp_path, labels=labels)
    assert texts(events, good) == ["red", "blue"]
    lost = [e for e in events if e["event"] == "notice" and "source lost" in e["text"]]
    assert {event["source"] for event in lost} == {str(camera)}
    assert summary.reconnections >= 2


class _entered:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *exception):
        pass


def test_what_holds_is_handed_over_with_its_score_and_source(tmp_path):
    labels, output = tmp_path / "labels.txt", tmp_path / "out.jsonl"
    labels.write_text("blue >= 0.9\n")  # one label is enough
    source = video(tmp_path / "a.mp4", "red", "blue", "red")
    summary, events, told = followed(
        ColourModel(),
        source,
        tmp_path,
        labels=str(labels),
        on_event=f"tee -a {output}",
        cooldown=0.0,
    )
    assert texts(events, source) == [NONE, "blue", NONE]
    first, second = told.splitlines()[:2]
    assert "none of these  (blue " in first  # of what it is not, the nearest
    assert "blue  1.00" in second
    (event,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert (event["text"], event["source"]) == ("blue", str(source))
    assert event["score"] > 0.9
    assert event["start"] == pytest.approx(2, abs=0.6)
    assert event["at"].endswith("+00:00")
    assert (summary.delivered, summary.held_back) == (1, 0)
    assert "1 events: 1 delivered" in told


def test_a_calibrated_model_says_none_of_these(labels, tmp_path):
    """Its floor counts for labels without a threshold, unless --label_threshold is given."""
    model, source = ColourModel(), video(tmp_path / "a.mp4", "red", "blue")
    floors = {"Which colour?": 1.1}
    model.calibration = Calibration(model.fingerprint, 30, np.zeros(3), np.zeros((3, 3)), floors)
    _, events, _ = followed(model, source, tmp_path, labels=labels, query="Which colour?")
    assert set(texts(events, source)) == {NONE}
    (tmp_path / "events.jsonl").unlink()
    _, events, _ = followed(
        model, source, tmp_path, labels=labels, query="Which colour?", label_threshold=0.5
    )
    assert texts(events, source) == ["red", "blue"]


def said(end, scores, new=True):
    best = max(scores, key=scores.get)
    return Said(end - 1, end, best, scores, new)


def test_a_label_pauses_for_its_cooldown_on_its_source():
    labels, handed = Labels(["a", "b"], np.eye(2), [0.5, 0.5]), []
    alarms = Alarms(handed.append, labels, cooldown=10.0)
    for end, source, scores in (
        (1, "x", {"a": 0.9, "b": 0.6}),  # both hold
        (5, "x", {"a": 0.9, "b": 0.1}),  # too soon
        (5, "y", {"a": 0.9, "b": 0.1}),  # another source
        (11, "x", {"a": 0.9, "b": 0.1}),
        (12, "x", {"a": 0.1, "b": 0.2}),  # none of these
    ):
        alarms.consider(said(end, scores, new=False), False, {"source": source, "end": end})
    alarms.consider(said(99, {"a": 0.9, "b": 0.9}), True, {"source": "x", "end": 99})  # unlike
    assert [(event["end"], event["source"], event["text"]) for event in handed] == [
        (1, "x", "a"),
        (1, "x", "b"),
        (5, "y", "a"),
        (11, "x", "a"),
    ]
    assert alarms.held_back == 1


def test_labels_without_a_threshold_hold_where_they_are_the_best():
    labels = Labels(["a", "b", "c"], np.eye(3), [None, 0.3, None])
    assert labels.holding({"a": 0.5, "b": 0.4, "c": 0.2}) == ["a", "b"]
    assert labels.holding({"b": 0.5, "a": 0.4, "c": 0.2}) == ["b"]
    assert Labels(["a", "b"], np.eye(2), None, lambda: 0.45).holding({"a": 0.5, "b": 0.4}) == ["a"]

"""The narrator: each segment said once, only what is new printed, in constant memory."""

import tracemalloc

import numpy as np
import pytest

from vljepa_jax.inference.streams.narrator import (
    Familiarity,
    Labels,
    Narrator,
    Said,
    TimelineRecorder,
    read_lines,
)
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.segmentation import unit

RNG = np.random.default_rng(0)
MEANINGS = unit(RNG.normal(size=(4, 16)))
TICK, WINDOW = 0.5, 2.0


def say(embedding):
    return f"meaning {(MEANINGS @ embedding).argmax()}", {}


def narrator(patience=0.0, threshold=0.3):
    return Narrator(
        say,
        lambda: OnlineSegmenter(window=6, delay=1, threshold=threshold),
        window=WINDOW,
        patience=patience,
    )


def told(talker, meanings):
    lines = []
    for index, meaning in enumerate(meanings):
        noise = 0.05 * np.random.default_rng(index).normal(size=16)
        lines += talker.feed(WINDOW + index * TICK, unit(MEANINGS[meaning] + noise))
    last = talker.restart()
    return lines + ([] if last is None else [last])


def test_each_segment_is_said_once_with_the_seconds_it_tells_of():
    talker = narrator()
    lines = told(talker, [0] * 8 + [1] * 8 + [2] * 8)
    assert [line.text for line in lines] == ["meaning 0", "meaning 1", "meaning 2"]
    assert [(line.start, line.end) for line in lines] == [(1.0, 5.0), (5.0, 9.0), (9.0, 12.5)]
    assert all(line.new for line in lines)
    assert (talker.windows, talker.decoded) == (24, 3)


def test_a_change_may_be_looked_for_far_back():
    ticks = 700
    talker = Narrator(
        say,
        lambda: OnlineSegmenter(window=ticks, delay=600, threshold=0.3),
        window=WINDOW,
        patience=0.0,
    )
    lines = told(talker, [0] * 20 + [1] * 650)
    assert [line.text for line in lines] == ["meaning 0", "meaning 1"]
    assert (lines[0].start, lines[0].end) == (1.0, 11.0)


def test_what_lasts_is_said_while_it_lasts_and_not_again():
    talker = narrator(patience=2.0)
    lines = told(talker, [0] * 20 + [1] * 3)
    assert [line.text for line in lines] == ["meaning 0", "meaning 1"]
    assert lines[0].end == lines[0].start + 2.0
    assert talker.decoded == 2


def test_what_repeats_the_text_before_is_not_new():
    embeddings = [0, 0, 0, 0, 0, 0]
    talker = narrator(threshold=1e-6)  # every wobble is a segment
    lines = told(talker, embeddings * 3)
    assert len(lines) > 3
    assert [line.new for line in lines] == [True] + [False] * (len(lines) - 1)


def test_a_restart_closes_what_is_open_and_forgets_it():
    talker = narrator()
    assert talker.restart() is None
    for index in range(4):
        talker.feed(WINDOW + index * TICK, MEANINGS[0])
    assert talker.restart() == Said(1.0, 2.5, "meaning 0", {}, True)
    talker.feed(100.0, MEANINGS[0])
    assert talker.restart() == Said(99.0, 99.0, "meaning 0", {}, True)


def test_labels_are_read_averaged_and_ranked(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("a dog | a puppy\n\na cat\n")
    rows = {"a dog": [1.0, 0, 0], "a puppy": [0, 1.0, 0], "a cat": [0, 0, 1.0]}
    labels = Labels.read(str(path), lambda texts: np.array([rows[text] for text in texts]))
    scores = labels.scores(np.array([0.6, 0.0, 0.8]))
    assert list(scores) == ["a cat", "a dog"]
    np.testing.assert_allclose(list(scores.values()), [0.8, 0.6 / 2**0.5])
    path.write_text("a dog | a puppy >= 0.7\na cat>=-.5\n")
    labels = Labels.read(str(path), lambda texts: np.array([rows[text] for text in texts]))
    assert labels.holding({"a dog": 0.71, "a cat": 0.0}) == ["a dog", "a cat"]
    assert labels.holding({"a cat": -0.6, "a dog": -0.7}) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a dog\n", "a single label is always the best; give it a threshold, as in 'a dog >= 0.4'"),
        ("\n", "holds no labels"),
        ("a dog >= high\n", "after >= comes a number from -1 to 1, not 'high'"),
        ("a dog >= 4\n", "not '4'"),
        ("a dog >= nan\n", "not 'nan'"),
        ("a dog >=\n", "not ''"),
    ],
)
def test_labels_that_make_no_sense_are_told(tmp_path, content, message):
    path = tmp_path / "labels.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        Labels.read(str(path), None)


def test_hours_take_no_more_memory_than_minutes():
    talker, recorder = narrator(patience=3.0), TimelineRecorder()
    frame = np.zeros((16, 16, 3), np.uint8)

    def run(first, count):
        for index in range(first, first + count):
            embedding = MEANINGS[index // 9 % 4]
            end = WINDOW + index * TICK
            for said in talker.feed(end, embedding):
                recorder.say(said)
            recorder.tick(end, talker.change, frame)

    tracemalloc.start()
    run(0, 9_000)
    early = tracemalloc.get_traced_memory()[0]
    run(9_000, 9_000)
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late < 1.1 * early
    picture = recorder.timeline()
    assert len(picture.times) <= 4_096
    assert len(picture.frames) == 16
    assert picture.times[-1] > 0.9 * 18_000 * TICK
    assert len(picture.spoken) == 64


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lines_are_read_as_they_were_saved(tmp_path, encoding):
    path = tmp_path / "labels.txt"
    path.write_bytes("a dog\r\n\r\nein Kätzchen \r\n".encode(encoding))
    assert read_lines(str(path)) == ["a dog", "ein Kätzchen"]


def test_lines_in_another_encoding_need_its_name(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("ein Kätzchen\n".encode("cp1252"))
    with pytest.raises(ValueError, match="labels.txt: is not in utf-8 .*--encoding=cp1252"):
        read_lines(str(path))
    assert read_lines(str(path), "cp1252") == ["ein Kätzchen"]
    path.write_bytes(b"")
    assert read_lines(str(path)) == []


def test_a_stream_is_unlike_training_when_some_windows_agree():
    familiarity = Familiarity()
    told = [familiarity.feed(new) for new in (*[2] * 4, 0.5, *[2] * 3, *[0.5] * 6, 2, 0.5)]
    assert told == [False] * 7 + [True] * 8 + [False]
    familiarity = Familiarity()
    assert not any(familiarity.feed(np.nan) for _ in range(9))

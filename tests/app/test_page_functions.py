"""What the page's buttons call, without Gradio: the same answers as the commands' functions."""

import dataclasses
import os
import time

import numpy as np
import pytest
from PIL import Image

from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.page_server import writing_colour_model
from tests.helpers.sample_media import footage
from vljepa_jax.app import pictures, search, visitors
from vljepa_jax.app.ask import ask
from vljepa_jax.app.search import Library, Progressed
from vljepa_jax.app.shared_model import SharedModel
from vljepa_jax.app.visitors import Refused, Uploads, labels_of, text_of
from vljepa_jax.app.watch import BrowserCamera, Watcher, Watchers, Wish, address_source
from vljepa_jax.config import ConfigError
from vljepa_jax.data.live_source import LiveSource, SourceError
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.calibration import Calibration
from vljepa_jax.inference.search.collection import CollectionSummary
from vljepa_jax.inference.search.hits import FOLD
from vljepa_jax.inference.streams.narrator import NONE
from vljepa_jax.inference.tasks import CAPTION_QUERY
from vljepa_jax.inference.videos import read_video


@pytest.fixture
def model():
    return SharedModel(writing_colour_model())


def clip_of(*colours, seconds=1.0, fps=8):
    count = round(seconds * fps)
    frames = [np.full((32, 32, 3), COLOURS[c], np.uint8) for c in colours for _ in range(count)]
    return write_mp4(frames, fps=fps)


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path / "sent", longest=600.0)


def sent(uploads, name, data):
    """A file as Gradio lays it down."""
    path = uploads.folder / "0123abcd" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_an_upload_is_read_by_the_readers_of_everything_and_removed(model, uploads):
    real = (footage() / "bikes.mp4").read_bytes()
    path = sent(uploads, "bikes.mp4", real)
    upload = uploads.read(path, model.video)
    np.testing.assert_array_equal(upload.clip, read_video(path, model.video))
    assert upload.name == "bikes.mp4"
    uploads.sweep(time.time())
    assert os.path.exists(path)  # another visitor may have sent the same a moment ago
    aged(path, 61)
    waiting = sent(uploads, "not_read_yet.mp4", real)
    aged(waiting, 61)
    uploads.sweep(time.time())
    assert not os.path.exists(path)
    assert os.path.exists(waiting)
    aged(waiting, 3601)
    uploads.sweep(time.time())
    assert not os.path.exists(waiting)
    aged(uploads.folder / "0123abcd", 61)
    uploads.sweep(time.time())
    assert list(uploads.folder.iterdir()) == []


def test_what_is_no_video_is_named_as_its_sender_did(model, uploads):
    with pytest.raises(ClipError) as told:
        uploads.read(sent(uploads, "notes.mp4", b"no video at all" * 99), model.video)
    assert visitors.message(told.value).startswith("notes.mp4: ")
    with pytest.raises(ClipError, match=r"^empty.mp4: is empty"):
        uploads.read(sent(uploads, "empty.mp4", b""), model.video)


def test_what_is_too_long_is_refused_before_it_is_decoded(model, tmp_path, monkeypatch):
    uploads = Uploads(tmp_path / "sent", longest=1.5)
    monkeypatch.setattr(visitors, "read_video", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(Refused, match="long.mp4 is 2 s long; up to 2 s"):
        uploads.read(sent(uploads, "long.mp4", clip_of("red", "green")), model.video)


def test_texts_and_labels_have_limits():
    assert text_of("the question", "  what? ") == "what?"
    with pytest.raises(Refused, match=r"the question has 30,000 characters; up to 2,000"):
        text_of("the question", "x" * 30_000)
    assert labels_of("labels", "a dog | a puppy\n\n a cat \n|") == [["a dog", "a puppy"], ["a cat"]]
    with pytest.raises(Refused, match=r"the labels are 501; up to 500"):
        labels_of("labels", "\n".join(map(str, range(501))))


def test_ask_says_what_classify_and_caption_say(model):
    clip = read_video(np.full((4, 20, 20, 3), COLOURS["green"], np.uint8), model.video)
    labels = [["red"], ["green", "blue"], ["a dog"]]
    given = ask(model, clip, "which?", labels, write=True)
    assert given.scores == model.classify(clip, labels, "which?")
    assert given.text == model.caption(clip, "which?")
    assert (given.matches, given.unlike) == ((), None)
    assert ask(model, clip, "", [], write=True).query == CAPTION_QUERY
    with pytest.raises(Refused, match="name candidates"):
        ask(model, clip, "which?", [], write=False)


def test_ask_says_what_the_calibration_knows(model):
    model.calibration = Calibration("colours", 99, np.zeros(3), np.eye(3) / 2, {"which?": 0.9})
    clip = read_video(np.full((4, 20, 20, 3), COLOURS["green"], np.uint8), model.video)
    given = ask(model, clip, "which?", [["green"], ["red"]], write=False)
    assert (given.matches, given.unlike) == ((True, False), False)
    shown = pictures.answer(given)
    assert shown.count('class="bar"') == 1
    assert shown.count('class="bar no"') == 1
    assert "No match" in pictures.answer(ask(model, clip, "which?", [["red"]], write=False))
    model.calibration = dataclasses.replace(model.calibration, whitening=np.eye(3) * 2)
    strange = ask(model, clip, "which?", [["green"]], write=False)
    assert strange.unlike is True
    assert "unlike" in pictures.answer(strange)


def test_a_model_without_a_y_decoder_says_so():
    model = SharedModel(ColourModel())
    with pytest.raises(ConfigError, match="has no Y-Decoder"):
        ask(model, np.zeros((2, 16, 16, 3), np.uint8), "", [], write=True)


def test_what_visitors_type_is_no_html(model):
    clip = np.zeros((2, 16, 16, 3), np.uint8)
    given = ask(model, clip, "<script>1</script>", [["<img src=x onerror=alert(1)>"]], write=False)
    assert "<script" not in pictures.answer(given)
    assert "<img" not in pictures.answer(given)


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for colour in COLOURS:
        (folder / f"{colour}.mp4").write_bytes(clip_of(colour))
    Image.new("RGB", (40, 30), COLOURS["red"]).save(folder / "still.png")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def test_an_index_is_made_and_updated_and_searched(model, collection, tmp_path):
    index = Library(model, str(tmp_path / "index"), [str(collection)], num_workers=0)
    assert "launch/embed.py makes one" in index.described()
    *steps, summary = index.update(0.0, 0.0)
    assert all(isinstance(step, Progressed) for step in steps)
    assert isinstance(summary, CollectionSummary)
    assert (summary.embedded, len(summary.unreadable)) == (4, 1)
    assert "broken.mp4" in pictures.collection(summary)
    assert index.described() == "4 embeddings of 4 clips, whole clips"
    hits = index.find("green", None)
    assert hits == model.retrieve("green", str(tmp_path / "index"), fold=FOLD)
    assert os.path.basename(hits[0].name) == "green.mp4"
    (collection / "second.mp4").write_bytes(clip_of("green"))
    *_, summary = index.update(0.0, 0.0)
    assert (summary.embedded, summary.unchanged) == (1, 4)
    best = index.find("green", None)[0]  # as it is on disk now
    assert search.title(best).endswith("1.000  (+ 1 like it)")
    with pytest.raises(Refused, match="type a text"):
        index.find("", None)


def test_an_index_searched_by_example_with_filters(model, collection, tmp_path):
    index = Library(model, str(tmp_path / "index"), [str(collection)], num_workers=0)
    list(index.update(0.0, 0.0))
    red = read_video(np.full((1, 20, 20, 3), COLOURS["red"], np.uint8), model.video)
    best = {os.path.basename(hit.name) for hit in index.find("", red, threshold=0.9)}
    assert best <= {"red.mp4", "still.png"}
    assert best
    named = index.find("", red, names="gre")
    assert [os.path.basename(hit.name) for hit in named] == ["green.mp4"]
    assert len(index.find("", red, top=2)) == 2


def test_a_hit_is_played_at_its_time(model, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "long.mp4").write_bytes(clip_of("red", "green", "blue", seconds=2))
    Image.new("RGB", (41, 31), COLOURS["red"]).save(folder / "still.png")
    index = Library(model, str(tmp_path / "index"), [str(folder)], num_workers=0)
    list(index.update(2.0, 2.0))
    hit = index.find("green", None)[0]
    assert (hit.start, hit.end) == (2.0, 4.0)
    assert search.title(hit).startswith("long.mp4  0:02-0:04  ")
    (tmp_path / "played.mp4").write_bytes(search.played(hit))
    played = read_video(tmp_path / "played.mp4", dataclasses.replace(model.video, frames=8))
    assert (np.abs(played.mean(axis=(1, 2)) - COLOURS["green"]) < 8).all()
    (still,) = index.find("red", None, names="still")
    assert search.played(still)
    assert search.picture(hit).size[1] == 160


def test_a_page_without_an_index_says_so(model):
    index = Library(model, None, [], num_workers=0)
    with pytest.raises(Refused, match="start it with --index"):
        index.find("red", None)
    with pytest.raises(Refused, match="updates no index"):
        next(index.update(0.0, 0.0))


def test_watching_a_file_says_what_follow_says(model, tmp_path):
    path = tmp_path / "stream.mp4"
    path.write_bytes(clip_of("red", "green", "blue", seconds=8))
    source = LiveSource("file", str(path))
    watcher = Watcher(model, source, Wish(fast=True))
    assert watcher.wait(60.0)
    assert watcher.error is None
    lines, _, picture = watcher.events.told()
    assert [line.text for line in reversed(lines)] == ["red", "green", "blue"]
    assert watcher.events.summary.windows == len(picture.times) == 45
    assert "green" in pictures.lines(lines)
    labelled = Watcher(model, source, Wish(labels=["green", "red | crimson", "blue"], fast=True))
    assert labelled.wait(60.0)
    assert [set(line.scores) for line in labelled.events.told()[0]] == [
        {"green", "red", "blue"}
    ] * 3
    strict = Watcher(model, source, Wish(labels=["green >= 0.9", "blue >= 0.9"], fast=True))
    assert strict.wait(60.0)
    said, *_ = strict.events.told()
    texts = [line.text for line in reversed(said)]
    assert texts[0] == NONE
    assert [text for text in texts if text != NONE] == ["green", "blue"]


def test_watching_ends_where_nobody_looks_or_it_is_stopped(model):
    camera = BrowserCamera()
    watcher = Watcher(model, camera, Wish(), unwatched=0.5)
    watchers = Watchers()
    watchers.start("someone", watcher)
    deadline = time.monotonic() + 60
    while not watcher.wait(0.0) and time.monotonic() < deadline:
        camera.push(Image.new("RGB", (32, 32)))
        watcher._looked -= 1.0  # as if the tab had been closed a second ago
        time.sleep(0.1)
    assert watcher.wait(0.0)
    assert watcher.error is None
    assert watcher.events.summary is not None
    second = Watcher(model, BrowserCamera(), Wish())
    watchers.start("someone", second)
    watchers.stop("someone")
    assert second.wait(60.0)
    watchers.forget("someone", second)
    assert watchers.of("someone") is None


def test_a_camera_that_falls_silent_is_an_error(model):
    watcher = Watcher(model, BrowserCamera(silence=0.2), Wish())
    assert watcher.wait(60.0)
    assert isinstance(watcher.error, SourceError)
    assert "sends no pictures" in visitors.message(watcher.error)


@pytest.mark.parametrize(
    "text", ["", "rubbish", "/etc/passwd", "file:///etc/passwd", "concat://a|b", "camera"]
)
def test_only_addresses_of_streams_are_opened(text):
    with pytest.raises(Refused, match="is no address of a stream"):
        address_source(text)
    with pytest.raises(Refused, match="'file://host/x' is no address"):
        address_source("file://me:secret@host/x")
    assert address_source("rtsp://camera.local/live").kind == "network"


def test_labels_that_cannot_be_used_are_an_error(model, tmp_path):
    path = tmp_path / "stream.mp4"
    path.write_bytes(clip_of("red"))
    watcher = Watcher(model, LiveSource("file", str(path)), Wish(labels=["a", "a"], fast=True))
    assert watcher.wait(60.0)
    told = visitors.message(watcher.error)
    assert "more than once" in told
    assert str(tmp_path.parent) not in told

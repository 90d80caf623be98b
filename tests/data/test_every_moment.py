"""Every moment of every span is what decoding the whole file gives, in every way of reading."""

import dataclasses
import functools
import http.server
import pathlib
import threading

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.media_library import CASES, MISSING_ENCODERS
from tests.helpers.naive_decode import decode, decode_images
from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data.cut import cut
from vljepa_jax.data.live_source import LiveSource, SourceEnded, play
from vljepa_jax.data.records import ClipError, Medium
from vljepa_jax.data.video import load_clip, play_time, read_frames
from vljepa_jax.inference.streams.embed_stream import play_windows
from vljepa_jax.inference.streams.windows import SlidingWindow

av.logging.set_level(None)

CLIP = VideoInput(8, 32, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)
WINDOW = dataclasses.replace(CLIP, frames=4)
NAMES = sorted(name for name, case in CASES.items() if case.codec not in MISSING_ENCODERS)
VIDEOS = [name for name in NAMES if not CASES[name].is_image]
PLAYED = [name for name in NAMES if not name.startswith("still")]
# Through a server as well, which cannot seek.
SERVED = ["h264_open.ts", "h264_fragmented.mp4", "h264_open.mkv", "mpeg2_fields.vob", "vp9.webm"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A case's name -> its path and what its frames are."""
    folder = tmp_path_factory.mktemp("library")

    @functools.cache
    def made(name):
        case = CASES[name]
        path = case.write(folder)
        found = decode_images(path) if case.is_image else decode(path, case.stream)
        return str(path), found

    return made


class Comparison:
    """Compares pictures with the reference's; knows which frames were wrong."""

    def __init__(self, name, reference):
        self.case, self.reference = CASES[name], reference
        self.wrong, self.compared = [], 0

    def at(self, time, picture, where=""):
        """``picture`` is given for the moment ``time`` of the file."""
        if self.reference.on_edge(time):
            return
        self.compared += 1
        index = self.reference.index(time)
        if not self.same(picture, self.shown(index)):
            all_of_them = range(len(self.reference.pictures))
            same = [i for i in all_of_them if self.same(picture, self.shown(i))]
            given = f"frame {same[0]}" if same else "none of its frames"
            self.wrong.append(f"{where} at {time:.4f} s: {given} instead of frame {index}")

    def failed(self, where, error):
        self.compared += 1
        self.wrong.append(f"{where}: {error}")

    def shown(self, index):
        """The picture with square pixels."""
        picture, pixel = self.reference.pictures[index], self.reference.pixel
        height, width = picture.shape[:2]
        if pixel == 1:
            return picture
        size = round(width * max(1, pixel)), round(height * max(1, 1 / pixel))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))

    def same(self, picture, expected):
        if picture.shape != expected.shape:
            return False
        if self.reference.pixel != 1:  # filters differ; other frames are farther, by 30 levels
            return np.abs(picture.astype(int) - expected).mean() < 10
        if self.case.tolerance:
            return np.abs(picture.astype(int) - expected).max() <= self.case.tolerance
        return np.array_equal(picture, expected)

    def finish(self):
        assert self.compared, "nothing was compared"
        assert not self.wrong, f"{len(self.wrong)} of {self.compared} are wrong:\n" + "\n".join(
            self.wrong[:12]
        )


class FittedComparison(Comparison):
    """Of frames that are cut and resized as ``load_clip`` does it."""

    @functools.cache  # noqa: B019
    def shown(self, index):
        picture = super().shown(index)
        height, width = picture.shape[:2]
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = Image.fromarray(picture)
        return np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box=box))


def spans(reference):
    """Whole, near either end, beyond them, and short ones everywhere."""
    end, times = reference.end, reference.times
    step = end / len(times)
    chosen = [(None, None), (0.0, 0.3 * end), (None, 0.4 * end), (0.6 * end, None)]
    chosen += [(end - 1.3 * step, end), (end - 2.3 * step, end + 3 * step)]
    chosen += [(-2 * step, 1.7 * step), (-5 * step, -2 * step), (0.47 * end, 0.47 * end + step / 9)]
    # Every third frame: some of them hang on a keyframe that comes after them.
    chosen += [(t, t + 1.7 * step) for t in times[:: 3 if len(times) > 6 else 1] if t < end - step]
    return chosen


def moments(reference, span):
    """Seconds in a span: before, at and after the edges of frames, and between."""
    first = 0.0 if span[0] is None else span[0]
    last = reference.end if span[1] is None else span[1]
    chosen = first + (np.arange(24) + 0.5) / 24 * (last - first)
    if None not in span:
        edges = np.add.outer(reference.times, (-9e-4, -3e-4, 0.0, 2e-3)).ravel()
        chosen = np.concatenate([chosen, edges[(edges >= first) & (edges < last)]])
    return np.sort(chosen), first, last


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_finds_what_was_encoded(name, library):
    case, reference = CASES[name], library(name)[1]

    def small(picture):
        image = Image.fromarray(np.ascontiguousarray(picture)).resize((32, 24))
        return np.asarray(image).astype(float)

    known = np.stack([small(picture) for picture in case.pictures()])
    found = [int(np.abs(known - small(p)).mean((1, 2, 3)).argmin()) for p in reference.pictures]
    assert found == case.numbers()
    # Encoders of sound begin some milliseconds before its first sample.
    lead = reference.times[0] - case.seconds()[0]
    assert abs(lead) < (1e-4 if case.sound is None else 0.03)
    np.testing.assert_allclose(np.array(reference.times) - lead, case.seconds(), atol=1.1e-3)
    if not name.startswith("still"):
        last = 1 / case.rate if case.last is None else case.last
        assert reference.end == pytest.approx(case.seconds()[-1] + last + lead, abs=2e-3)


def test_the_build_of_ffmpeg_has_what_the_cases_need():
    """What it lacks is named here, not skipped in silence."""

    def missing(names, mode):
        def lacks(name):
            try:
                av.codec.Codec(name, mode)
            except av.codec.codec.UnknownCodecError:
                return True
            return False

        return {name for name in names if lacks(name)}

    videos = [case for case in CASES.values() if case.codec]
    assert missing({case.codec for case in videos}, "w") == MISSING_ENCODERS
    decoders = "h264 hevc vp8 libvpx vp9 libvpx-vp9 libdav1d mpeg2video mpeg4 mjpeg prores gif"
    decoders += " wmv1 wmv2 wmv3 vc1 msmpeg4v3 qtrle ffv1"
    assert missing(decoders.split(), "r") == set()
    assert {case.form for case in videos} - av.formats_available == set()


@pytest.mark.parametrize("name", NAMES)
def test_read_frames(name, library):
    path, reference = library(name)
    comparison = Comparison(name, reference)
    for span in spans(reference):
        times, first, last = moments(reference, span)
        medium = Medium(path=path, start=span[0], end=span[1])
        try:
            frames = read_frames(medium, (times - first) / (last - first), np.asarray)
        except ClipError as error:
            comparison.failed(span, error)
            continue
        for time, frame in zip(times, frames, strict=True):
            comparison.at(time, frame, span)
    comparison.finish()


@pytest.mark.parametrize("name", NAMES)
def test_load_clip(name, library):
    path, reference = library(name)
    comparison = FittedComparison(name, reference)
    for span in spans(reference):
        _, first, last = moments(reference, span)
        times = first + (np.arange(8) + 0.5) / 8 * (last - first)
        try:
            clip = load_clip([Medium(path=path, start=span[0], end=span[1])], CLIP, None)
        except ClipError as error:
            comparison.failed(span, error)
            continue
        for time, frame in zip(times, clip, strict=True):
            comparison.at(time, frame, span)
    comparison.finish()


@pytest.mark.parametrize("name", VIDEOS)
def test_cut(name, library):
    path, reference = library(name)
    comparison = Comparison(name, reference)
    for span in spans(reference):
        times, first, last = moments(reference, span)
        try:
            part = cut(Medium(path=path, start=span[0], end=span[1]))
            frames = read_frames(part, (times - first) / (last - first), np.asarray)
        except ClipError as error:
            comparison.failed(span, error)
            continue
        assert part.data
        assert not part.path
        for time, frame in zip(times, frames, strict=True):
            comparison.at(time, frame, span)
    comparison.finish()


@pytest.mark.parametrize("name", PLAYED)
def test_length(name, library):
    path, reference = library(name)
    assert play_time(Medium(path=path)) == pytest.approx((0.0, reference.end), abs=2e-3)


@pytest.mark.parametrize("name", PLAYED)
def test_windows_of_a_stream(name, library):
    path, reference = library(name)
    comparison = FittedComparison(name, reference)
    shown = reference.end - reference.times[0]
    seconds, rate = CASES[name].window or (0.27 * shown, 17 / shown)
    sliding = SlidingWindow(WINDOW, seconds=seconds, ticks_per_second=rate)
    windows = list(play_windows(Medium(path=path), sliding))
    for window in windows:
        times = window.end + ((np.arange(4) + 0.5) / 4 - 1) * seconds
        for time, frame in zip(times, window.clip, strict=True):
            comparison.at(time, frame, f"window that ends at {window.end:.3f} s")
    comparison.finish()
    assert windows[-1].end == pytest.approx(reference.end, abs=1 / rate + 2e-3)


@pytest.mark.parametrize("name", PLAYED)
def test_a_file_played(name, library):
    path, reference = library(name)
    _compare_played(Comparison(name, reference), play(LiveSource("file", path)))


@pytest.mark.parametrize("name", VIDEOS)  # FFmpeg opens addresses, which reads few animations
def test_an_address_played(name, library):
    path, reference = library(name)
    _compare_played(Comparison(name, reference), play(LiveSource("network", f"file:{path}")))


@pytest.mark.parametrize("name", SERVED)
def test_a_server_played(name, library):
    path, reference = library(name)
    path = pathlib.Path(path)
    handler = functools.partial(_Quiet, directory=path.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/{path.name}"
            _compare_played(Comparison(name, reference), play(LiveSource("network", address)))
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def _compare_played(comparison, played):
    """The first frame's time aside, which may be when an address was opened."""
    reference, begins, pictures = comparison.reference, [], []
    try:
        for frame in played:
            begins.append(frame.begin)
            pictures.append(np.asarray(frame.image()))
            end = frame.end
    except SourceEnded:
        pass
    shift = reference.times[0] - begins[0]
    assert abs(shift) < 1e-4 or abs(begins[0]) < 1e-4
    for time in moments(reference, (0.0, reference.end))[0]:
        index = max(0, np.searchsorted(begins, time - shift + 6e-4, side="right") - 1)
        comparison.at(time, pictures[index])
    comparison.finish()
    if comparison.case.last != 0.0:  # else the file does not tell
        assert end + shift == pytest.approx(reference.end, abs=2e-3)


def test_a_codec_without_a_decoder_is_named(tmp_path):
    """EVC, for which the wheels of PyAV have none."""
    with pytest.raises(av.codec.codec.UnknownCodecError):
        av.codec.Codec("evc", "r")
    data = CASES["h264.mp4"].write(tmp_path).read_bytes()
    medium = Medium(data=data.replace(b"avc1\0\0\0\0", b"evc1\0\0\0\0"))
    with pytest.raises(ClipError, match="evc"):
        read_frames(medium, [0.5], np.asarray)

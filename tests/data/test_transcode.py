"""Videos that preparation encodes anew, against decoded frames of the original."""

import dataclasses
import io

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.sample_media import encode, footage, numbered_frames, numbers
from tests.helpers.training_files import contents, write_lines
from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.records import Annotation, ClipError, Medium, Record
from vljepa_jax.data.share_writer import ShareJob, ShareOptions
from vljepa_jax.data.shares import SourceError
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.transcode import Encoding, EncodingError, transcode
from vljepa_jax.data.video import read_frames
from vljepa_jax.datasets import training_command
from vljepa_jax.datasets.sft_lines import SFTLines

CODECS = ("h264", "hevc", "vp9", "av1")
FRAMES = 24
# Seconds at which frames begin, at no rate.
STAMPS = np.cumsum([0, *np.random.default_rng(0).integers(40, 250, FRAMES - 1)]) / 1000
MOMENTS = (np.arange(97) + 0.5) / 97


def shown(medium):
    return numbers(np.stack(read_frames(medium, MOMENTS, np.asarray)))


@pytest.fixture(scope="module")
def irregular(tmp_path_factory):
    """A video of 2 to 4 seconds whose frames begin at STAMPS."""
    path = tmp_path_factory.mktemp("videos") / "a.mkv"
    return str(encode(path, numbered_frames(FRAMES), stamps=STAMPS))


@pytest.mark.parametrize("codec", CODECS)
def test_every_moment_of_a_span_shows_the_frame_that_it_showed(irregular, codec):
    for start, end in ((None, None), (0.61, 1.53), (-0.5, 0.7), (1.1, None), (None, 99.0)):
        medium = Medium(path=irregular, start=start, end=end)
        part = transcode(medium, Encoding(codec))
        assert not part.path
        assert shown(part) == shown(medium)
    assert part.data == transcode(medium, Encoding(codec)).data


@pytest.mark.parametrize("codec", CODECS)
def test_pictures_are_those_of_the_original_made_smaller(codec):
    """Of real footage: within 6 grey levels on average and of the same mean colours."""
    medium = Medium(path=str(footage() / "bigbuckbunny.mp4"), start=1.3, end=1.8)
    part = transcode(medium, Encoding(codec, short_side=128))
    at = (0.0, 0.4, 0.9)
    found = np.stack(read_frames(part, at, np.asarray)).astype(float)
    assert found.shape == (3, 128, 228, 3)  # 1280 x 720
    small = (228, 128), Image.Resampling.BICUBIC
    expected = np.stack(read_frames(medium, at, lambda image: np.asarray(image.resize(*small))))
    assert np.abs(found - expected).mean() < 6
    np.testing.assert_allclose(found.mean((1, 2)), expected.mean((1, 2)), atol=1.5)


def test_a_rate_keeps_frames_at_their_own_times(irregular):
    whole, end = Medium(path=irregular), STAMPS[-1]
    part = transcode(dataclasses.replace(whole, end=end), Encoding(fps=4))
    kept = {np.flatnonzero(at + 1e-9 >= STAMPS)[-1] for at in np.arange(0, end, 0.25)}
    kept = np.array(sorted(kept))
    assert 8 < len(kept) < FRAMES
    expected = [kept[STAMPS[kept] <= moment * end][-1] for moment in MOMENTS]
    assert shown(part) == expected
    more = transcode(dataclasses.replace(whole, end=end), Encoding(fps=1000))
    assert shown(more) == shown(dataclasses.replace(whole, end=end))


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_are_as_near_as_asked_for(tmp_path, codec):
    """Of frames that come twelve a second, and then four."""
    stamps = np.cumsum([0, *[1 / 12] * 12, *[1 / 4] * 11])
    frames = numbered_frames(FRAMES)
    path = encode(tmp_path / "a.mkv", frames, stamps=stamps, options={"g": "300"})
    part = transcode(Medium(path=str(path)), Encoding(codec, keyframe_seconds=0.5))
    with av.open(io.BytesIO(part.data)) as container:
        keys = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.is_keyframe]
    assert 8 <= len(keys) <= 12  # of 24
    assert np.diff(keys).max() <= 0.5 + 2e-3  # as Matroska rounds


def test_turned_and_odd_pictures(tmp_path):
    frames = np.zeros((3, 47, 65, 3), np.uint8)
    frames[:, :, :30] = 200
    path = encode(tmp_path / "a.avi", frames)
    (image,) = read_frames(transcode(Medium(path=str(path)), Encoding()), [0.5], np.asarray)
    assert image.shape == (48, 64, 3)
    path = encode(tmp_path / "a.mp4", frames[:, :46, :64], rotation=90)
    (image,) = read_frames(transcode(Medium(path=str(path)), Encoding()), [0.5], np.asarray)
    (expected,) = read_frames(Medium(path=str(path)), [0.5], np.asarray)
    assert image.shape == expected.shape == (64, 46, 3)
    assert np.abs(image.astype(int) - expected).mean() < 4


def stream(path, start, end, times):
    texts = tuple(map(str, times))
    annotation = Annotation("a", "stream", texts=texts, times=times, durations=(0.1,) * len(times))
    return Record("a", (Medium(path=path, start=start, end=end),), (annotation,))


@pytest.mark.parametrize("encoding", [None, Encoding()], ids=["copied", "encoded"])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_times_of_annotations_move_with_the_file(irregular, encoding, margin):
    times = (1.0, 1.55, 1.9)
    record = stream(irregular, 0.9, 2.0, times)
    found, reasons = MediaCheck(True, encoding=encoding, margin=margin)(record)
    assert reasons == (None,)
    (medium,) = found.media
    assert medium.end - medium.start == pytest.approx(1.1)
    assert shown(medium) == shown(record.media[0])

    def seen(medium, times):
        spans = [dataclasses.replace(medium, start=at, end=at + 1e-3) for at in times]
        return [numbers(np.stack(read_frames(span, [0.0], np.asarray)))[0] for span in spans]

    own = found.annotations[0].times
    assert len(set(own)) == 3
    assert seen(Medium(medium.data), own) == seen(Medium(path=irregular), times)
    if margin:  # what is around the span is there
        around = [
            dataclasses.replace(m, start=m.start - margin, end=m.end + margin)
            for m in (medium, record.media[0])
        ]
        assert shown(around[0]) == shown(around[1])


def test_a_span_beyond_the_end_is_refused_with_any_margin(irregular):
    for encoding in (None, Encoding()):
        check = MediaCheck(True, encoding=encoding, margin=5.0)
        _, reasons = check(stream(irregular, 6.0, 7.0, (6.5,)))
        assert "starts at 6.0 s" in reasons[0]


def test_settings_that_no_codec_takes_are_named(tmp_path):
    with pytest.raises(EncodingError, match="'h265' is none of h264, hevc, vp9, av1"):
        Encoding("h265")
    with pytest.raises(EncodingError, match="short_side = 255"):
        Encoding(short_side=255)
    with pytest.raises(EncodingError, match="above 0"):
        Encoding(keyframe_seconds=0)
    for option in ({"encoding": Encoding()}, {"margin": 1.0}):
        with pytest.raises(SourceError, match="neither encoded nor trimmed"):
            training_command.plan("plm_sft", root=".", output="x", embed=False, **option)


def test_shares_of_encoded_videos_have_the_same_bytes_wherever_they_are_made(irregular, tmp_path):
    for number in range(3):
        rows = [
            {"video": irregular.split("/")[-1], "text": f"{n}", "start_time": n / 2, "end_time": n}
            for n in (1, 2)
        ]
        write_lines(tmp_path / "in" / f"{number}.jsonl", [*rows, {"video": "b.mp4", "text": "c"}])
    (tmp_path / "in" / "a.mkv").symlink_to(irregular)
    (tmp_path / "in" / "b.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"?" * 99)
    check = MediaCheck(True, encoding=Encoding(short_side=32, fps=5), margin=0.2)
    options = ShareOptions("train", check, "skip")
    jobs = [
        ShareJob.plan(SFTLines({}, str(tmp_path / "in")), options, tmp_path / name, "d", 1)
        for name in ("one", "other")
    ]
    list(jobs[0].write(jobs[0].missing(), 0))
    list(jobs[1].write(jobs[1].missing(1, 2), 0))
    list(jobs[1].write(jobs[1].missing(), 2))
    card = jobs[0].finish()
    assert jobs[1].finish() == card
    assert contents(jobs[0].output) == contents(jobs[1].output)
    assert (card["records"], card["skipped"]) == (6, {"unreadable": 3})
    assert card["media"]["encoding"]["short_side"] == 32
    assert card["media"]["margin"] == 0.2
    record = next(open_dataset(jobs[0].output).records("train"))
    (image,) = read_frames(record.media[0], [0.5], np.asarray)
    assert image.shape[0] == 32


def test_frames_of_several_shapes_are_refused(tmp_path):
    joined = tmp_path / "a.ts"  # transport streams may be joined byte by byte
    for height in (48, 96):
        part = encode(tmp_path / f"{height}.mp4", numbered_frames(6, height))
        with av.open(str(part)) as source, av.open(str(tmp_path / "b.ts"), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
        with open(joined, "ab") as file:
            file.write((tmp_path / "b.ts").read_bytes())
    with pytest.raises(ClipError, match="several shapes"):
        transcode(Medium(path=str(joined)), Encoding())

import io
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.media_library import CASES
from tests.helpers.sample_media import encode, numbered_frames, png
from vljepa_jax.data import ffmpeg, images, media_errors, video, video_decoder
from vljepa_jax.data.collection import Item
from vljepa_jax.data.cut import cut
from vljepa_jax.data.media_errors import raised_by_library, reading
from vljepa_jax.data.packet_reader import PacketReader
from vljepa_jax.data.records import ClipError, Medium

CLIP = Medium(path="/x/a.mp4")


def pillow_of_no_image():
    Image.open(io.BytesIO(b"no image"))


def pillow_of_a_wrong_argument():
    Image.new("RGB", (2, 2)).crop((1, 1, 0, 0))


def pyav_of_no_video():
    av.open(io.BytesIO(b"no video"))


def pyav_compiled():
    with av.open(io.BytesIO(), "w", format="mp4") as output:
        output.add_stream("prores_ks", rate=5)


def system():
    Path("/no/such/file").read_bytes()


LIBRARIES = [pillow_of_no_image, pillow_of_a_wrong_argument, pyav_of_no_video, pyav_compiled]


@pytest.mark.parametrize("fail", [*LIBRARIES, system], ids=lambda fail: fail.__name__)
def test_errors_of_files_and_libraries_are_the_mediums_and_chained(fail):
    with (
        pytest.raises(ClipError, match=r"^/x/a.mp4: cannot be decoded \(.+\)$") as error,
        reading(CLIP),
    ):
        fail()
    assert error.value.__cause__ is not None
    assert fail.__name__ in "".join(traceback.format_exception(error.value))


def test_memory_that_is_used_up_is_the_mediums_fault():
    with pytest.raises(ClipError, match="more memory than there is"), reading(CLIP):
        raise MemoryError


def failing(*arguments, **named):
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    ("where", "name", "medium"),
    [
        (ffmpeg.Timeline, "stamp", "video"),
        (ffmpeg, "_is_right", "video"),
        (video_decoder, "fraction", "video"),
        (images, "_rgb_or_rgba", "image"),
        (video, "_fit", "video"),
        (video, "_fit", "image"),
    ],
)
def test_a_bug_of_our_own_keeps_its_traceback(monkeypatch, tmp_path, where, name, medium):
    frames = numbered_frames(5)
    path = encode(tmp_path / "a.mp4", frames)
    chosen = Medium(path=str(path)) if medium == "video" else Medium(data=png(frames[0]))
    how = video.thumbnails(2, 16)
    video.load_clip([chosen], how, None)
    monkeypatch.setattr(where, name, failing)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        video.load_clip([chosen], how, None)


def test_who_raised():
    def error_of(function):
        try:
            function()
        except Exception as error:
            return error

    assert all(raised_by_library(error_of(fail)) for fail in LIBRARIES)
    assert not raised_by_library(error_of(system))
    assert not raised_by_library(error_of(lambda: video.thumbnails()))


def test_tags_in_another_encoding(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered_frames(5))
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as output:
        output.metadata["title"] = "cafe!"
        stream = source.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    latin = (tmp_path / "b.mp4").read_bytes().replace(b"cafe!", b"caf\xe9!")
    assert b"caf\xe9!" in latin
    assert video.play_time(Medium(data=latin)) == pytest.approx((0.0, 0.5))
    assert cut(Medium(data=latin, start=0.1, end=0.3)).data


def test_a_span_of_prores_is_cut_into_a_container_that_holds_it(tmp_path):
    path = CASES["prores.mov"].write(tmp_path)
    part = cut(Medium(path=str(path), start=1.0, end=2.0))
    assert len(part.data) < path.stat().st_size / 2


def test_pictures_of_a_video_have_a_limit(monkeypatch, tmp_path):
    path = encode(tmp_path / "a.mp4", numbered_frames(5))  # 64 x 48
    item = Item("a", (Medium(path=str(path)),))
    monkeypatch.setattr(media_errors, "MAX_PIXELS", 64 * 48)
    item.decode(video.thumbnails(2, 16), None)
    monkeypatch.setattr(media_errors, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ClipError, match="has more than 3,071 pixels, the most that are read"):
        item.decode(video.thumbnails(2, 16), None)


def test_a_larger_picture_amid_a_video_is_not_decoded(monkeypatch, tmp_path):
    """What the header says is checked before; FFmpeg refuses what comes later."""
    path = CASES["new_size.mkv"].write(tmp_path)
    sizes = {image.size for _, _, image in shown(path)}
    smaller, larger = sorted(width * height for width, height in sizes)
    monkeypatch.setattr(video_decoder, "_LIMITS", {"max_pixels": str(larger)})
    assert {image.size for _, _, image in shown(path)} == sizes
    monkeypatch.setattr(video_decoder, "_LIMITS", {"max_pixels": str(smaller)})
    with pytest.raises(ClipError):
        list(shown(path))


def shown(path):
    for frame in video.play(Medium(path=str(path))):
        yield frame.begin, frame.end, frame.image()


def test_avi_with_fewer_times_than_frames(tmp_path):
    path = CASES["h264.avi"].write(tmp_path)
    with PacketReader(Medium(path=str(path))) as reader:
        packets = list(reader.demux())
        for packet in packets[10:-1]:
            packet.dts = None
        stamps = [stamp for stamp, _ in reader.decoder.play(packets)]
    assert len(stamps) > 20
    assert stamps == sorted(stamps)


def test_a_clip_that_is_said_to_be_months_long_has_no_windows(monkeypatch, tmp_path):
    path = encode(tmp_path / "a.mp4", numbered_frames(10))
    item = Item("a", (Medium(path=str(path)),))
    assert len(item.windows(0.5, 0.1)) == 6
    with pytest.raises(ClipError, match="is 1 s long: 9,999,999 windows"):
        item.windows(1e-7, 1e-7)


@pytest.mark.parametrize("size", [(70_000, 70_000), (1, 89_478_486)])
def test_a_small_file_of_a_large_picture_is_not_decoded(size):
    """Its header alone is read: gigabytes would follow."""
    header = Image.new("1", (1, 1))
    buffer = io.BytesIO()
    header.save(buffer, "png")
    data = bytearray(buffer.getvalue())
    data[16:24] = b"".join(side.to_bytes(4, "big") for side in size)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ClipError, match="has more than 89,478,485 pixels"):
        video.read_frames(Medium(data=bytes(data)), [0.5], np.asarray)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it there")
@pytest.mark.parametrize(
    ("mode", "form"), [("I;16", "png"), ("P", "gif"), ("RGBA", "webp"), ("CMYK", "jpeg")]
)
def test_the_largest_pictures_fit_in_two_gibibytes(tmp_path, mode, form):
    side = int(media_errors.MAX_PIXELS**0.5)
    path = tmp_path / f"large.{form}"
    Image.new(mode, (side, side)).save(path)
    program = (
        "import pathlib, sys\n"
        "from vljepa_jax.data import video\n"
        "from vljepa_jax.data.records import Medium\n"
        # Of this program alone: ru_maxrss is that of the process that started it, if it is more.
        "status = pathlib.Path('/proc/self/status')\n"
        "used = lambda: int(status.read_text().partition('VmHWM:')[2].split()[0])\n"
        "before = used()\n"
        "video.load_clip([Medium(path=sys.argv[1])], video.thumbnails(1, 64), None)\n"
        "print((used() - before) << 10)\n"
    )
    taken = subprocess.check_output([sys.executable, "-c", program, str(path)])
    assert side**2 * 3 < int(taken) < 2 << 30

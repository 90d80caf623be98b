import io

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.sample_media import numbered_frames
from vljepa_jax.data.kinds import first_bytes, is_still, kind_of, looks_like_media, recognise
from vljepa_jax.data.records import ClipError, Medium

# FFmpeg's muxer -> (codec, options of the muxer): each begins a file in its own way.
VIDEOS = {
    "mp4": ("libx264", {}),
    "mp4 in fragments": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("libx264", {}),
    "3gp": ("h263", {}),
    "matroska": ("libx264", {}),
    "webm": ("libvpx-vp9", {}),
    "avi": ("mpeg4", {}),
    "asf": ("wmv2", {}),
    "flv": ("flv1", {}),
    "mpegts": ("mpeg2video", {}),
    "mpegts with time stamps": ("mpeg2video", {"mpegts_m2ts_mode": "1"}),
    "mpeg": ("mpeg1video", {}),
    "vob": ("mpeg2video", {}),
    "mpeg2video": ("mpeg2video", {}),
    "mxf": ("mpeg2video", {}),
    "gxf": ("mpeg2video", {}),
    "dv": ("dvvideo", {}),
    "ivf": ("libvpx", {}),
    "ogg": ("libvpx", {}),
    "nut": ("mpeg4", {}),
    "rm": ("rv20", {}),
    "wtv": ("mpeg2video", {}),
    "yuv4mpegpipe": ("wrapped_avframe", {}),
}
# Pillow's format -> whether a single picture of it is known not to be animated.
IMAGES = {"PNG": True, "JPEG": True, "GIF": False, "BMP": True, "WEBP": True, "AVIF": True}


def video(name):
    codec, options = VIDEOS[name]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=name.split()[0], options=options) as container:
        stream = container.add_stream(codec, rate=25)
        # H.263, and professional formats, know few sizes.
        stream.width, stream.height = (176, 144) if codec == "h263" else (720, 576)
        stream.pix_fmt = "yuv420p"
        for frame in numbered_frames(3, stream.height, stream.width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def image(form, frames=1, **options):
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in numbered_frames(frames))
    several = {"save_all": True, "append_images": others} if others else {}
    first.save(buffer, form, **several, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_are_told_by_content(name, tmp_path):
    data = video(name)
    assert recognise(data[:4096]) == kind_of(Medium(data=data)) == "video"
    (tmp_path / "x").write_bytes(data)
    assert looks_like_media(str(tmp_path / "x"))


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_told_by_content(name, tmp_path):
    data = image(name)
    (tmp_path / "x.mp4").write_bytes(data)
    medium = Medium(path=str(tmp_path / "x.mp4"))
    assert kind_of(medium) == "image"
    assert is_still(first_bytes(medium)) == IMAGES[name]
    if name not in ("JPEG", "BMP"):
        moving = image(name, frames=3)
        assert recognise(moving) == "image"
        assert not is_still(moving)


def test_an_animated_png_may_have_a_colour_profile_first():
    profile = np.random.default_rng(0).bytes(3000)
    moving = image("PNG", frames=3, icc_profile=profile)
    assert moving.index(b"acTL") > 3000
    assert not is_still(moving[:4096])
    assert is_still(image("PNG", icc_profile=profile)[:4096])


def brands(major, *others):
    body = b"ftyp" + major + bytes(4) + b"".join(others)
    return (4 + len(body)).to_bytes(4, "big") + body + b"avif"  # what follows is another box


@pytest.mark.parametrize(
    ("header", "kind", "still"),
    [
        (brands(b"heic", b"mif1", b"heic"), "image", True),
        (brands(b"mif1", b"mif1", b"avif"), "image", True),
        (brands(b"msf1", b"hevc", b"mif1"), "image", False),
        (brands(b"avis", b"avif"), "image", False),
        (brands(b"mif1", b"miaf"), "image", True),  # of whichever codec: pillow-heif knows
        (brands(b"isom", b"avif"), "video", False),
        (brands(b"M4A ", b"mp42"), None, False),
        (b"\0\0\x6d\x5amoov\0\0\0\x6cmvhd", "video", False),  # QuickTime of old
        (b"\x7f\0\0\0mdat", "video", False),
        (b"I'm free\nto go", None, False),
        (b"RIFF\0\0\0\0WAVEfmt ", None, False),
        (b"RIFF\0\0\0\0WEBPVP8X", "image", True),  # cut off
        (b"OggS\0\2" + bytes(22) + b"\x01vorbis", None, False),
        (b"OggS\0\2" + bytes(22) + b"\x80theora", "video", False),
        (b"BMW, a maker of cars and motorcycles", None, False),
        (b"import { Frame } from './GGG';\n" * 40, None, False),  # TypeScript
        ((b"G" + bytes(187)) * 3, "video", False),
        ((bytes(60) + b"G" + bytes(143)) * 6, "video", False),  # cut inside a packet of 204 bytes
        (b"<!DOCTYPE html>", None, False),
        (b"%PDF-1.7", None, False),
        (b"PK\3\4", None, False),
        (b"G", None, False),
        (b"", None, False),
    ],
)
def test_headers(header, kind, still):
    assert recognise(header) == kind
    assert is_still(header) == still
    if header:  # FFmpeg has the last word on what is not recognised
        assert kind_of(Medium(data=header)) == (kind or "video")


def test_what_cannot_be_told_is_an_error(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ClipError, match="empty: is empty"):
        kind_of(Medium(path=f"{tmp_path}/empty"))
    with pytest.raises(ClipError, match="embedded file of 0 bytes: is empty"):
        kind_of(Medium())
    with pytest.raises(ClipError, match=r"gone: cannot be opened \(No such file or directory\)"):
        kind_of(Medium(path=f"{tmp_path}/gone"))


def test_a_folder_s_files_are_opened_only_where_the_extension_does_not_tell(tmp_path, monkeypatch):
    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    told = [write(name, b"") for name in ("a.MP4", "b.wmv", "c.3gp", "d.TIFF", "e.mpg", "f.heic")]
    others = [write(name, b"") for name in ("a.txt", "b.SRT", "c.jsonl", "d.npz", "e.mp3", "f.tar")]
    unknown = [write(name, video("mpegts")) for name in ("a.ts", "b.xyz", "noextension", "a.b c")]
    text = [write(name, b"export const x = 1;\n") for name in ("b.ts", "README", "empty.foo")]
    gone = str(tmp_path / "gone.foo")
    assert all(map(looks_like_media, [*told, *unknown, gone]))  # reading it will say why
    assert not any(map(looks_like_media, [*others, *text]))

    def refused(*arguments, **keywords):
        raise AssertionError(f"opened {arguments[0]}")

    monkeypatch.setattr("builtins.open", refused)
    assert all(map(looks_like_media, told))
    assert not any(map(looks_like_media, others))
    with pytest.raises(AssertionError, match="opened"):
        looks_like_media(text[0])

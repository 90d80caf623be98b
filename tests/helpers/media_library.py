"""Small files of every codec, container and oddity, made anew for the tests.

Each case says what is in its file: which of the numbered pictures it shows, and when. So the
reference (``naive_decode``) is checked as well as what is compared with it.
"""

import functools
from fractions import Fraction

import av
import numpy as np

from tests.helpers.numbered_media import (
    Case,
    attached,
    cover_first,
    edited,
    ffmpeg_gif,
    hidden,
    joined,
    new_size,
    packed,
    pillow,
    repeated,
    same_stamps,
    superframes,
)

_X264 = {"crf": "18", "preset": "veryfast"}
_OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
H264 = _X264 | {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0"}
H264_OPEN = _X264 | {"x264-params": _OPEN}
H264_KEYS = _X264 | {"x264-params": "keyint=1"}
H264_PLAIN = _X264 | {"x264-params": "keyint=12:bframes=0:scenecut=0"}
H264_REFRESH = _X264 | {"x264-params": "intra-refresh=1:keyint=12:bframes=0:scenecut=0"}
H264_FIELDS = _X264 | {"x264-params": _OPEN + ":tff=1"}
_X265 = ":pools=none:frame-threads=1:log-level=none"
HEVC_OPEN = {"preset": "ultrafast", "x265-params": _OPEN + _X265}
VP9 = {"cpu-used": "8", "g": "12", "b": "400k", "auto-alt-ref": "0"}
VP8 = {"cpu-used": "8", "g": "12", "b": "600k", "auto-alt-ref": "0"}
AV1 = {"preset": "12", "crf": "40", "g": "12", "svtav1-params": "lp=1:hierarchical-levels=3"}
MPEG2 = {"b": "2M", "g": "12", "bf": "2"}
FIELDS = MPEG2 | {"flags": "+ildct+ilme"}
MPEG4 = {"b": "2M", "g": "12", "bf": "2"}

# Encoders that the builds of FFmpeg in PyAV's wheels lack; their cases are not run.
MISSING_ENCODERS = frozenset()


_VFR = tuple(np.cumsum([0, *np.random.default_rng(3).integers(17, 350, 29)]).astype(float) / 1000)
_SLIDES = (0.0, 10.0, 20.0, 30.0, 40.0)
_DROPPED = (*range(10), 13, 14, 20, 21, *range(30, 48))  # of 48 places in an AVI
_STILL = {"count": 1}
_JUMP = {"make": joined, "count": 40}


def _cases():
    def case(name, codec, form, options=None, **more):
        return Case(name, codec, form, options or {}, **more)

    def h264(name, form, options=H264, **more):
        return case(name, "libx264", form, options, **more)

    yield h264("h264.mp4", "mp4")
    yield h264("h264.mov", "mov")
    yield h264("h264.mkv", "matroska")
    yield h264("h264.ts", "mpegts")
    yield h264("h264.avi", "avi")
    yield h264("h264.mxf", "mxf", rate=25)
    yield h264("h264_30fps.mkv", "matroska", rate=30, count=90, window=(8 / 30, 30))
    yield h264("h264_fragmented.mp4", "mp4", muxer={"movflags": "frag_keyframe+empty_moov"})
    yield h264("h264_no_edits.mp4", "mp4", muxer={"use_editlist": "0"})
    yield h264("clock_wraps.ts", "mpegts", H264_OPEN, delay=2**33 / 90000 - 2.0)
    for name, form in {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts", "vob": "vob"}.items():
        yield h264(f"h264_open.{name}", form, H264_OPEN)
    for name, form in {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts"}.items():
        yield h264(f"h264_refresh.{name}", form, H264_REFRESH)
    yield h264("h264_fields.ts", "mpegts", H264_FIELDS, rate=25)
    yield h264("h264_odd.mp4", "mp4", pix_fmt="yuv444p", size=(65, 49))
    yield h264("h264_vfr.mp4", "mp4", stamps=_VFR, count=30)
    yield h264("h264_vfr.mkv", "matroska", stamps=_VFR, count=30)
    yield h264("h264_vfr.ts", "mpegts", stamps=_VFR, count=30, last=0.0)
    yield h264("slides.mp4", "mp4", H264_KEYS, stamps=_SLIDES, count=5)
    yield h264("slides.mkv", "matroska", H264_KEYS, stamps=_SLIDES, count=5)
    yield h264("late.nut", "nut", delay=10.0)
    for name, form in {"mp4": "mp4", "mkv": "matroska"}.items():
        yield h264(f"late.{name}", form, delay=10.0)
        yield h264(f"sound_first.{name}", form, delay=1.0, sound=0.0)
        yield h264(f"sound_later.{name}", form, sound=1.0)
    yield h264("sound_first.ts", "mpegts", delay=1.0, sound=0.0)
    yield h264("sound_later.ts", "mpegts", sound=1.0)
    yield h264("wide_pixels.mp4", "mp4", pixel=Fraction(2))
    yield h264("high_pixels.mkv", "matroska", pixel=Fraction(2, 3))
    for degrees in (0, 90, 180, 270):
        for mirrored in (False, True):
            name = f"turned_{degrees}{'_mirrored' * mirrored}.mp4"
            yield h264(name, "mp4", count=12, rotation=(degrees, mirrored))
    yield h264("wide_pixels_turned.mp4", "mp4", count=12, pixel=Fraction(2), rotation=(90, False))
    yield h264("turned_90.mkv", "matroska", count=12, rotation=(90, False))
    yield h264(
        "edit.mp4",
        "mp4",
        delay=-1.5,
        muxer={"avoid_negative_ts": "disabled"},
        shown=tuple(range(15, 48)),
        times=tuple(i / 10 for i in range(33)),
    )
    yield h264(
        "edit_ends.mp4",
        "mp4",
        finish=edited((2.0, 1.5)),
        shown=tuple(range(15, 35)),
        times=tuple(i / 10 for i in range(20)),
    )
    yield h264(
        "edit_two.mp4",
        "mp4",
        H264_PLAIN,
        finish=edited((1.0, 3.0), (1.5, 0.5)),
        shown=(*range(30, 40), *range(5, 20)),
        times=tuple(i / 10 for i in range(25)),
    )
    yield h264("edit_empty.mp4", "mp4", finish=edited((1.0, -1), (4.8, 0.0)))
    yield h264("new_size.ts", "mpegts", make=new_size)
    yield h264("new_size.mkv", "matroska", make=new_size)
    yield h264("joined.ts", "mpegts", **_JUMP)
    yield h264("joined_open.ts", "mpegts", H264_OPEN, **_JUMP)
    yield h264("joined_named.mp4", "mpegts", **_JUMP)
    yield h264("joined_sound.ts", "mpegts", sound=0.0, **_JUMP)
    yield h264("cover_first.mkv", "matroska", make=cover_first, stream=1)
    yield h264("cover_attached.mkv", "matroska", make=attached)
    cover = av.stream.Disposition.attached_pic
    yield h264("cover.mp4", "mp4", make=functools.partial(cover_first, disposition=cover))
    for name, form in {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts", "avi": "avi"}.items():
        yield h264(f"single.{name}", form, **_STILL)

    for name, form in {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts"}.items():
        yield case(f"hevc_10bit_open.{name}", "libx265", form, HEVC_OPEN, pix_fmt="yuv420p10le")

    yield case("vp8.webm", "libvpx", "webm", VP8)
    seen = tuple(number for number in range(48) if number % 6 != 4)
    yield case(
        "vp8_hidden.webm",
        "libvpx",
        "webm",
        VP8,
        make=hidden,
        shown=seen,
        times=tuple(number / 10 for number in seen),
    )
    yield case("vp8_alpha.webm", "libvpx", "webm", VP8, pix_fmt="yuva420p", tolerance=1)
    yield case("vp9.webm", "libvpx-vp9", "webm", VP9)
    seen = tuple(number for number in range(48) if number % 12)
    for name in ("webm", "mp4"):
        yield case(
            f"vp9_hidden.{name}",
            "libvpx-vp9",
            name,
            VP9,
            make=superframes,
            shown=seen,
            times=tuple((number - (number % 12 == 1)) / 10 for number in seen),
        )
    yield case("vp9_alpha.webm", "libvpx-vp9", "webm", VP9, pix_fmt="yuva420p", tolerance=1)
    yield case("vp9_odd.webm", "libvpx-vp9", "webm", VP9, size=(65, 49))
    yield case("vp9_vfr.webm", "libvpx-vp9", "webm", VP9, stamps=_VFR, count=30)
    yield case("vp9_single.webm", "libvpx-vp9", "webm", VP9, **_STILL)
    yield case("vp9_opus_first.webm", "libvpx-vp9", "webm", VP9, delay=1.0, sound=0.0)
    for name, form in {"mkv": "matroska", "webm": "webm", "mp4": "mp4"}.items():
        yield case(f"av1.{name}", "libsvtav1", form, AV1, count=36)

    for name, form in {"ts": "mpegts", "mpg": "mpeg", "vob": "vob", "mkv": "matroska"}.items():
        yield case(f"mpeg2.{name}", "mpeg2video", form, MPEG2, rate=25)
        yield case(f"mpeg2_fields.{name}", "mpeg2video", form, FIELDS, rate=25)
    yield case("mpeg2_joined.mpg", "mpeg2video", "mpeg", MPEG2, rate=25, **_JUMP)
    yield case("mpeg2_joined.vob", "mpeg2video", "vob", FIELDS, rate=25, **_JUMP)
    yield case(
        "mpeg2_sound_first.vob", "mpeg2video", "vob", MPEG2, rate=25, delay=1.0, sound=0.0, stream=1
    )
    yield case("mpeg2_single.mpg", "mpeg2video", "mpeg", MPEG2, rate=25, **_STILL)

    yield case("mpeg4.avi", "mpeg4", "avi", MPEG4)
    yield case("mpeg4.mp4", "mpeg4", "mp4", MPEG4)
    yield case("mpeg4_packed.avi", "mpeg4", "avi", MPEG4 | {"bf": "1"}, make=packed)
    yield case("mpeg4_odd.avi", "mpeg4", "avi", MPEG4, size=(65, 49))
    dropped = {"count": len(_DROPPED), "stamps": tuple(i / 10 for i in _DROPPED)}
    yield case("mpeg4_dropped.avi", "mpeg4", "avi", MPEG4 | {"bf": "0"}, **dropped)
    yield case("mjpeg_dropped.avi", "mjpeg", "avi", pix_fmt="yuvj420p", **dropped)
    yield case("sound.avi", "mpeg4", "avi", MPEG4, sound=0.0)
    # The muxer writes the first packet at once, and then nothing for a second.
    yield case(
        "sound_first.avi",
        "mpeg4",
        "avi",
        MPEG4,
        delay=1.0,
        sound=0.0,
        times=(0.0, *(1.0 + i / 10 for i in range(47))),
    )
    yield h264("h264_dropped.avi", "avi", H264_PLAIN, **dropped)

    for name, form in {"avi": "avi", "mov": "mov", "mkv": "matroska"}.items():
        yield case(f"mjpeg.{name}", "mjpeg", form, pix_fmt="yuvj420p")
    yield case(
        "mjpeg_same_stamps.mkv",
        "mjpeg",
        "matroska",
        pix_fmt="yuvj420p",
        make=same_stamps,
        times=tuple((5 if i == 6 else i) / 10 for i in range(48)),
    )
    seen = tuple(number for number in range(46) if number % 7 < 4)
    yield case(
        "mjpeg_repeated.nut",
        "mjpeg",
        "nut",
        pix_fmt="yuvj420p",
        make=repeated,
        count=46,
        shown=seen,
        times=tuple(number / 10 for number in seen),
    )
    yield case("flv1.swf", "flv", "swf", {"b": "2M", "g": "12"})
    yield case("prores.mov", "prores_ks", "mov", pix_fmt="yuv422p10le")
    yield case(
        "prores_alpha.mov",
        "prores_ks",
        "mov",
        {"profile": "4444"},
        pix_fmt="yuva444p10le",
        tolerance=1,
    )
    yield case("qtrle_alpha.mov", "qtrle", "mov", pix_fmt="argb", tolerance=1)
    yield case("ffv1_odd.mkv", "ffv1", "matroska", pix_fmt="yuv420p", size=(65, 49))
    yield case("wmv2.asf", "wmv2", "asf", {"b": "2M", "g": "12"})
    yield case(
        "wmv2_vfr.wmv", "wmv2", "asf", {"b": "2M", "g": "12"}, stamps=_VFR, count=30, last=0.0
    )
    yield case("wmv2_late.wmv", "wmv2", "asf", {"b": "2M", "g": "12"}, delay=10.0)
    yield case("wmv2_sound_first.wmv", "wmv2", "asf", {"b": "2M"}, delay=1.0, sound=0.0)

    yield case("ffmpeg.gif", "", "gif", make=ffmpeg_gif, count=20)
    for name, form, options in (
        ("gif", "GIF", {"disposal": 2}),
        ("webp", "WEBP", {"lossless": True}),
        ("avif", "AVIF", {"quality": 90, "max_threads": 1}),
    ):
        yield case(f"animated.{name}", "", form, options, make=pillow, count=20)
        yield case(f"animated_odd.{name}", "", form, options, make=pillow, count=8, size=(65, 49))
        yield case(
            f"animated_vfr.{name}",
            "",
            form,
            options,
            make=pillow,
            count=8,
            stamps=(0.0, 0.1, 0.5, 0.6, 2.6, 2.7, 2.9, 3.0),
        )
        yield case(
            f"animated_clear.{name}",
            "",
            form,
            options,
            make=pillow,
            count=8,
            pix_fmt="rgba",
            tolerance=1,
        )
        yield case(f"still.{name}", "", form, options, make=pillow, **_STILL)


CASES = {case.name: case for case in _cases()}

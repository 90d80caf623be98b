"""Small files of every codec, container and oddity, made anew for the tests.

Each case says what is in its file: which of the numbered pictures it shows, and when. So the
reference (``naive_decode``) is checked as well as what is compared with it.
"""

import dataclasses
import functools
import io
import struct
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from PIL import Image

_X264 = {"crf": "18", "preset": "veryfast"}
_OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
H264 = _X264 | {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0"}
H264_OPEN = _X264 | {"x264-params": _OPEN}
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

# Encoders of the cases that a build of FFmpeg may lack, by version of PyAV: their cases are not
# run there. Empty: the wheels of both have them all.
MISSING_ENCODERS = frozenset()


@functools.cache
def sources(count, width, height):
    """Numbered pictures, all different, that share moving texture: predicting one from another
    pays, so that a frame built on the wrong one is wrong."""
    texture = np.random.default_rng(0).integers(0, 256, (height // 6 + 1, width // 6 + 1, 3))
    texture = np.kron(texture, np.ones((6, 6, 1)))[:height, :width]
    frames = []
    for index in range(count):
        frame = np.roll(texture, (2 * (index % 5), 3 * index), (0, 1))
        marks = np.random.default_rng(1 + index).integers(0, 256, (2, 4, 3))
        frame[16:32, 8:40] = np.kron(marks, np.ones((8, 8, 1)))
        frame[: height // 4, : width // 4] = 0  # tells orientations apart
        frames.append(frame.astype(np.uint8))
    return frames


@dataclasses.dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: of the file, with its extension.
        codec: encoder; "" for files of Pillow.
        form: muxer of FFmpeg, or format of Pillow.
        options: of the encoder.
        muxer: options of the muxer.
        count, rate: number of pictures encoded and their rate per second.
        stamps: seconds of the pictures, where they are not evenly spaced.
        delay: seconds by which all stamps are later.
        sound: seconds at which sound starts, if there is any.
        size: (width, height) of the pictures.
        pixel: width over height of a pixel.
        rotation: counter-clockwise degrees, and whether it is mirrored left to right after.
        stream: index of the picture in the file.
        finish: changes the bytes of the file, or of the muxed packets.
        shown: numbers of the pictures that the file shows; by default all that were encoded.
        times: seconds at which it shows them, from the file's start.
        last: seconds that the last one is shown.
        tolerance: grey levels by which the pixels may differ from the reference's.
    """

    name: str
    codec: str
    form: str
    options: dict = dataclasses.field(default_factory=dict)
    muxer: dict = dataclasses.field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    count: int = 48
    rate: int = 10
    stamps: tuple[float, ...] | None = None
    delay: float = 0.0
    sound: float | None = None
    size: tuple[int, int] = (64, 48)
    pixel: Fraction = Fraction(1)
    rotation: tuple[int, bool] | None = None
    stream: int = 0
    make: Callable | None = None
    finish: Callable | None = None
    shown: tuple[int, ...] | None = None
    times: tuple[float, ...] | None = None
    last: float | None = None
    tolerance: int = 0
    window: tuple[float, float] | None = None

    @property
    def is_image(self):
        return not self.codec

    @property
    def clear(self):
        return self.pix_fmt in ("yuva420p", "yuva444p10le", "argb", "rgba")

    @property
    def tick(self):
        even = self.stamps is None or self.form == "avi"
        return Fraction(1, self.rate if even else 1000)

    def numbers(self):
        return list(range(self.count)) if self.shown is None else list(self.shown)

    def seconds(self):
        if self.times is not None:
            return list(self.times)
        stamps = self.stamps or [index / self.rate for index in range(self.count)]
        lead = 0.0 if self.sound is None else max(0.0, self.delay - self.sound)
        return [stamp + lead for stamp in stamps]

    def pictures(self):
        """The numbered pictures, as a player draws them."""
        turned = sources(100, *self.size)
        if self.clear:
            opacity = _opacity(self) / 255
            turned = [picture * opacity + 255 * (1 - opacity) for picture in turned]
            turned = [picture.astype(np.uint8) for picture in turned]
        if self.rotation is not None:
            degrees, mirrored = self.rotation
            turned = [np.rot90(picture, degrees // 90) for picture in turned]
            turned = [picture[:, ::-1] if mirrored else picture for picture in turned]
        return turned

    def write(self, folder):
        """Makes the file; gives its path."""
        path = folder / self.name
        (self.make or _encode)(self, path)
        if self.finish is not None:
            path.write_bytes(self.finish(path.read_bytes()))
        return path


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------
def _picture(case, number):
    array = sources(100, *case.size)[number]
    if case.clear:
        opacity = _opacity(case).astype(np.uint8)
        return av.VideoFrame.from_ndarray(np.concatenate([array, opacity], -1), format="rgba")
    return av.VideoFrame.from_ndarray(array, format="rgb24")


def _opacity(case):
    """Of a picture that one sees through: above right at all, below left by half."""
    opacity = np.full((case.size[1], case.size[0], 1), 255.0)
    opacity[: case.size[1] // 2, case.size[0] // 2 :] = 0
    opacity[case.size[1] // 2 :, : case.size[0] // 2] = 0 if case.form == "GIF" else 128
    return opacity


def _add_video(container, case):
    stream = container.add_stream(case.codec, rate=case.rate)
    stream.width, stream.height = case.size
    stream.pix_fmt = case.pix_fmt
    stream.options = dict(case.options)
    stream.codec_context.thread_count = 1
    if case.pixel != 1:
        stream.codec_context.sample_aspect_ratio = case.pixel
    if case.rotation is not None:
        stream.set_display_rotation(case.rotation[0], hflip=case.rotation[1])
    stream.codec_context.time_base = case.tick
    return stream


def _packets(case, encoder, numbers):
    """Encodes the pictures; stamps are set here."""
    packets = []
    for place, number in enumerate(numbers):
        frame = _picture(case, number)
        if (encoder.width, encoder.height) != case.size:
            frame = frame.reformat(encoder.width, encoder.height)
        frame.time_base = case.tick
        frame.pts = place if case.stamps is None else round(case.stamps[place] / case.tick)
        packets += encoder.encode(frame)
    return packets + encoder.encode()


def _delayed(packets, seconds):
    for packet in packets:
        shift = round(seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
    return packets


_SOUND = {"mp4": "aac", "mov": "pcm_s16le", "webm": "libopus", "avi": "pcm_s16le"}


def _add_sound(container, form, seconds):
    """A stream of silence, and a function that gives its packets."""
    stream = container.add_stream(_SOUND.get(form, "mp2"), rate=48000, layout="mono")

    def packets():
        context, given = stream.codec_context, []
        size = context.frame_size or 1024
        for block in range(int(seconds * 48000 / size)):
            sound = av.AudioFrame(context.format.name, "mono", size)
            for plane in sound.planes:
                plane.update(bytes(plane.buffer_size))
            sound.sample_rate, sound.pts = 48000, block * size
            sound.time_base = Fraction(1, 48000)
            given += stream.encode(sound)
        return given + stream.encode()

    return packets


def _encode(case, path, numbers=None):
    with av.open(str(path), "w", format=case.form, options=dict(case.muxer)) as container:
        stream = _add_video(container, case)
        if case.sound is not None:
            sound = _add_sound(container, case.form, 4.0)
        packets = _delayed(_packets(case, stream, numbers or range(case.count)), case.delay)
        if case.sound is not None:
            packets += _delayed(sound(), case.sound)
        packets.sort(key=lambda p: (p.pts if p.dts is None else p.dts) * p.time_base)
        for packet in packets:
            container.mux(packet)


def _pillow(case, path):
    images = [Image.fromarray(picture) for picture in sources(100, *case.size)[: case.count]]
    if case.clear:
        for image in images:
            image.putalpha(Image.fromarray(_opacity(case)[..., 0].astype(np.uint8)))
    lengths = np.diff([*case.seconds(), case.seconds()[-1] + (case.last or 1 / case.rate)])
    images[0].save(
        path,
        case.form,
        save_all=True,
        append_images=images[1:],
        duration=[round(1000 * length) for length in lengths],
        **case.options,
    )


def _cover_first(case, path):
    """A picture of the album in front, as a stream like any other."""
    with av.open(str(path), "w", format=case.form) as container:
        cover = container.add_stream("mjpeg", rate=case.rate)
        cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
        cover.disposition = case.muxer["cover"]
        stream = _add_video(container, case)
        stream.disposition = av.stream.Disposition.default
        still = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 90, np.uint8), format="rgb24")
        still.pts = 0
        packets = cover.encode(still) + cover.encode() + _packets(case, stream, range(case.count))
        for packet in packets:
            container.mux(packet)


def _attached(case, path):
    """With a picture attached, as music has its cover."""
    cover = io.BytesIO()
    Image.new("RGB", (96, 96), (90, 90, 90)).save(cover, "JPEG")
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        for packet in _packets(case, stream, range(case.count)):
            container.mux(packet)


def _same_stamps(case, path):
    """Pictures 5 and 6 at once: Matroska allows it."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        packets = _packets(case, stream, range(case.count))
        packets[6].pts = packets[6].dts = packets[5].pts
        for packet in packets:
            container.mux(packet)


def _new_size(case, path):
    """Half as large from the middle on."""
    half = case.count // 2
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        packets = _packets(case, stream, range(half))
        encoder = av.CodecContext.create(case.codec, "w")
        encoder.width, encoder.height = case.size[0] // 2, case.size[1] // 2
        encoder.pix_fmt, encoder.options = case.pix_fmt, dict(case.options)
        encoder.time_base, encoder.framerate = case.tick, case.rate
        encoder.thread_count = 1
        packets += _delayed(_packets(case, encoder, range(half, case.count)), half / case.rate)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)


def _copied(packet, data, stream):
    copy = av.Packet(data)
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.stream, copy.is_keyframe = stream, packet.is_keyframe
    return copy


def _hidden(case, path):
    """VP8's alternative references: frames that are decoded, but not shown."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        for place, packet in enumerate(_packets(case, stream, range(case.count))):
            data = bytearray(bytes(packet))
            if place not in case.shown:
                data[0] &= ~0x10  # show_frame, RFC 6386, section 9.1
            container.mux(_copied(packet, bytes(data), stream))


def _superframes(case, path):
    """VP9's alternative references: a frame not shown rides in the packet of one that is."""
    with av.open(str(path), "w", format=case.form) as container:
        stream, hidden = _add_video(container, case), None
        for place, packet in enumerate(_packets(case, stream, range(case.count))):
            data = bytearray(bytes(packet))
            if place not in case.shown:
                data[0] &= ~0x02  # show_frame of a keyframe, VP9's specification, section 6.2
                hidden = packet, data
                continue
            if hidden is not None:
                index = struct.pack("<BHHB", 0xC9, len(hidden[1]), len(data), 0xC9)  # annex B
                packet, data, hidden = hidden[0], hidden[1] + data + index, None
            container.mux(_copied(packet, bytes(data), stream))


def _joined(case, path):
    """Two recordings, one behind the other, each with a clock of its own."""
    half, whole = case.count // 2, b""
    for numbers in (range(half), range(half, case.count)):
        _encode(case, path, numbers)
        whole += path.read_bytes()
    path.write_bytes(whole)


def _packed(case, path):
    """MPEG-4 as DivX wrote it: a B frame rides in the packet of the frame before it."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        packets = [bytes(packet) for packet in _packets(case, stream, range(case.count))]
        start = packets[0].index(b"\x00\x00\x01\xb6")
        packets[0] = packets[0][:start] + b"\x00\x00\x01\xb2DivX503b1393p" + packets[0][start:]
        kinds = [data[data.index(b"\x00\x00\x01\xb6") + 4] >> 6 for data in packets]
        chunks = []
        for data, kind in zip(packets, kinds, strict=True):
            if kind == 2:
                chunks[-1] += data
                chunks.append(b"\x00\x00\x01\xb6\x51\x7f")  # a frame that is not coded
            else:
                chunks.append(data)
        for place, data in enumerate(chunks):
            packet = av.Packet(data)
            packet.pts = packet.dts = place
            packet.time_base, packet.stream = Fraction(1, case.rate), stream
            packet.is_keyframe = kinds[place] == 0
            container.mux(packet)


# ---------------------------------------------------------------------------------------------
# Changing the boxes of an MP4
# ---------------------------------------------------------------------------------------------
def _edited(*edits):
    """Sets the edit list: (seconds shown, seconds of the media from which, or -1 for nothing)."""

    def finish(data):
        moov = data.index(b"moov") - 4
        moved = data.index(b"elst") - 4
        size = struct.unpack(">I", data[moved : moved + 4])[0]
        scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 :][:4])[0]
        media = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0]
        first = struct.unpack(">i", data[moved + 20 : moved + 24])[0]  # where the first frame is
        rows = b"".join(
            struct.pack(
                ">IiI", round(length * scale), -1 if at < 0 else first + round(at * media), 1 << 16
            )
            for length, at in edits
        )
        box = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
        grown = bytearray(data[:moved] + box + data[moved + size :])
        for name in (b"moov", b"trak", b"edts"):
            at = grown.index(name, moov) - 4
            grown[at : at + 4] = struct.pack(
                ">I", struct.unpack(">I", grown[at : at + 4])[0] + len(box) - size
            )
        return bytes(grown)

    return finish


# ---------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------
_VFR = tuple(np.cumsum([0, *np.random.default_rng(3).integers(17, 350, 29)]).astype(float) / 1000)
_SLIDES = (0.0, 10.0, 20.0, 30.0, 40.0)
_DROPPED = (*range(10), 13, 14, 20, 21, *range(30, 48))  # of 48 places in an AVI
_STILL = {"count": 1}
_JUMP = {"make": _joined, "count": 40}


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
    yield h264("slides.mp4", "mp4", stamps=_SLIDES, count=5, last=10.0)
    yield h264("slides.mkv", "matroska", stamps=_SLIDES, count=5)
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
    kept = tuple(range(15, 48))
    yield h264(
        "edit.mp4",
        "mp4",
        delay=-1.5,
        muxer={"avoid_negative_ts": "disabled"},
        shown=kept,
        times=tuple(i / 10 for i in range(33)),
    )
    yield h264(
        "edit_ends.mp4",
        "mp4",
        finish=_edited((2.0, 1.5)),
        shown=tuple(range(15, 35)),
        times=tuple(i / 10 for i in range(20)),
    )
    yield h264(
        "edit_two.mp4",
        "mp4",
        H264_PLAIN,
        finish=_edited((1.0, 3.0), (1.5, 0.5)),
        shown=(*range(30, 40), *range(5, 20)),
        times=tuple(i / 10 for i in range(25)),
    )
    yield h264("edit_empty.mp4", "mp4", finish=_edited((1.0, -1), (4.8, 0.0)))
    yield h264("new_size.ts", "mpegts", make=_new_size)
    yield h264("new_size.mkv", "matroska", make=_new_size)
    yield h264("joined.ts", "mpegts", **_JUMP)
    yield h264("joined_open.ts", "mpegts", H264_OPEN, **_JUMP)
    yield h264("joined_named.mp4", "mpegts", **_JUMP)
    yield h264("joined_sound.ts", "mpegts", sound=0.0, **_JUMP)
    yield h264("cover_first.mkv", "matroska", make=_cover_first, muxer={"cover": 0}, stream=1)
    yield h264("cover_attached.mkv", "matroska", make=_attached)
    attached = av.stream.Disposition.attached_pic
    yield h264("cover.mp4", "mp4", make=_cover_first, muxer={"cover": attached})
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
        make=_hidden,
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
            make=_superframes,
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
    yield case("mpeg4_packed.avi", "mpeg4", "avi", MPEG4 | {"bf": "1"}, make=_packed)
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
        make=_same_stamps,
        times=tuple((5 if i == 6 else i) / 10 for i in range(48)),
    )
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
    yield case("wmv2_sound_first.wmv", "wmv2", "asf", {"b": "2M"}, delay=1.0, sound=0.0)

    yield case("ffmpeg.gif", "", "gif", make=_ffmpeg_gif, count=20)
    for name, form, options in (
        ("gif", "GIF", {"disposal": 2}),
        ("webp", "WEBP", {"lossless": True}),
        ("avif", "AVIF", {"quality": 90, "max_threads": 1}),
    ):
        yield case(f"animated.{name}", "", form, options, make=_pillow, count=20)
        yield case(f"animated_odd.{name}", "", form, options, make=_pillow, count=8, size=(65, 49))
        yield case(
            f"animated_vfr.{name}",
            "",
            form,
            options,
            make=_pillow,
            count=8,
            stamps=(0.0, 0.1, 0.5, 0.6, 2.6, 2.7, 2.9, 3.0),
        )
        yield case(
            f"animated_clear.{name}",
            "",
            form,
            options,
            make=_pillow,
            count=8,
            pix_fmt="rgba",
            tolerance=1,
        )
        yield case(f"still.{name}", "", form, options, make=_pillow, **_STILL)


def _ffmpeg_gif(case, path):
    _encode(dataclasses.replace(case, codec="gif", pix_fmt="rgb8"), path)


CASES = {case.name: case for case in _cases()}

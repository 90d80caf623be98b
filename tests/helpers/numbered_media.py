"""Writes small files of numbered pictures, in any codec and container, and with what is odd."""

import dataclasses
import functools
import io
import os
import struct
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from PIL import Image


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
        make: writes the file; by default the pictures are encoded and muxed.
        finish: changes the bytes of the file.
        shown: numbers of the pictures that the file shows; by default all that were encoded.
        times: seconds at which it shows them, from the file's start.
        last: seconds that the last one is shown.
        tolerance: grey levels by which the pixels may differ from the reference's.
        window: length in seconds and rate of the windows of a stream, where it matters.
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
        # SVT-AV1 gives the thread that opens it the highest real-time priority where it may, as
        # root: everything else on this machine would wait for the tests from then on.
        if hasattr(os, "sched_setscheduler"):  # Linux
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
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


def pillow(case, path):
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


def ffmpeg_gif(case, path):
    _encode(dataclasses.replace(case, codec="gif", pix_fmt="rgb8"), path)


def cover_first(case, path, disposition=0):
    """A picture of the album in front, by default as a stream like any other."""
    with av.open(str(path), "w", format=case.form) as container:
        cover = container.add_stream("mjpeg", rate=case.rate)
        cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
        cover.disposition = disposition
        stream = _add_video(container, case)
        stream.disposition = av.stream.Disposition.default
        still = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 90, np.uint8), format="rgb24")
        still.pts = 0
        packets = cover.encode(still) + cover.encode() + _packets(case, stream, range(case.count))
        for packet in packets:
            container.mux(packet)


def attached(case, path):
    """With a picture attached, as music has its cover."""
    cover = io.BytesIO()
    Image.new("RGB", (96, 96), (90, 90, 90)).save(cover, "JPEG")
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        for packet in _packets(case, stream, range(case.count)):
            container.mux(packet)


def same_stamps(case, path):
    """Pictures 5 and 6 at once: Matroska allows it."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        packets = _packets(case, stream, range(case.count))
        packets[6].pts = packets[6].dts = packets[5].pts
        for packet in packets:
            container.mux(packet)


def repeated(case, path):
    """Packets without data, which repeat the picture before, where others are left out."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        for place, packet in enumerate(_packets(case, stream, range(case.count))):
            data = bytes(packet) if place in case.shown else b""
            container.mux(_copied(packet, data, stream))


def new_size(case, path):
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


def hidden(case, path):
    """VP8's alternative references: frames that are decoded, but not shown."""
    with av.open(str(path), "w", format=case.form) as container:
        stream = _add_video(container, case)
        for place, packet in enumerate(_packets(case, stream, range(case.count))):
            data = bytearray(bytes(packet))
            if place not in case.shown:
                data[0] &= ~0x10  # show_frame, RFC 6386, section 9.1
            container.mux(_copied(packet, bytes(data), stream))


def superframes(case, path):
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


def joined(case, path):
    """Two recordings, one behind the other, each with a clock of its own."""
    half, whole = case.count // 2, b""
    for numbers in (range(half), range(half, case.count)):
        _encode(case, path, numbers)
        whole += path.read_bytes()
    path.write_bytes(whole)


def packed(case, path):
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
def edited(*edits):
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

"""The reference of the tests of decoding: the whole file, frame by frame, from its beginning.

No seek, no frame left out, no threads, nothing shared with the package. A file's time starts at
the container's start; a moment shows the last frame whose presentation time is not more than
0.6 ms after it, moments before the first frame show the first.
"""

import dataclasses

import av
import numpy as np
from PIL import Image, ImageOps, ImageSequence

ROUNDING = 6e-4  # seconds


@dataclasses.dataclass
class Reference:
    """Every frame of a file in the order shown.

    Attributes:
        times: seconds from the file's start, ascending, at which each begins to be shown.
        pictures: uint8 [height, width, 3], as a player draws them but with the pixels stored.
        end: seconds at which the last one stops.
        pixel: width of a pixel over its height; squares are drawn by stretching the smaller side.
    """

    times: list[float]
    pictures: list[np.ndarray]
    end: float
    pixel: float = 1.0

    def index(self, time):
        """Of the frame that is shown at ``time``."""
        return max(0, int(np.searchsorted(self.times, time + ROUNDING, side="right")) - 1)

    def on_edge(self, time):
        """Whether rounding of floats decides which frame is shown."""
        return bool((np.abs(np.array(self.times) - time - ROUNDING) < 2e-6).any())


def decode(path, picture_stream=0):
    """Reads a video; ``picture_stream`` is the index that the picture has in the file."""
    with av.open(str(path)) as container:
        stream = container.streams[picture_stream]
        dts = sorted(p.dts for p in container.demux(stream) if p.dts is not None)
    with av.open(str(path)) as container:
        stream = container.streams[picture_stream]
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1":  # FFmpeg's own decoders leave alpha out
            decoder = av.CodecContext.create(
                "libvpx-vp9" if decoder.name == "vp9" else "libvpx", "r"
            )
        decoder.thread_count = 1
        tick, start = stream.time_base, container.start_time
        rate = stream.average_rate or stream.guessed_rate
        pixel = float(stream.sample_aspect_ratio or 1)
        times, lengths, pictures, shift, last = [], [], [], 0.0, None
        for packet in container.demux(stream):
            if not packet.size and packet.pts is not None:  # repeats the picture before
                continue
            for frame in decoder.decode(packet if packet.size else None):
                # These store no presentation times: FFmpeg's are guesses.
                counted = container.format.name in ("avi", "mxf")
                stamp = dts[len(pictures)] if counted else frame.pts
                length = float(frame.duration * tick) or float(1 / rate)
                if stamp is None:  # MPEG-PS stamps some frames; the others follow at once
                    time = times[-1] + lengths[-1]
                else:
                    start = stamp * tick * av.time_base if start is None else start
                    time = float(stamp * tick) - float(start) / av.time_base
                    if last is not None and stamp < last:  # another recording follows
                        shift = times[-1] + lengths[-1] - time
                    time, last = time + shift, stamp
                times.append(time)
                lengths.append(length)
                pictures.append(_picture(frame))
    if _matrix(frame)[1]:  # turned on its side
        pixel = 1 / pixel
    return Reference(times, pictures, times[-1] + lengths[-1], pixel)


def decode_images(path):
    """Reads what Pillow reads: images and animations."""
    times, pictures, end = [], [], 0.0
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            times.append(end)
            drawn = np.asarray(ImageOps.exif_transpose(frame).convert("RGBA"))
            pictures.append(_over_white(drawn))
            end += (frame.info.get("duration") or 100) / 1000
    return Reference(times, pictures, end)


def _picture(frame):
    alpha = any(component.is_alpha for component in frame.format.components)
    picture = frame.to_ndarray(format="rgba" if alpha else "rgb24")
    a, b, c, d = _matrix(frame)
    if b:
        picture, a, d = picture.swapaxes(0, 1), c, b
    picture = picture[::d, ::a]
    return _over_white(picture) if alpha else np.ascontiguousarray(picture)


def _matrix(frame):
    """Of display, as signs: a pixel at (x, y) is drawn at (a x + c y, b x + d y)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    return np.sign(np.frombuffer(bytes(matrix), np.int32))[[0, 1, 3, 4]].tolist()


def _over_white(picture):
    opacity = picture[..., 3:] / 255.0
    return np.round(picture[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)

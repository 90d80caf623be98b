"""Cutting a span out of a video file by copying its packets: no frame is encoded anew."""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools

import av
import numpy as np

from vljepa_jax.data.ffmpeg import Timeline, VideoFile
from vljepa_jax.data.media_bytes import embedded
from vljepa_jax.data.media_errors import reading
from vljepa_jax.data.packet_reader import PacketReader
from vljepa_jax.data.records import ROUNDING, ClipError, Medium
from vljepa_jax.data.video import read_frames

# Containers that hold what another cannot, in the order in which they are tried.
_CONTAINERS = ("mp4", "matroska", "mov")
# Moments of the span whose frames a cut must give pixel for pixel.
_READ_BACK = (0.0, 0.5, 0.999)


def cut(medium: Medium) -> Medium:
    """Copies the packets of a span, undecoded, into an embedded file of their own.

    The copy begins at the keyframe before the span, and its start and end are moved accordingly.
    Sound is left out. It is read back: all its frames must begin when the file's do, and those of
    three moments be the same pixel for pixel. Where no container holds such a copy (ProRes fits in
    few, AVI may lack presentation times, an edit list may begin inside a group of pictures), the
    whole file is embedded, with the span.

    Args:
        medium: a video with a path or data, and a start, an end, or both.

    Raises:
        ClipError: the file cannot be read.
    """
    expected = read_frames(medium, _READ_BACK, np.asarray)
    with VideoFile(medium) as video:
        timeline, forms = video.timeline(), video.form.split(",")
    own = [form for form in _CONTAINERS if form in forms]
    for form in dict.fromkeys([*own, *_CONTAINERS]) if timeline.keyframes else ():
        # What a muxer refuses, and what a reader then cannot read, another container may hold.
        with contextlib.suppress(ClipError), reading(medium):
            part = _copy(medium, timeline, form)
            if _shows_the_same(part, medium, timeline, expected):
                return part
    return embedded(medium)


def _copy(medium: Medium, timeline: Timeline, form: str) -> Medium:
    first = timeline.keyframe(timeline.stamp(max(0.0, medium.start or 0.0)))
    first = timeline.keyframes[0] if first is None else first
    start = medium.start or 0.0
    end = timeline.end if medium.end is None else medium.end
    until = max(timeline.stamp(end), timeline.stamps[-1] + 1)
    buffer = io.BytesIO()
    with PacketReader(medium) as reader, av.open(buffer, "w", format=form) as output:
        stream = reader.decoder.stream
        copied = output.add_stream_from_template(stream, opaque=True)
        copied.time_base = stream.time_base
        if "alpha_mode" in stream.metadata:  # there is transparency
            copied.metadata["alpha_mode"] = stream.metadata["alpha_mode"]
        packets = reader.from_keyframe(first, reader.limit(timeline.origin))
        packets = itertools.takewhile(lambda packet: packet is not None, packets)
        for packet in itertools.dropwhile(lambda packet: packet.pts != first, packets):
            if packet.pts < first:  # leads the keyframe: built on the group before
                continue
            # The file's own durations may be those of its rate, whenever the next frame comes.
            following = bisect.bisect_right(timeline.stamps, packet.pts)
            ends = timeline.stamps[following] if following < len(timeline.stamps) else until
            packet.duration = max(1, ends - packet.pts)
            packet.pts, packet.stream = packet.pts - first, copied
            packet.dts = None if packet.dts is None else packet.dts - first
            output.mux(packet)
    shift = timeline.seconds(first)
    return Medium(data=buffer.getvalue(), start=start - shift, end=end - shift)


def _shows_the_same(
    part: Medium, medium: Medium, timeline: Timeline, expected: list[np.ndarray]
) -> bool:
    found = read_frames(part, _READ_BACK, np.asarray)
    with VideoFile(part) as video:
        copied = video.timeline()
    shift = (medium.start or 0.0) - part.start
    times = np.array([timeline.seconds(stamp) for stamp in timeline.stamps])
    copies = np.array([copied.seconds(stamp) + shift for stamp in copied.stamps])
    inside = [
        at[(at > part.start + shift + 2 * ROUNDING) & (at < part.end + shift - 2 * ROUNDING)]
        for at in (times, copies)
    ]
    begin_alike = all(
        np.abs(at[:, None] - others[None]).min(1, initial=np.inf).max(initial=0) < 2 * ROUNDING
        for at, others in zip(inside, (copies, times), strict=True)
    )
    return begin_alike and all(map(np.array_equal, expected, found))

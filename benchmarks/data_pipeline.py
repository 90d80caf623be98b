"""The training pipeline against bare PyAV, torchcodec and decord: clips a second and core.

    python benchmarks/data_pipeline.py
    python benchmarks/data_pipeline.py --codecs=h264 --heights=480
    python benchmarks/data_pipeline.py --config=configs/demo.py:captions --clips=512

Without --config the clips are random spans of 2 to 4 seconds, 16 frames each, of videos that are
made on the spot: H.264, HEVC, VP9 and AV1, of 854 x 480 and 1920 x 1080, 30 frames a second, a
keyframe every two seconds, textures that move. With --encoded the same videos are read as
``launch/prepare.py --short_side=256`` stores them.

Ours is what training reads: records through Grain, the wanted frames decoded, cropped and resized,
texts tokenized, rows put together to batches. The others open the same files and give the same
number of frames of the same spans as RGB, at full size, and do nothing else. Bare PyAV goes to the
keyframe before the span, decodes up to the last wanted frame, and turns the wanted ones into RGB,
by one converter a clip; torchcodec and decord are called as their documentation says, where they
are installed and can read the file. "pyav_pillow" is bare PyAV whose frames Pillow crops at the
centre and resizes, the least that gives the pixels of a recipe without random crops. All decode on
one thread, and take turns. What counts is the processor's time of all threads, so that a busy
machine does not matter much. The JSON that is printed holds the medians; with --config also what
the parts of ours take, and bare PyAV, each part as what the pipeline takes with it and without what
comes after it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image
from recipes import recipe

from vljepa_jax import host
from vljepa_jax.config import SourceConfig, TrainConfig
from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.ffmpeg import VideoFile
from vljepa_jax.data.kinds import kind_of
from vljepa_jax.data.media_bytes import open_bytes, read_bytes
from vljepa_jax.data.pipeline import TrainPipeline
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.transcode import Encoding
from vljepa_jax.data.video import fit_frame, load_clip, read_frames

_ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "10", "crf": "35"}),
}
_FPS, _SECONDS, _FRAMES = 30, 8, 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", help="a recipe, whose first source is read instead")
    parser.add_argument("--codecs", default=",".join(_ENCODERS), help="%(default)s")
    parser.add_argument("--heights", default="480,1080", help="%(default)s")
    parser.add_argument("--encoded", action="store_true", help="read what preparation stores")
    parser.add_argument("--clips", type=int, default=16, help="of a measurement; %(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="of each, in turns")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    report: dict = {"versions": {"av": av.__version__}, "clips_per_second_per_core": {}}
    for name in ("torchcodec", "decord"):
        if importlib.util.find_spec(name):
            report["versions"][name] = importlib.import_module(name).__version__
    with tempfile.TemporaryDirectory() as folder:
        for name, config in _cases(options, pathlib.Path(folder)):
            measured, parts = _measure(config, options, report["versions"])
            report["clips_per_second_per_core"][name] = measured
            if options.config:
                report["microseconds_a_clip"] = parts
            print(name, measured, file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


def _cases(options: argparse.Namespace, folder: pathlib.Path) -> Iterator[tuple[str, TrainConfig]]:
    path, _, variant = (options.config or "configs/demo.py:captions").partition(":")
    config = recipe(path, *filter(None, [variant]))
    data = dataclasses.replace(config.data, visual_tokens="compute", num_workers=0)
    rows = min(config.batch_size, options.clips)
    config = dataclasses.replace(config, batch_size=rows, steps=options.clips // rows)
    if options.config:
        yield options.config, dataclasses.replace(config, data=data)
        return
    for height, codec in itertools.product(options.heights.split(","), options.codecs.split(",")):
        name = f"{codec}_{height}p"
        _make_dataset(folder / name, codec, int(height), options)
        video = dataclasses.replace(data.video, frames=_FRAMES, image_size=256)
        source = SourceConfig(path=str(folder / name), split="train", weight=1.0, tasks={}, tags={})
        made = dataclasses.replace(data, sources=(source,), video=video)
        yield name, dataclasses.replace(config, data=made)


def _measure(
    config: TrainConfig, options: argparse.Namespace, versions: dict[str, str]
) -> tuple[dict[str, float | str], dict[str, int]]:
    """Clips a second and core, and of a recipe what the parts of a clip take."""
    source = config.data.sources[0]
    records = find_dataset(source.path, config.world).media(source.split)
    media = [
        medium
        for index in range(min(len(records), options.clips))
        for medium in records[index].media[:1]
        if kind_of(medium) == "video"
    ]
    if not media:
        raise SystemExit(f"{options.config}: there is no video in its first source, only images")
    # Of a small dataset again and again.
    media = list(itertools.islice(itertools.cycle(media), config.steps * config.batch_size))
    frames, pipeline = config.data.video.frames, TrainPipeline(config)

    def fitted(rgb: np.ndarray) -> np.ndarray:
        return fit_frame(Image.fromarray(rgb), config.video_input)

    readers: dict[str, Callable[[], list]] = {
        "ours": lambda: _batches(pipeline, config.steps),
        "pyav": lambda: [_pyav(medium, frames, np.asarray) for medium in media],
        "pyav_pillow": lambda: [_pyav(medium, frames, fitted) for medium in media],
        "torchcodec": lambda: [_torchcodec(medium, frames) for medium in media],
        "decord": lambda: [_decord(medium, frames) for medium in media],
    }
    always = ("ours", "pyav", "pyav_pillow")
    readers = {name: read for name, read in readers.items() if name in (*always, *versions)}
    if options.config:
        readers |= {
            name: lambda read=read: [read(medium) for medium in media]
            for name, read in _parts(config).items()
        }
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    unable = set()
    for repetition in range(options.repetitions + 1):
        for name, read in readers.items():
            if name in unable:
                continue
            began = time.process_time()
            try:
                kept = read()
            except Exception as error:  # of a kind of its own in each library
                if name not in versions:
                    raise
                unable.add(name)
                print(name, error, file=sys.stderr)
                continue
            if repetition:  # the first loads what is loaded once
                seconds[name].append((time.process_time() - began) / len(media))
            del kept  # not timed: what ends with a run
    readers = {name: read for name, read in readers.items() if name not in unable}
    medians = {name: statistics.median(seconds[name]) for name in readers}
    parts = {name: round(1e6 * value) for name, value in medians.items()}
    others = [name for name in readers if name in (*always[1:], *versions)]
    rates = {name: round(1 / medians[name], 2) for name in ("ours", *others)}
    over = {
        f"ours_over_{name}": round(
            statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)), 3
        )
        for name in others
    }
    return rates | over | {f"ours_over_{name}": "cannot read it" for name in unable}, parts


def _parts(config: TrainConfig) -> dict[str, Callable[[Medium], object]]:
    """What the pipeline does with a clip, as far as each part."""
    video = config.video_input
    moments = ((np.arange(video.frames) + 0.5) / video.frames).tolist()

    def opened(medium: Medium) -> None:
        with VideoFile(medium):
            pass

    def scanned(medium: Medium) -> None:
        with VideoFile(medium) as file:
            file.timeline()

    return {
        "opened": opened,
        "packets": scanned,
        "frames": lambda medium: read_frames(medium, moments, lambda image: image)[-1],
        "clip": lambda medium: load_clip([medium], video, None),
    }


def _batches(pipeline: TrainPipeline, steps: int) -> list:
    """Reads all batches; the iterator is kept open, as a training keeps it."""
    iterator = pipeline.batches(0)
    for _ in range(steps):
        next(iterator)
    return [iterator]


# ---------------------------------------------------------------------------------------------
# Videos that are made
# ---------------------------------------------------------------------------------------------
def _make_dataset(
    directory: pathlib.Path, codec: str, height: int, options: argparse.Namespace
) -> None:
    path = directory.with_suffix(".mp4")
    _write_video(path, codec, height)
    rng = np.random.default_rng(0)
    check = MediaCheck(True, encoding=Encoding(short_side=256)) if options.encoded else None
    records = []
    for number in range(options.clips):
        start = rng.uniform(0, _SECONDS - 4)
        medium = Medium(path=str(path), start=start, end=start + rng.uniform(2, 4))
        annotation = Annotation(str(number), "caption", texts=("textures move",))
        record = Record(str(number), (medium,), (annotation,))
        records.append(check(record)[0] if check else record)
    write_dataset(directory, {"train": records}, name="made", description="", labels={})


def _write_video(path: pathlib.Path, codec: str, height: int) -> None:
    width = {480: 854, 1080: 1920}.get(height, height * 16 // 9 // 2 * 2)
    rng = np.random.default_rng(0)
    span = height + 2 * _FPS * _SECONDS, width + 3 * _FPS * _SECONDS
    texture = np.zeros((*span, 3), np.float32)
    for cell in (4, 32, 256):  # of noise, coarser and stronger
        noise = rng.integers(0, 256, (span[0] // cell + 2, span[1] // cell + 2, 3), np.uint8)
        texture += np.asarray(Image.fromarray(noise).resize(span[::-1], Image.Resampling.BICUBIC))
    texture = (texture / 3).astype(np.uint8)
    grain = rng.integers(0, 6, (4, height, width, 1), np.uint8)
    name, options = _ENCODERS[codec]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(name, rate=_FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 2 * _FPS
        for index in range(_FPS * _SECONDS):
            down, right = 2 * index, 3 * index
            frame = texture[down : down + height, right : right + width] // 2 + 50
            inner = texture[right : right + height // 2, down : down + width // 2]
            frame[height // 4 : height // 4 + len(inner), width // 4 :][:, : inner.shape[1]] = inner
            frame += grain[index % len(grain)]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))


# ---------------------------------------------------------------------------------------------
# The others
# ---------------------------------------------------------------------------------------------
def _moments(medium: Medium, frames: int, length: float) -> np.ndarray:
    begin = medium.start or 0.0
    return begin + (np.arange(frames) + 0.5) / frames * ((medium.end or length) - begin)


def _pyav(medium: Medium, frames: int, render: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    with av.open(open_bytes(medium)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        converter = VideoReformatter()
        moments = _moments(medium, frames, container.duration / av.time_base)
        if medium.start:
            container.seek(int(medium.start / stream.time_base), stream=stream)
        shown: list[np.ndarray] = []
        for frame in container.decode(stream):
            over = frame.time + float((frame.duration or 0) * stream.time_base)
            wanted = int(np.searchsorted(moments, over)) - len(shown)
            if wanted > 0:
                rgb = converter.reformat(frame, format="rgb24", threads=1)
                shown += [render(rgb.to_ndarray())] * wanted
            if len(shown) == frames:
                break
        return np.stack(shown)


def _torchcodec(medium: Medium, frames: int) -> np.ndarray:
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    source = medium.path or read_bytes(medium)
    decoder = VideoDecoder(
        source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate"
    )
    moments = _moments(medium, frames, decoder.metadata.duration_seconds)
    return decoder.get_frames_played_at(moments.tolist()).data.numpy()


def _decord(medium: Medium, frames: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(medium.path or open_bytes(medium), num_threads=1)
    rate = reader.get_avg_fps()
    moments = _moments(medium, frames, len(reader) / rate)
    return reader.get_batch((moments * rate).astype(int).clip(0, len(reader) - 1)).asnumpy()


if __name__ == "__main__":
    host.set_up()
    main()

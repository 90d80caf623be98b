"""What preparing each source of docs/data.md takes: hours of a core, for all its rows.

    python benchmarks/preparing_sources.py
    python benchmarks/preparing_sources.py --sources=datacomp,yfcc100m --rows=200

Small sources are made on the spot, in their published forms, and prepared in this process, as
``launch/prepare.py --dataset`` with the flags of docs/data.md does:

- DataComp: archives of JPEG images of 512 x 384 pixels and some 35 kB, as its pool has them (45 TB
  a 1.28 billion);
- YFCC-100M: a table and JPEG files of 500 x 375;
- Action100M: H.264 of 640 x 360, 30 frames a second, a keyframe every 5 seconds, and a node every
  0.73 seconds, of 8 seconds, as the ten videos of its published sample have them (4,480 nodes in
  3,283 seconds, their spans 35,744 together); once with spans left where they are, once without a
  look at them (--nodecode), and once, a tenth as many, encoded anew;
- PLM: lines of conversations, three turns of an image of 500 x 375 each.

Rates are of the processor's time on one core. The JSON that is printed has them, and what they make
of the published number of rows: an estimate, on this processor, of disks that are never waited for.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import pathlib
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable

import av
import numpy as np
from machine import processor
from PIL import Image

from vljepa_jax import host
from vljepa_jax.data.transcode import Encoding
from vljepa_jax.datasets import training_command

# Of the ten videos of Action100M's published sample.
_NODES_A_SECOND, _SPAN_SECONDS = 4480 / 3283, 35_744 / 4480
_HOURS = 131_000  # of HowTo100M's 1.2 million videos, "15 years"
_VIDEO_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Case:
    """One source as it is prepared.

    Attributes:
        source: its name.
        make: writes so many rows below a folder.
        published: how many rows there are.
        unit: what a row is.
        flags: of ``training_command.plan``.
        share: of the rows asked for, those that are measured.
    """

    source: str
    make: Callable[[pathlib.Path, int], None]
    published: float
    unit: str
    flags: dict
    share: float = 1.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", default=",".join(_CASES), help="%(default)s")
    parser.add_argument("--rows", type=int, default=1000, help="of each; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    report: dict = {"processor": processor(), "sources": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sources.split(","):
            found = _measure(_CASES[name], pathlib.Path(folder, name), options.rows)
            report["sources"][name] = found
            print(name, found, file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


def _measure(case: Case, folder: pathlib.Path, asked: int) -> dict:
    rows = max(1, round(asked * case.share))
    case.make(folder / "source", rows)
    job = training_command.plan(
        case.source, root=str(folder / "source"), output=str(folder / "dataset"), **case.flags
    )
    began = time.process_time()
    for _ in job.write(job.missing(), 0):
        pass
    card = job.finish()
    seconds = time.process_time() - began
    if card["skipped"]:
        raise SystemExit(f"{case.source}: rows were skipped: {card['skipped']}")
    share = case.published / rows
    return {
        "unit": case.unit,
        "rows": rows,
        "rows_per_second_per_core": round(rows / seconds, 2),
        "published_rows": round(case.published),
        "core_hours": round(seconds * share / 3600, 1),
        "hours_on_64_cores": round(seconds * share / 3600 / 64, 1),
    }


# ---------------------------------------------------------------------------------------------
# Sources
# ---------------------------------------------------------------------------------------------
def _picture(number: int, width: int, height: int) -> np.ndarray:
    """Something between a photo and noise, so that a JPEG is as large as a photo's."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((4, 0.2), (16, 0.3), (64, 0.5)):
        noise = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += weight * np.asarray(image)
    return pixels.astype(np.uint8)


def _jpegs(width: int, height: int) -> list[bytes]:
    """Ten of them."""
    found = []
    for number in range(10):
        buffer = io.BytesIO()
        Image.fromarray(_picture(number, width, height)).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def _datacomp(root: pathlib.Path, rows: int) -> None:
    root.mkdir(parents=True)
    images = _jpegs(512, 384)
    with tarfile.open(root / "00000.tar", "w") as archive:
        for row in range(rows):
            text = f"Caption {row}, of the usual length of a text beside an image on a page."
            for ending, data in (
                ("jpg", images[row % len(images)]),
                ("txt", text.encode()),
                ("json", json.dumps({"caption": text, "url": "https://example.org"}).encode()),
            ):
                member = tarfile.TarInfo(f"{row:09d}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _yfcc(root: pathlib.Path, rows: int) -> None:
    (root / "images").mkdir(parents=True)
    images = _jpegs(500, 375)
    lines = ["photoid\ttitle\tdescription\text"]
    for row in range(rows):
        (root / "images" / f"{row}.jpg").write_bytes(images[row % len(images)])
        lines.append(f"{row}\tTitle+{row}\tA%20description%20of%20a%20photo\tjpg")
    (root / "yfcc100m.tsv").write_text("\n".join(lines) + "\n")


def _plm(root: pathlib.Path, rows: int) -> None:
    (root / "images").mkdir(parents=True)
    images, turns = _jpegs(500, 375), 3
    with open(root / "rows.jsonl", "w") as file:
        for number in range(-(-rows // turns)):
            (root / "images" / f"{number}.jpg").write_bytes(images[number % len(images)])
            talk = [
                {"from": who, "value": said}
                for turn in range(min(turns, rows - number * turns))
                for who, said in (
                    ("human", f"What is to be seen at {turn}?"),
                    ("assistant", f"Answer {turn} about picture {number}."),
                )
            ]
            row = {"image": f"images/{number}.jpg", "conversations": talk}
            file.write(json.dumps(row) + "\n")


def _action100m(root: pathlib.Path, rows: int) -> None:
    """``rows`` spans of videos of half a minute."""
    (root / "videos").mkdir(parents=True)
    data, each = _video(), round(_VIDEO_SECONDS * _NODES_A_SECOND)
    rng = np.random.default_rng(0)
    for number in range(-(-rows // each)):
        (root / "videos" / f"v{number}.mp4").write_bytes(data)
        nodes = []
        for node in range(min(each, rows - number * each)):
            # Of all lengths, as a tree's are, but within the video.
            length = min(_VIDEO_SECONDS - 1, rng.exponential(_SPAN_SECONDS) + 0.5)
            start = rng.uniform(0, _VIDEO_SECONDS - length)
            text = {"brief": f"Node {node}", "detailed": "A sentence or two of what is done. " * 4}
            nodes.append(
                {
                    "node_id": f"n{node}",
                    "level": 1,
                    "start": start,
                    "end": start + length,
                    "plm_action": "Stir the mixture",
                    "plm_caption": "A person stirs a mixture in a bowl on a table.",
                    "gpt": {"summary": text},
                }
            )
        video = {"video_uid": f"v{number}", "nodes": nodes}
        (root / f"v{number}.json").write_text(json.dumps(video))


def _video() -> bytes:
    buffer, width, height = io.BytesIO(), 640, 360
    texture = _picture(0, width + 200, height + 200)
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 150
        for index in range(30 * _VIDEO_SECONDS):
            place = 100 + round(100 * np.sin(index / 40))
            frame = np.ascontiguousarray(texture[place : place + height, place : place + width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


_SPANS = _HOURS * 3600 * _NODES_A_SECOND
_CASES = {
    "datacomp": Case("datacomp", _datacomp, 1.4e9, "image", {}),
    "datacomp_noembed": Case("datacomp", _datacomp, 1.4e9, "image", {"embed": False}),
    "yfcc100m": Case("yfcc100m", _yfcc, 99_171_688, "photo", {}),
    "action100m_noembed": Case("action100m", _action100m, _SPANS, "span", {"embed": False}),
    "action100m_nodecode": Case(
        "action100m", _action100m, _SPANS, "span", {"embed": False, "decode": False}
    ),
    "action100m_small": Case(
        *("action100m", _action100m, _SPANS, "span"),
        {"encoding": Encoding(short_side=256, fps=10)},
        share=0.1,
    ),
    "plm_vqa": Case("plm_sft", _plm, 25e6, "turn", {"task": "vqa"}),
    "plm_captions": Case("plm_sft", _plm, 2.8e6, "turn", {"task": "caption"}),
    "plm_classification": Case("plm_sft", _plm, 1.8e6, "turn", {"task": "classification"}),
}


if __name__ == "__main__":
    host.set_up()
    main()

"""Listing the questions of a dataset: annotations apart from media against both in one record.

    python benchmarks/annotations.py
    python benchmarks/annotations.py --gib=20 --questions=100000 --directory=DISK

Writes a dataset of embedded "videos" (random bytes: none is decoded) with twenty questions each,
and the same records with media and annotations in one entry each, as format 1 held them. All
questions of both are listed, with none of the files in the page cache. It prints JSON: seconds, the
bytes that the process read (Linux's /proc/self/io) and the ratios; the disk must have room for
both, twice --gib.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import msgpack
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import open_dataset, write_dataset

EACH = 20  # questions of a video
ANSWERS = ("left", "right", "up", "down")


def records(videos: int, size: int) -> Iterator[Record]:
    data = os.urandom(size)
    for video in range(videos):
        questions = (
            Annotation(
                id=f"video-{video}/{number}",
                task="vqa",
                query=f"Where does the object number {number} go in the end?",
                candidates=ANSWERS,
                gold=(video + number) % len(ANSWERS),
                tags={"kind": "motion"},
            )
            for number in range(EACH)
        )
        yield Record(f"video-{video}", (Medium(data=data),), tuple(questions))


def write_together(path: pathlib.Path, videos: int, size: int) -> None:
    """Each record with its media and its annotations in one entry."""
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in records(videos, size):
        media = [medium.data for medium in record.media]
        annotations = [vars(annotation) for annotation in record.annotations]
        writer.write(msgpack.packb({"media": media, "annotations": annotations}))
    writer.close()


def list_together(path: pathlib.Path) -> int:
    reader = ArrayRecordReader(
        str(path), "readahead_buffer_size:0", file_reader_buffer_size=1 << 15
    )
    count = 0
    for index in range(reader.num_records()):
        (entry,) = reader.read([index])
        annotations = msgpack.unpackb(entry, use_list=False)["annotations"]
        count += len([Annotation(**fields) for fields in annotations])
    return count


def list_apart(path: pathlib.Path) -> int:
    return len(list(open_dataset(path).annotations("test")))


def measure(work: Callable[[pathlib.Path], int], path: pathlib.Path, expected: int) -> dict:
    for file in [path] if path.is_file() else path.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, start = _bytes_read(), time.perf_counter()
    found = work(path)
    seconds, read = time.perf_counter() - start, _bytes_read() - before
    assert found == expected
    return {"seconds": round(seconds, 2), "read_mib": round(read / 2**20, 1)}


def _bytes_read() -> int:
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=2.0, help="of media; %(default)s")
    parser.add_argument("--questions", type=int, default=100_000, help="%(default)s")
    parser.add_argument("--directory", help="where to write and clear up; the system's, for such")
    options = parser.parse_args()
    videos = options.questions // EACH
    size = int(options.gib * 2**30 / videos)
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        apart, together = pathlib.Path(folder, "dataset"), pathlib.Path(folder, "together")
        write_dataset(apart, {"test": records(videos, size)}, name="", description="", labels={})
        write_together(together, videos, size)
        report = {
            "questions": videos * EACH,
            "media_mib": round(videos * size / 2**20),
            "apart": measure(list_apart, apart, videos * EACH),
            "together": measure(list_together, together, videos * EACH),
        }
    for unit in ("seconds", "read_mib"):
        ratio = report["together"][unit] / report["apart"][unit]
        report[f"{unit}_together_over_apart"] = round(ratio, 1)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""What is damaged, and the functions of the commands that read it."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.fuzz.mutations import damaged, encoded, strange, written
from tests.helpers.media_library import CASES
from vljepa_jax.config import ConfigError
from vljepa_jax.data.manifest import ManifestError
from vljepa_jax.data.records import ClipError, Label, Medium
from vljepa_jax.data.storage import DatasetError
from vljepa_jax.data.tokenizers import TokenizerError

# The package's own errors of media, manifests, datasets, configs and tokenizers: all that a reader
# of a bad file may raise. Targets that need jax add theirs.
EXPECTED = (ClipError, ManifestError, DatasetError, ConfigError, TokenizerError)

MEDIA = (
    *("h264.mp4", "h264.mov", "h264.mkv", "h264.ts", "h264.avi", "h264.mxf", "h264_fragmented.mp4"),
    *("h264_open.vob", "late.nut", "edit.mp4", "turned_90.mp4", "joined.ts", "cover_attached.mkv"),
    *("sound_first.mkv", "h264_vfr.mkv", "new_size.ts", "hevc_10bit_open.mkv", "vp8.webm"),
    *("vp8_alpha.webm", "vp9.webm", "vp9_opus_first.webm", "av1.mp4", "av1.webm", "mpeg2.mpg"),
    *("mpeg2_fields.vob", "mpeg4.avi", "mpeg4.mp4", "mjpeg.avi", "mjpeg_repeated.nut", "flv1.swf"),
    *("prores.mov", "qtrle_alpha.mov", "ffv1_odd.mkv", "wmv2.asf", "ffmpeg.gif", "animated.gif"),
    *("animated_clear.webp", "animated.avif", "still.gif", "still.webp", "still.avif"),
)


class Target(NamedTuple):
    """One kind of input.

    Attributes:
        group: "media", "manifests" or "others", whose numbers of cases are chosen apart.
        prepare: writes sound inputs into a folder, once.
        read: (that folder, a scratch folder, rng) damages a copy and reads it as commands do.
        expected: gives the errors that it may raise.
    """

    group: str
    prepare: Callable[[Path], None]
    read: Callable[[Path, Path, np.random.Generator], None]
    expected: Callable[[], tuple[type[Exception], ...]] = lambda: EXPECTED


# ---------------------------------------------------------------------------------------------
# Media
# ---------------------------------------------------------------------------------------------
def _write_media(folder: Path) -> None:
    for name in MEDIA:
        CASES[name].write(folder)
    rng = np.random.default_rng(0)
    for mode, form, options in (
        ("RGB", "png", {}),
        ("P", "png", {"transparency": 3}),
        ("I;16", "png", {}),
        ("RGB", "jpg", {"progressive": True}),
        ("CMYK", "jpg", {}),
        ("RGB", "bmp", {}),
        ("L", "gif", {}),
    ):
        pixels = Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8))
        pixels.convert("I" if mode == "I;16" else mode).convert(mode).save(
            folder / f"still_{mode.replace(';', '_')}.{form}", **options
        )
    frames = [Image.fromarray(rng.integers(0, 256, (40, 56, 4), np.uint8)) for _ in range(4)]
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:], duration=70)


def _read_media(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax.data import video
    from vljepa_jax.data.collection import Item
    from vljepa_jax.data.cut import cut

    files = sorted(seeds.iterdir())
    chosen = files[rng.integers(len(files))]
    others = [file.read_bytes() for file in rng.choice(files, 2)]
    data = damaged(chosen.read_bytes(), others, rng)
    medium = Medium(data=data)
    if rng.random() < 0.6:
        (scratch / chosen.name).write_bytes(data)
        medium = Medium(path=str(scratch / chosen.name))
    item = Item(chosen.name, (medium,))
    how = video.thumbnails(4, 32)

    def play() -> None:
        for frame in video.play(medium):
            frame.image()

    start, length = rng.uniform(-1, 5), 10 ** rng.uniform(-2, 1)
    span = Medium(medium.data, medium.path, float(start), float(start + length))
    steps = (
        lambda: item.decode(how, None),  # launch/embed.py, and training
        lambda: item.windows(1.0, 0.5),
        lambda: item.decode(how, (float(start), float(start + length))),
        play,  # launch/stream.py
        lambda: cut(span),  # launch/prepare.py
    )
    _each(steps, EXPECTED, medium.source)


def _each(steps, expected, name: str = "") -> None:
    """Does all steps; raises the first error that is expected, at the end, so that it counts.

    Args:
        name: what each error has to name, in one line that any terminal takes.
    """
    refused = None
    for step in steps:
        try:
            step()
        except expected as error:
            refused = refused or error
            if name and not (name in str(error) and str(error).isprintable()):
                raise AssertionError(f"names not what it is about: {error!r}") from error
    if refused is not None:
        raise refused


# ---------------------------------------------------------------------------------------------
# Manifests
# ---------------------------------------------------------------------------------------------
_ROWS = [
    {"id": "1", "media": [{"path": "a.gif", "start": 0.1, "end": 0.3}], "texts": ["a dog", "one"]},
    {"id": "2", "media": [{"path": "b.png"}], "query": "what?", "cand": ["x", "y"], "gold": 1},
    {"id": "3", "media": [{"path": "b.png"}], "cand": "@labels/things", "gold": 0, "tags": {}},
    {
        "id": "4",
        "media": [{"path": "a.gif"}, {"path": "b.png"}],
        "cand": [{"path": "b.png"}, {"path": "a.gif"}],
        "gold": 0,
        "tags": {"kind": "state", "n": 1},
    },
    {"id": "5", "texts": ["a", "b", "c"]},
    {"id": "6", "media": [{"path": "a.gif"}], "texts": ["u", "v"], "times": [0.1, 0.5]},
    {"id": "7", "media": [{"path": "m.tar", "member": "b.png"}], "texts": ["a café"]},
]
_META = {
    "name": "set",
    "split": "train",
    "query": "what?",
    "labels": "things.json",
    "n_expected": 7,
}
_LABELS = [{"id": "a", "texts": ["a dog", "dogs"]}, {"id": "b", "texts": ["a cat"]}]


def _write_manifest(folder: Path) -> None:
    import tarfile

    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(6)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(folder / "b.png")
    with tarfile.open(folder / "m.tar", "w") as archive:
        archive.add(folder / "b.png", "b.png")


def _read_manifest(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    import rich.console

    from vljepa_jax.data.collection import list_items
    from vljepa_jax.data.manifest import open_manifest
    from vljepa_jax.data.prepare import prepare
    from vljepa_jax.data.storage import open_dataset

    which = rng.choice(["rows", "rows", "rows", "meta", "labels", "bytes", "tar"])
    if which == "tar":
        seeds = Path(shutil.copytree(seeds, scratch / "media"))
        archive = (seeds / "m.tar").read_bytes()
        (seeds / "m.tar").write_bytes(damaged(archive, [archive], rng))
    rows = [strange(row, rng) if which == "rows" and rng.random() < 0.4 else row for row in _ROWS]
    meta = strange(_META, rng) if which == "meta" else dict(_META)
    labels = strange(_LABELS, rng) if which == "labels" else _LABELS
    lines = "".join(json.dumps(row, ensure_ascii=bool(rng.random() < 0.5)) + "\n" for row in rows)
    if which == "rows" and rng.random() < 0.05:
        lines = lines.replace("{}", '{"a":' * 100_000, 1)
    data = encoded(lines, rng)
    path = scratch / "m.jsonl"
    path.write_bytes(damaged(data, [data], rng) if which == "bytes" else data)
    if rng.random() < 0.7 or which == "meta":
        (scratch / "m.meta.json").write_bytes(written(meta, rng))
    (scratch / "things.json").write_bytes(written(labels, rng))
    if rng.random() < 0.2:
        shutil.copytree(scratch, scratch / "labels", ignore=lambda *_: ["labels", "media"])

    def prepared() -> None:
        prepare(
            [open_manifest(str(path), split=None, root=str(seeds))],
            scratch / "dataset",
            name="set",
            on_error=str(rng.choice(["skip", "skip", "refuse"])),
            embed=bool(rng.random() < 0.5),
            num_workers=0,
            console=rich.console.Console(quiet=True),
        )
        dataset = open_dataset(scratch / "dataset")
        for split in dataset.splits:
            for record in dataset.records(split):
                for annotation in record.annotations:
                    # As training and evaluation take them: all texts must be UTF-8.
                    said = (*annotation.texts, annotation.query, *dataset.candidates(annotation))
                    str(said).encode()

    _each((lambda: list_items([str(path)], None), prepared), EXPECTED)


# ---------------------------------------------------------------------------------------------
# Datasets, indices, tokenizers, runs and weights
# ---------------------------------------------------------------------------------------------
def _damage_tree(seeds: Path, scratch: Path, rng: np.random.Generator) -> Path:
    """A copy of a folder with one file damaged, cut short, emptied or gone; JSON also in sense."""
    copy = scratch / "copy"
    shutil.copytree(seeds, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    chosen = files[rng.integers(len(files))]
    what, data = rng.random(), chosen.read_bytes()
    if what < 0.05:
        chosen.unlink()
    elif what < 0.1:
        chosen.write_bytes(b"")
    elif what < 0.7 and chosen.suffix in (".json", ".jsonl"):
        lines = data.decode().splitlines() if chosen.suffix == ".jsonl" else [data.decode()]
        index = int(rng.integers(len(lines)))
        made = [line.encode() for line in lines]
        made[index] = written(strange(json.loads(lines[index]), rng), rng)
        chosen.write_bytes(b"\n".join(made) + b"\n" * (chosen.suffix == ".jsonl"))
    else:
        chosen.write_bytes(damaged(data, [data, b"{}", b"[]"], rng))
    return copy


def _write_dataset(folder: Path) -> None:
    from vljepa_jax.data.records import Annotation, Record
    from vljepa_jax.data.storage import write_dataset

    records = [
        Record(
            f"r{i}",
            (Medium(data=bytes([i]) * 400), Medium(path=f"/x/{i}.mp4", start=0.5)),
            (
                Annotation(f"a{i}", "caption", texts=("a dog", "dogs")),
                Annotation(f"q{i}", "vqa", "What?", candidates="@labels/things", gold=1),
            ),
        )
        for i in range(20)
    ]
    labels = {"things": [Label("a", ("a dog",)), Label("b", ("a cat",))]}
    splits = {"train": records[:12], "test": records[12:]}
    write_dataset(folder / "dataset", splits, name="set", description="", labels=labels)


def _read_dataset(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax.data.collection import list_items
    from vljepa_jax.data.storage import open_dataset

    directory = _damage_tree(seeds / "dataset", scratch, rng)

    def read() -> None:
        dataset = open_dataset(directory)
        for split in dataset.splits:
            annotations = dataset.annotations(split)
            annotations.records(annotations.tasks(trainable=True), trainable=True)
            for _, annotation in annotations:
                dataset.candidates(annotation)
            for record in dataset.records(split):
                for annotation in record.annotations:
                    [record.media[index] for index in annotation.inputs]

    def listed() -> None:
        for item in list_items([str(directory)], None)[0]:
            item.open()

    _each((read, listed), EXPECTED)


def _write_index(folder: Path) -> None:
    from vljepa_jax.data.collection import Item
    from vljepa_jax.inference.search.index import Entry, IndexSettings, IndexWriter

    settings = IndexSettings("abc", 3, "", 4, 2.0, 1.0)
    with IndexWriter(folder / "index", settings, "/runs/x") as index:
        for shard in range(3):
            names = [f"{shard}-{i}" for i in range(4)]
            entries = [
                Entry(Item(name, (Medium(path=f"/{name}.mp4"),)), "1", ((0.0, 2.0), (1.0, 3.0)))
                for name in names
            ]
            index.add(entries, np.eye(3)[np.arange(8) % 3])


def _read_index(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax.inference.search.index import IndexSettings, IndexWriter, VideoIndex

    directory = _damage_tree(seeds / "index", scratch, rng)

    def search() -> None:
        for hit in VideoIndex(directory).search(np.eye(3, dtype=np.float32), 5)[0]:
            f"{hit.score:.3f} {hit.start} {hit.name}"

    def write() -> None:
        settings = IndexSettings("abc", 3, "", 4, 2.0, 1.0)
        with IndexWriter(directory, settings, "/runs/x") as index:
            index.remove(["0-1"])

    _each((search, write), _index_errors())


def _index_errors():
    from vljepa_jax.inference.search.index import SearchIndexError

    return (*EXPECTED, SearchIndexError)


def _write_tokenizer(folder: Path) -> None:
    from tests.helpers.sample_tokenizer import write_tokenizer

    write_tokenizer(folder / "tokenizer.json")


def _read_tokenizer(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax.data.tokenizers import Tokenizer

    Tokenizer(str(_damage_tree(seeds, scratch, rng) / "tokenizer.json")).encode(["a dog"], 8)


def _write_run(folder: Path) -> None:
    from tests.helpers.random_run import random_params, save_run
    from tests.helpers.tiny import tiny_train_config

    config = tiny_train_config()
    save_run(folder / "run", config, random_params(config))


def _read_run(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax import run_dir
    from vljepa_jax.evals.report import read_report
    from vljepa_jax.inference.load import FORMATS

    directory = _damage_tree(seeds / "run", scratch, rng)
    report = written(strange({"metrics": {}, "model": {}, "train": {}, "config": {}}, rng), rng)
    (directory / "report.json").write_bytes(report)
    steps = (
        lambda: [kind.recognises(directory) for kind in FORMATS],
        lambda: run_dir.load_teacher_params(directory),
        lambda: run_dir.read_metrics(directory),
        lambda: run_dir.read_summary(directory),
        lambda: read_report(directory),
    )
    _each(steps, _run_errors())


def _run_errors():
    from vljepa_jax.run_dir import CheckpointError

    return (*EXPECTED, CheckpointError)


def _write_published(folder: Path) -> None:
    from tests.helpers.published_twins import write_all

    (folder / "whole").mkdir()
    (folder / "sharded").mkdir()
    write_all(folder / "whole")
    write_all(folder / "sharded", shards=3)


@functools.cache
def _published_model(seeds: Path):
    import jax

    from tests.helpers.published_twins import twin_config
    from vljepa_jax.objectives import make_objective

    config = twin_config(seeds / "whole")
    return config, jax.eval_shape(make_objective(config).init, jax.random.key(0))[0]


def _read_published(seeds: Path, scratch: Path, rng: np.random.Generator) -> None:
    from vljepa_jax.convert.families import backbone
    from vljepa_jax.convert.published import read_backbone
    from vljepa_jax.convert.rules import ConversionError

    config, target = _published_model(seeds)
    part = str(rng.choice(["x_encoder", "predictor", "y_encoder"]))
    which = str(rng.choice(["whole", "sharded"]))
    directory = _damage_tree(seeds / which / part, scratch, rng)
    _, faults = read_backbone(config, part, directory, backbone(target, part))
    if faults:
        raise ConversionError(faults)


def _published_errors():
    from vljepa_jax.convert.rules import ConversionError

    return (*EXPECTED, ConversionError)


TARGETS = {
    "media": Target("media", _write_media, _read_media),
    "manifests": Target("manifests", _write_manifest, _read_manifest),
    "datasets": Target("others", _write_dataset, _read_dataset),
    "indices": Target("others", _write_index, _read_index, _index_errors),
    "tokenizers": Target("others", _write_tokenizer, _read_tokenizer),
    "runs": Target("others", _write_run, _read_run, _run_errors),
    "weights": Target("others", _write_published, _read_published, _published_errors),
}

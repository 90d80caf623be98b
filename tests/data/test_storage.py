import dataclasses
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys

import pytest

from vljepa_jax.data import shards, storage
from vljepa_jax.data.records import Annotation, Label, MediaRecord, Medium, Record, shown
from vljepa_jax.data.storage import DatasetError, open_dataset, write_dataset

LABELS = {"motions": (Label("left", ("moves left", "goes left")), Label("up", ("rises",)))}
RECORDS = [
    Record("empty", (), (Annotation("t", "triplet", texts=("a", "b", "c"), inputs=()),)),
    Record(
        "full",
        (Medium(data=b"\x00\xff\n"), Medium(path="/a/b.mp4", start=-0.1, end=1e9 / 3)),
        (
            Annotation(
                "v",
                "vqa",
                "What moves?",
                ("a dög",),
                (1, 0),
                "@labels/motions",
                (),
                1,
                (0.1,),
                (2.0,),
                {"kind": "motion"},
            ),
            Annotation("c", "caption", texts=("one", "two")),
            Annotation("s", "state", candidates=("x",), candidate_media=(0, 1), gold=0),
        ),
    ),
    Record("one", (Medium(data=b"x" * 100_000),), (Annotation("o", "caption", texts=("o",)),)),
]


def write(directory, records=RECORDS, **splits):
    write_dataset(
        directory,
        {"train": iter(records)} | splits,
        name="toy",
        description="a toy",
        labels=LABELS,
        license="CC0",
    )


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "toy", test=RECORDS[2:])
    dataset = open_dataset(tmp_path / "toy")
    assert (dataset.name, dataset.description, dataset.license) == ("toy", "a toy", "CC0")
    assert dataset.splits == {"train": 3, "test": 1}
    assert dataset.labels == LABELS
    assert list(dataset.records("train")) == RECORDS
    assert dataset.candidates(RECORDS[1].annotations[0]) == (
        ("moves left", "goes left"),
        ("rises",),
    )
    assert dataset.candidates(RECORDS[1].annotations[2]) == (("x",),)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_sources_are_cheap_to_send(tmp_path):
    write(tmp_path / "toy")
    dataset = open_dataset(tmp_path / "toy")
    for source in (dataset.media("train"), dataset.annotations("train")):
        before = source[1]
        copy = pickle.loads(pickle.dumps(source))
        assert copy[1] == before
        assert len(pickle.dumps(source)) < 1000


def test_names_of_any_bytes(tmp_path):
    records = [
        dataclasses.replace(RECORDS[2], id=name, media=(Medium(path=f"/{name}.mp4"),))
        for name in ("caf\udce9", "a\nb\t", "\ud800")
    ]
    write(tmp_path / "toy", records)
    assert list(open_dataset(tmp_path / "toy").records("train")) == records


# In parts of one to three records each, and in one part.
@pytest.fixture(params=[200, 1 << 30])
def many(request, tmp_path, monkeypatch):
    """Records with 0, 1, 2, 0, ... annotations of several tasks, a dataset of them."""
    monkeypatch.setattr(storage, "_PART_BYTES", request.param)
    tasks = ("vqa", "caption", "triplet")
    texts = {"triplet": ("a", "b", "c")}
    records = [
        Record(
            f"r{i}",
            (Medium(data=bytes([i]) * (i % 4 * 60)),),
            tuple(
                Annotation(f"r{i}/{j}", task, texts=texts.get(task, ("a",) * (i % 2)))
                for j, task in enumerate([tasks[(i + k) % 3] for k in range(i % 3)])
            ),
        )
        for i in range(40)
    ]
    write(tmp_path / "toy", records)
    dataset = open_dataset(tmp_path / "toy")
    assert (len(dataset.parts["train"]) > 10) == (request.param == 200)
    return records, dataset


def test_annotations_lie_apart_in_the_order_of_their_records(many):
    records, dataset = many
    expected = [(i, a) for i, record in enumerate(records) for a in record.annotations]
    annotations = dataset.annotations("train")
    assert len(annotations) == len(expected)
    assert list(annotations) == expected
    assert [annotations[i] for i in (33, 0, 12)] == [expected[i] for i in (33, 0, 12)]
    assert [annotations.of(i) for i in range(40)] == [record.annotations for record in records]
    for index in (-1, len(expected)):
        with pytest.raises(IndexError):
            annotations[index]
    for index in (-1, 40):
        with pytest.raises(IndexError):
            annotations.of(index)


def test_media_are_read_at_random(many):
    records, dataset = many
    media = dataset.media("train")
    assert len(media) == 40
    assert [media[i] for i in (39, 3, 0)] == [
        MediaRecord(records[i].id, records[i].media) for i in (39, 3, 0)
    ]
    for index in (-1, 40):
        with pytest.raises(IndexError):
            media[index]


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("tasks", [("caption",), ("vqa", "triplet"), ()])
@pytest.mark.parametrize("counted", [True, False])
def test_the_table_tells_which_records_hold_which_tasks(many, tasks, trainable, counted):
    records, dataset = many
    if not counted:  # as in datasets that were written before the metadata counted them
        path = pathlib.Path(dataset.directory, "dataset.json")
        metadata = json.loads(path.read_text())
        for part in metadata["splits"]["train"]:
            del part["trainable"]
        path.write_text(json.dumps(metadata))
        dataset = open_dataset(dataset.directory)
    annotations = dataset.annotations("train")
    assert annotations.tasks(trainable=trainable) == sorted(
        {a.task for r in records for a in r.annotations if a.trainable or not trainable}
    )
    assert list(annotations.records(tasks, trainable=trainable)) == [
        index
        for index, record in enumerate(records)
        if any(a.task in tasks and (a.trainable or not trainable) for a in record.annotations)
    ]


def test_of_what_the_metadata_counts_no_table_is_read_at_opening(many, monkeypatch):
    records, dataset = many
    annotations = pickle.loads(pickle.dumps(dataset.annotations("train")))
    monkeypatch.setattr(shards.np, "load", None)
    chosen = annotations.records(annotations.tasks(trainable=True), trainable=True)
    assert len(pickle.loads(pickle.dumps(chosen))) == sum(
        any(a.trainable for a in record.annotations) for record in records
    )


def test_a_table_that_is_not_that_of_the_metadata_is_an_error(many):
    _, dataset = many
    path = pathlib.Path(dataset.directory, "dataset.json")
    metadata = json.loads(path.read_text())
    for part in metadata["splits"]["train"]:
        if part["tasks"] and part["media"] > 1:
            part["trainable"] = {"": 1, "0": part["media"] - 1}
    path.write_text(json.dumps(metadata))
    annotations = open_dataset(dataset.directory).annotations("train")
    with pytest.raises(DatasetError, match="its table has .* records of these tasks, and its meta"):
        list(annotations.records(annotations.tasks(trainable=True), trainable=True))


def test_a_split_of_many_parts_keeps_few_of_them_open(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_PART_BYTES", 1)
    monkeypatch.setattr(shards, "_OPEN", 3)
    records = [dataclasses.replace(RECORDS[2], id=str(i)) for i in range(30)]
    write(tmp_path / "toy", records)
    dataset = open_dataset(tmp_path / "toy")
    media, annotations = dataset.media("train"), dataset.annotations("train")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [media[i].id for i in range(30)] == [str(i) for i in range(30)]
        assert [len(annotations.of(i)) for i in range(30)] == [1] * 30
    assert len(os.listdir("/proc/self/fd")) - before <= 9


def test_annotations_are_listed_without_the_media(tmp_path):
    """As from a dataset whose media lie elsewhere: not a byte of them can be read."""
    write(tmp_path / "toy")
    for shard in (tmp_path / "toy").glob("*.media.*"):
        shard.unlink()
    dataset = open_dataset(tmp_path / "toy")
    annotations = dataset.annotations("train")
    assert [a for _, a in annotations] == [a for r in RECORDS for a in r.annotations]
    assert annotations.of(1) == RECORDS[1].annotations
    assert list(annotations.records(["caption"], trainable=True)) == [1, 2]
    with pytest.raises(DatasetError, match=r"train-00000\.media\.array_record: missing or dam"):
        dataset.media("train")[0]


def test_a_medium_has_as_many_annotations_as_it_likes(tmp_path):
    """16 bits would count to 65,535."""
    texts = [f"caption {i}" for i in range(70_000)]
    captions = tuple(Annotation(str(i), "caption", texts=(t,)) for i, t in enumerate(texts))
    many = Record("many", RECORDS[2].media, captions)
    write(tmp_path / "toy", [RECORDS[0], many, RECORDS[2]])
    annotations = open_dataset(tmp_path / "toy").annotations("train")
    assert [a.texts[0] for a in annotations.of(1)] == texts
    assert annotations[70_000] == (1, captions[-1])
    assert annotations[70_001] == (2, RECORDS[2].annotations[0])


def test_media_are_bytes_or_paths_or_members_of_archives(tmp_path):
    media = (
        Medium(data=b"bytes", start=1.5),
        Medium(path="/a.mp4", end=2.0),
        Medium(path="/a.tar", offset=2**40, length=2**35, start=0.0, end=1e9 / 3),
        Medium(path="/a.tar", length=0),
    )
    write(tmp_path / "toy", [Record("r", media, ())])
    dataset = open_dataset(tmp_path / "toy")
    assert dataset.media("train")[0].media == media
    assert list(dataset.annotations("train")) == []
    assert dataset.annotations("train").of(0) == ()


def test_datasets_of_other_formats_are_refused(tmp_path):
    """Format 1 was TFDS's: its metadata lay in dataset_info.json."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "dataset_info.json").write_text("{}")
    reason = r"is a dataset of format 1, and this version reads format 2\. Make it anew: python "
    with pytest.raises(DatasetError, match=f"old: {reason}launch/prepare.py --manifest="):
        open_dataset(tmp_path / "old")
    write(tmp_path / "new")
    metadata = json.loads((tmp_path / "new" / "dataset.json").read_text())
    (tmp_path / "new" / "dataset.json").write_text(json.dumps(metadata | {"format": 3}))
    with pytest.raises(DatasetError, match="new: is a dataset of format 3, and this version"):
        open_dataset(tmp_path / "new")


@pytest.mark.parametrize("name", ["a/b", "x" * 101, "", ".a", "a\n"])
def test_names_of_splits_that_no_file_can_have_are_refused(tmp_path, name):
    with pytest.raises(
        DatasetError, match=re.escape(f"toy: '{shown(name)}' is no name of a split")
    ):
        write(tmp_path / "toy", **{name: RECORDS})
    assert not list(tmp_path.iterdir())


def test_a_split_that_leads_out_of_the_dataset_is_not_opened(tmp_path):
    write(tmp_path / "toy")
    path = tmp_path / "toy" / "dataset.json"
    metadata = json.loads(path.read_text())
    metadata["splits"] = {"../../../esc": next(iter(metadata["splits"].values()))}
    path.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="'../../../esc' is no name of a split"):
        open_dataset(tmp_path / "toy")


def test_a_failed_build_leaves_nothing(tmp_path):
    def broken():
        yield RECORDS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "toy", broken())
    assert not list(tmp_path.iterdir())


def test_a_killed_build_does_not_open(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from tests.data.test_storage import RECORDS, write\n"
        "def killed():\n"
        "    yield from RECORDS\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(sys.argv[1], killed())\n"
    )
    directory = tmp_path / "toy"
    environment = {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)], env=environment, check=False
    )
    assert done.returncode == -9
    with pytest.raises(DatasetError, match="no such directory"):
        open_dataset(directory)
    write(directory)
    assert len(open_dataset(directory).media("train")) == 3


def test_an_existing_directory_is_kept(tmp_path):
    write(tmp_path / "toy")
    with pytest.raises(FileExistsError, match="toy exists; remove it"):
        write(tmp_path / "toy")
    assert len(open_dataset(tmp_path / "toy").media("train")) == 3


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such directory"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no dataset"):
        open_dataset(tmp_path)
    write(tmp_path / "toy")
    with pytest.raises(DatasetError, match=r"no split 'trian' \(did you mean 'train'\?\)"):
        open_dataset(tmp_path / "toy").media("trian")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": (1,)}, "refers to a medium beyond its 1"),
        ({"candidate_media": (0, -1)}, "refers to a medium beyond its 1"),
        ({"candidates": "@labels/motion"}, r"no label set 'motion' \(did you mean 'motions'\?\)"),
        ({"candidates": "@labels/motions", "gold": 2}, "gold 2 of 2 candidates"),
        ({"gold": 0}, "gold 0 of 0 candidates"),
        ({"texts": ("a",), "times": (1.0, 2.0)}, "2 times for 1"),
        ({"texts": ("a",), "times": (1.0,), "durations": (1.0, 2.0)}, "2 durations for 1"),
    ],
)
def test_inconsistent_records_are_refused(tmp_path, changes, reason):
    annotation = dataclasses.replace(Annotation("a", "caption"), **changes)
    with pytest.raises(DatasetError, match=f"record 'r', annotation 'a': {reason}"):
        write(tmp_path / "toy", [Record("r", (Medium(data=b"x"),), (annotation,))])
    assert not (tmp_path / "toy").exists()


def test_empty_splits_are_left_out_and_empty_datasets_refused(tmp_path):
    with pytest.raises(DatasetError, match="no split has any records"):
        write(tmp_path / "toy", [])
    assert not (tmp_path / "toy").exists()
    record = Record("r", (Medium(data=b"x"),), (Annotation("a", "caption", texts=("b",)),))
    splits = {"train": [record], "test": []}
    write_dataset(tmp_path / "toy", splits, name="toy", description="", labels={})
    assert open_dataset(tmp_path / "toy").splits == {"train": 1}


def test_neither_tensorflow_nor_jax_is_imported(tmp_path):
    script = (
        "import sys\n"
        "from tests.data.test_storage import write\n"
        "from vljepa_jax.data.storage import open_dataset\n"
        "write(sys.argv[1])\n"
        "next(open_dataset(sys.argv[1]).records('train'))\n"
        "print([m for m in ('tensorflow', 'torch', 'jax') if m in sys.modules])\n"
    )
    environment = {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "toy")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout == "[]\n"

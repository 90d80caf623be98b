import dataclasses
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from vljepa_jax.data import storage
from vljepa_jax.data.records import Annotation, Label, Medium, Record
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
    assert (dataset.name, dataset.description) == ("toy", "a toy")
    assert dataset.splits == {"train": 3, "test": 1}
    assert dataset.labels == LABELS
    source = dataset.source("train")
    assert [source[i] for i in range(len(source))] == RECORDS
    copy = pickle.loads(pickle.dumps(source))
    assert copy[1] == RECORDS[1]
    assert len(pickle.dumps(source)) < 1000
    assert dataset.candidates(RECORDS[1].annotations[0]) == (
        ("moves left", "goes left"),
        ("rises",),
    )
    assert dataset.candidates(RECORDS[1].annotations[2]) == (("x",),)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_names_of_any_bytes(tmp_path):
    records = [
        dataclasses.replace(RECORDS[2], id=name, media=(Medium(path=f"/{name}.mp4"),))
        for name in ("caf\udce9", "a\nb\t", "\ud800")
    ]
    write(tmp_path / "toy", records)
    source = open_dataset(tmp_path / "toy").source("train")
    assert [source[i] for i in range(3)] == records


def test_annotation_table(tmp_path):
    write(tmp_path / "toy")
    table = open_dataset(tmp_path / "toy").source("train").annotations()
    np.testing.assert_array_equal(table.record, [0, 1, 1, 1, 2])
    np.testing.assert_array_equal(table.annotation, [0, 0, 1, 2, 0])
    tasks = [table.tasks[index] for index in table.task]
    assert tasks == ["triplet", "vqa", "caption", "state", "caption"]
    np.testing.assert_array_equal(table.trainable, [False, False, True, True, True])


def test_records_are_spread_over_shards_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_SHARD_BYTES", 1000)
    records = [
        Record(str(i), (Medium(data=bytes([i]) * 400),), (Annotation(str(i), "caption"),))
        for i in range(20)
    ]
    write(tmp_path / "toy", records)
    assert len(list((tmp_path / "toy").glob("*array_record*"))) > 3
    source = open_dataset(tmp_path / "toy").source("train")
    assert [source[i] for i in (19, 3, 0)] == [records[i] for i in (19, 3, 0)]
    assert [source[i].id for i in range(20)] == [str(i) for i in range(20)]


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
    assert len(open_dataset(directory).source("train")) == 3


def test_an_existing_directory_is_kept(tmp_path):
    write(tmp_path / "toy")
    with pytest.raises(FileExistsError, match="toy exists; remove it"):
        write(tmp_path / "toy")
    assert len(open_dataset(tmp_path / "toy").source("train")) == 3


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such directory"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no dataset"):
        open_dataset(tmp_path)
    write(tmp_path / "toy")
    with pytest.raises(DatasetError, match=r"no split 'trian' \(did you mean 'train'\?\)"):
        open_dataset(tmp_path / "toy").source("trian")


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
        "open_dataset(sys.argv[1]).source('train')[0]\n"
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

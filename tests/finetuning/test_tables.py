"""Tables, folders and datasets of others, read as rows of named values."""

import csv
import json
import struct
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from tests.helpers.sample_media import png
from vljepa_jax.finetuning.tables import TableError, open_table

ROWS = [
    {"video": "a.mp4", "caption": "a dog, running; fast"},
    {"video": "b.mp4", "caption": 'it says "hello"'},
    {"video": "c.mp4", "caption": "a cat"},
]
PICTURE = png(np.zeros((8, 8, 3), np.uint8))


def read(path, root=None):
    table = open_table(str(path), root)
    return list(table.columns), [dict(row) for row in table.rows]


def write_csv(path, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, ["video", "caption"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


@pytest.mark.parametrize(
    ("name", "delimiter"), [("t.csv", ","), ("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", "\t")]
)
def test_a_delimiter_is_found_by_what_all_lines_agree_on(tmp_path, name, delimiter):
    assert read(write_csv(tmp_path / name, delimiter)) == (["video", "caption"], ROWS)
    assert read(write_csv(tmp_path / name, delimiter, "utf-8-sig")) == (["video", "caption"], ROWS)


def test_json_lines_and_lists(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    (tmp_path / "t.json").write_text(json.dumps(ROWS))
    assert read(tmp_path / "t.jsonl") == read(tmp_path / "t.json") == (["video", "caption"], ROWS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty: it has no row"),
        ("t.csv", "video,caption\n", "is empty: it has no row"),
        ("t.csv", "video,caption\na.mp4,a dog, running\n", "line 2 has 3 columns between commas"),
        ("t.csv", "video;caption\na.mp4,a dog\n", "line 2 has 1 columns between semicolons"),
        ("t.csv", "video,video\na,b\n", "two columns of the header have one name"),
        ("t.csv", "video\na.mp4\n", "the header 'video' names one column"),
        ("t.csv", b"video,caption\na.mp4,caf\xe9\n", "is not in UTF-8"),
        ("t.tsv", "video,caption\na.mp4,a dog\n", "names one column"),
        ("t.jsonl", '{"video": "a"}\n[1]\n', "line 2: is no JSON object"),
        ("t.jsonl", '{"video": "a"\n', "line 1: is no JSON"),
        ("t.json", '{"video": "a"}', "not a list"),
        ("t.xlsx", "x", "is of no known kind: give one of .csv"),
        ("t.parquet", "PAR1", "t.parquet: cannot be read"),
    ],
)
def test_what_is_wrong_is_named_with_the_mend(tmp_path, name, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TableError, match=message):
        read(tmp_path / name)


def test_what_is_not_there_is_named():
    with pytest.raises(TableError, match="no file or folder 'nowhere.csv'"):
        open_table("nowhere.csv")


def test_folders_are_classes_below_splits_or_not(tmp_path):
    for name in ("walking_dog/a.png", "cat/b.png"):
        for folder in ("plain", "split/train", "split/test"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(PICTURE)
    columns, rows = read(tmp_path / "plain")
    assert columns == ["media", "label"]
    assert sorted(row["label"] for row in rows) == ["cat", "walking dog"]
    columns, rows = read(tmp_path / "split")
    assert set(columns) == {"media", "label", "split"}
    found = {(row["split"], row["label"]) for row in rows}
    assert found == {(s, la) for s in ("train", "test") for la in ("cat", "walking dog")}
    (tmp_path / "plain" / "loose.png").write_bytes(PICTURE)
    with pytest.raises(TableError, match="holds 1 clips in no folder of a class"):
        read(tmp_path / "plain")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="holds no video or image"):
        read(tmp_path / "empty")


def test_a_table_beside_the_clips_is_read(tmp_path):
    write_csv(tmp_path / "metadata.csv")
    assert read(tmp_path) == (["video", "caption"], ROWS)
    assert open_table(str(tmp_path)).root == tmp_path


# ---------------------------------------------------------------------------------------------
# Parquet, and Hugging Face's datasets
# ---------------------------------------------------------------------------------------------
def arrow_table(labels=True):
    """As ``datasets`` writes one: media as bytes and path, a class as its number."""
    import pyarrow

    features = {
        "video": {"_type": "Video"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }
    table = pyarrow.table(
        {"video": [{"bytes": PICTURE, "path": "a.png"}] * 2, "label": [1, 0]},
    )
    noted = json.dumps({"info": {"features": features if labels else {}}})
    return table.replace_schema_metadata({"huggingface": noted})


def test_parquet_files(tmp_path):
    from pyarrow import parquet

    parquet.write_table(arrow_table(), tmp_path / "t.parquet")
    columns, rows = read(tmp_path / "t.parquet")
    assert columns == ["video", "label"]
    assert [row["label"] for row in rows] == ["dog", "cat"]
    assert rows[0]["video"] == {"bytes": PICTURE, "path": "a.png"}
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        parquet.write_table(arrow_table(), tmp_path / f"data/{split}-00000-of-00001.parquet")
    (tmp_path / "t.parquet").unlink()
    columns, rows = read(tmp_path)
    assert columns == ["video", "label", "split"]
    assert [row["split"] for row in rows] == ["test", "test", "train", "train"]


def save_to_disk(folder):
    import pyarrow

    folder.mkdir(parents=True)
    table = arrow_table()
    with pyarrow.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))


def test_datasets_that_hugging_face_saved(tmp_path):
    save_to_disk(tmp_path / "one")
    columns, rows = read(tmp_path / "one")
    assert (columns, [row["label"] for row in rows]) == (["video", "label"], ["dog", "cat"])
    for split in ("train", "validation"):
        save_to_disk(tmp_path / "several" / split)
    (tmp_path / "several/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    columns, rows = read(tmp_path / "several")
    assert [row["split"] for row in rows] == ["train", "train", "validation", "validation"]
    (tmp_path / "one/state.json").write_text("{}")
    with pytest.raises(TableError, match="is no whole dataset of Hugging Face"):
        read(tmp_path / "one")


def test_the_extra_is_named_where_pyarrow_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"pip install 'vljepa_jax\[parquet\]'"):
        read(tmp_path / "t.parquet")


# ---------------------------------------------------------------------------------------------
# TensorFlow Datasets
# ---------------------------------------------------------------------------------------------
def varint(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def field(number, content):
    """A length-delimited field, by the encoding that protobuf.dev describes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**features):
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            kind, content = 1, b"".join(field(1, value) for value in values)
        elif isinstance(values[0], float):
            kind, content = 2, field(1, struct.pack(f"<{len(values)}f", *values))
        else:
            kind, content = 3, field(1, b"".join(map(varint, values)))
        entries += field(1, field(1, name.encode()) + field(2, field(kind, content)))
    return field(1, entries)


def test_array_records_of_tensorflow_datasets(tmp_path):
    for split, label in (("train", 300), ("test", 0)):
        path = tmp_path / f"mine-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        writer.write(
            example(video=[PICTURE, PICTURE], label=[label], text=[b"caf\xc3\xa9"], start=[0.5])
        )
        writer.close()
    (tmp_path / "label.labels.txt").write_text("\n".join(f"class {n}" for n in range(301)))
    columns, rows = read(tmp_path)
    assert set(columns) == {"split", "video", "label", "text", "start"}
    assert [(row["split"], row["label"]) for row in rows] == [
        ("test", "class 0"),
        ("train", "class 300"),
    ]
    assert rows[0]["video"] == [PICTURE, PICTURE]
    assert (rows[0]["text"], rows[0]["start"]) == ("café".encode(), 0.5)
    (tmp_path / "mine-train.array_record-00000-of-00001").write_bytes(b"damaged" * 100)
    with pytest.raises(TableError, match="is no file of TensorFlow Datasets that can be read"):
        read(tmp_path)

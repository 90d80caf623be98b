import dataclasses
import json
import os

import pytest

from tests.helpers.sample_media import numbered_frames, png
from vljepa_jax.data.manifest import Fault, ManifestError, open_manifest
from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.data.records import Annotation, Label, Medium

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomavc1"  # of a file that is not decoded here


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "media").mkdir()
    image = png(numbered_frames(1)[0])
    files = {"a.mp4": MP4, "b.webm": b"\x1aE\xdf\xa3", "c.png": image, "image.mp4": image}
    files |= {"a.doc": b"Dear all", "empty.mp4": b"", "page.mp4": b"<html>", "video": MP4}
    for name, data in files.items():
        (tmp_path / "media" / name).write_bytes(data)
    return tmp_path


def read(folder, *rows, meta=None, labels=None):
    """Writes rows (objects, or lines as they are) and reads them."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "m.jsonl").write_text("\n".join(lines))
    if meta is not None:
        (folder / "m.meta.json").write_text(json.dumps(meta))
    for name, entries in (labels or {}).items():
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{name}.json").write_text(json.dumps(entries))
    return list(
        open_manifest(str(folder / "m.jsonl"), split=None, root=str(folder / "media")).rows()
    )


def row(**changes):
    """A right row with changes; None takes a field out."""
    fields = {"id": "x", "media": [{"path": "a.mp4"}], "texts": ["a dog"]} | changes
    return {key: value for key, value in fields.items() if value is not None}


def test_a_full_row(folder):
    (found,) = read(
        folder,
        row(
            media=[{"path": "a.mp4", "start": -1, "end": 2.5}, {"path": "c.png"}],
            query="Which?",
            cand=["one", "two"],
            gold=1,
            tags={"kind": "count", "level": 3},
        ),
    )
    path = str(folder / "media" / "a.mp4")
    assert found.media == (Medium(path=path, start=-1.0, end=2.5),) + (
        Medium(path=str(folder / "media" / "c.png")),
    )
    assert found.annotation == Annotation(
        "x",
        "vqa",
        "Which?",
        ("a dog",),
        (0, 1),
        ("one", "two"),
        gold=1,
        tags={"kind": "count", "level": "3"},
    )
    assert found.number == 1


def test_candidate_media_follow_the_inputs(folder):
    (found,) = read(
        folder, row(cand=[{"path": "b.webm"}, {"path": "c.png"}], gold=0, query="?", texts=None)
    )
    assert found.annotation.inputs == (0,)
    assert found.annotation.candidate_media == (1, 2)
    assert found.annotation.task == "state"
    assert [medium.path.rsplit("/")[-1] for medium in found.media] == ["a.mp4", "b.webm", "c.png"]


def test_content_says_what_a_file_is(folder):
    names = ("video", "image.mp4", "page.mp4")  # the last is a fault only when it is decoded
    found = read(folder, *(row(id=name, media=[{"path": name}]) for name in names))
    assert [r.media[0].path for r in found] == [str(folder / "media" / name) for name in names]


def test_names_of_any_bytes(folder):
    names = [os.fsdecode(name) for name in (b"caf\xe9", b"a\nb\t.mp4", b"[1] %03d a:b.mp4")]
    for name in names:
        (folder / "media" / name).write_bytes(MP4)
    rows = [row(id=name, media=[{"path": name}]) for name in names]
    assert all(line.isascii() for line in map(json.dumps, rows))
    *found, gone = read(folder, *rows, row(id="z\udce9", media=[{"path": "z\udce9\x1b[31m.mp4"}]))
    assert [r.media[0].path for r in found] == [f"{folder}/media/{name}" for name in names]
    assert [r.annotation.id for r in found] == names
    assert gone.id == "z\udce9"
    line = f"{folder}/m.jsonl, row 4: missing file: media[0]: there is no file "
    assert str(gone) == line + rf"{folder}/media/z\xe9\x1b[31m.mp4"


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({}, "caption"),
        ({"cand": ["a", "b"]}, "classification"),
        ({"cand": ["a", "b"], "query": "?"}, "vqa"),
        ({"times": [1.5]}, "stream"),
        ({"media": [], "texts": ["a", "b", "c"]}, "triplet"),
        ({"task": "vqa"}, "vqa"),
    ],
)
def test_the_task_follows_from_the_fields(folder, changes, task):
    assert read(folder, row(**changes))[0].annotation.task == task


def test_the_meta_file_gives_defaults(folder):
    meta = {"name": "n", "task": "vqa", "split": "test", "query": "What?", "n_expected": 2}
    rows = read(folder, row(id="a"), "", row(id="b", query="Who?", task="caption"), meta=meta)
    assert [r.annotation.query for r in rows] == ["What?", "Who?"]
    assert [r.annotation.task for r in rows] == ["vqa", "caption"]
    assert [r.number for r in rows] == [1, 3]
    manifest = open_manifest(str(folder / "m.jsonl"), split=None, root=None)
    assert (manifest.split, manifest.name, manifest.root) == ("test", "n", folder)
    assert open_manifest(str(folder / "m.jsonl"), split="train", root=None).split == "train"
    with pytest.raises(ManifestError, match="has 1 rows, but its meta file expects 2"):
        read(folder, row())


def test_label_sets(folder):
    labels = {"colours": [{"id": "r", "texts": ["red", "crimson"]}, {"id": "b", "texts": ["blue"]}]}
    (found,) = read(folder, row(cand="@labels/colours", gold=1, texts=None), labels=labels)
    assert found.annotation.candidates == "@labels/colours"
    manifest = open_manifest(str(folder / "m.jsonl"), split=None, root=None)
    assert manifest.labels["colours"][0] == Label("r", ("red", "crimson"))


FAULTS = {
    "no JSON": ["{", "no JSON", "the line is no JSON"],
    "no object": ["[1]", "wrong type", "the row is no JSON object"],
    "no id": [row(id=None), "missing field", "'id' is missing"],
    "id of wrong type": [row(id=3), "wrong type", "'id' must be text, got 3"],
    "unknown field": [row(text=["a"]), "unknown field", "'text' (did you mean 'texts'?)"],
    "unknown medium field": [
        row(media=[{"path": "a.mp4", "begin": 1}]),
        "unknown field",
        "field of media[0]: 'begin'",
    ],
    "missing file": [row(media=[{"path": "z.mp4"}]), "missing file", "media/z.mp4"],
    "no path": [row(media=[{}]), "missing field", "media[0] has no 'path'"],
    "media no list": [row(media="a.mp4"), "wrong type", "'media' must be a list"],
    "media of text": [row(media=["a.mp4"]), "wrong type", "media[0] is no JSON object"],
    "unknown kind": [
        row(media=[{"path": "a.doc"}]),
        "unknown kind of file",
        "'a.doc' is no known video or image: it begins with b'Dear all'",
    ],
    "empty file": [row(media=[{"path": "empty.mp4"}]), "unreadable", "media/empty.mp4: is empty"],
    "surrogate that is no byte": [
        row(media=[{"path": "\ud800.mp4"}]),
        "missing file",
        r"media/\ud800.mp4",
    ],
    "end before start": [
        row(media=[{"path": "a.mp4", "start": 3, "end": 2}]),
        "end before start",
        "media[0] ends at 2.0 s, but starts at 3.0 s",
    ],
    "start of wrong type": [
        row(media=[{"path": "a.mp4", "start": "3"}]),
        "wrong type",
        'media[0].start must be a number of seconds, at most 1e+07, got "3"',
    ],
    "span of an image": [row(media=[{"path": "c.png", "end": 3}]), "wrong span", "is an image"],
    "span of an image by content": [
        row(media=[{"path": "image.mp4", "start": 1}]),
        "wrong span",
        "'image.mp4' is an image",
    ],
    "start of hundreds of digits": [
        row(media=[{"path": "a.mp4", "start": 10**400}]),
        "wrong type",
        "media[0].start must be a number of seconds, at most 1e+07, got 1000",
    ],
    **{
        f"end of {seconds}": [
            f'{{"id": "x", "media": [{{"path": "a.mp4", "end": {seconds}}}], "texts": ["a"]}}',
            "wrong type",
            "media[0].end must be a number of seconds, at most 1e+07",
        ]
        for seconds in ("1e308", "1e300", "-1e300", "NaN", "Infinity", "9223372036854775808")
    },
    "nested too deep": ["[" * 100_000, "no JSON", "the line is nested deeper than 100 times"],
    "tags nested too deep": [
        '{"id": "x", "tags": ' + '{"a": ' * 200 + "1" + "}" * 201,
        "no JSON",
        "nested deeper than 100 times",
    ],
    "number of thousands of digits": ["1" * 5000, "no JSON", "the line is no JSON (Exceeds"],
    "long path": [row(media=[{"path": "x" * 300 + ".mp4"}]), "missing file", "there is no file"],
    **{
        f"surrogate in {name}": [fields, "no text", f"{where} holds '\\ud83d', half a character"]
        for name, fields, where in (
            ("id", row(id="a\ud83d"), "'id'"),
            ("text", row(texts=["a", "b\ud83d"]), "texts[1]"),
            ("query", row(query="\ud83d?"), "'query'"),
            ("candidate", row(cand=["\ud83d", "b"]), "cand[0]"),
            ("tag", row(tags={"a": "\ud83d"}), "'tags'"),
        )
    },
    "bytes in a text": [row(texts=["caf\udce9"]), "no text", r"holds '\udce9', half a"],
    "empty text": [row(texts=["a", " "]), "empty text", "texts[1] is empty"],
    "texts of wrong type": [row(texts=["a", 1]), "wrong type", "'texts' must be a list of texts"],
    "texts no list": [row(texts="a"), "wrong type", "'texts' must be a list of texts"],
    "nothing to say": [row(texts=None), "empty text", "neither 'texts' nor 'cand'"],
    "no media": [row(media=None), "no media", "'media' is missing or empty"],
    "empty candidate": [row(cand=["a", ""]), "empty text", "a candidate is empty"],
    "unknown labels": [row(cand="@labels/x"), "unknown labels", "no label set 'x'"],
    "candidates of wrong type": [
        row(cand="x"),
        "wrong type",
        "'cand' is a list, or '@labels/NAME'",
    ],
    "gold out of range": [
        row(cand=["a"], gold=1),
        "gold out of range",
        "gold is 1, but there are 1",
    ],
    "gold without candidates": [row(gold=0), "gold out of range", "there are 0 candidates"],
    "gold of wrong type": [row(cand=["a"], gold=True), "wrong type", "'gold' must be an integer"],
    "missing times": [row(task="stream"), "wrong times", "a stream has 'times'"],
    "times of other length": [row(times=[1, 2]), "wrong times", "2 times for 1 texts"],
    "times not ascending": [
        row(texts=["a", "b"], times=[2, 1]),
        "wrong times",
        "'times' are not ascending",
    ],
    "unknown task": [row(task="captoin"), "unknown task", "(did you mean 'caption'?)"],
    "triplet of two": [row(task="triplet", texts=["a", "b"]), "wrong texts", "has 3 texts, not 2"],
    "tags of wrong type": [row(tags=["a"]), "wrong type", "'tags' must be an object"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_row_and_reason(folder, name):
    fields, kind, reason = FAULTS[name]
    good, fault = read(folder, row(id="good"), fields)
    assert good.annotation.id == "good"
    assert isinstance(fault, Fault)
    assert (fault.row, fault.kind) == (2, kind)
    assert reason in fault.reason


def test_unusable_manifests_are_named(folder):
    with pytest.raises(ManifestError, match="none.jsonl: no such manifest"):
        open_manifest(str(folder / "none.jsonl"), split=None, root=None)
    for meta, reason in [
        ({"nmae": "x"}, r"unknown field 'nmae' \(did you mean 'name'\?\)"),
        ({"task": "capton"}, r"task 'capton' is unknown \(did you mean 'caption'\?\)"),
        ({"split": 3}, "'split' is no text"),
        ({"split": "../../../esc"}, "'../../../esc' is no name of a split"),
        ([], "holds a JSON list, not a dict"),
        ({"labels": "none.json"}, "none.json: cannot be read"),
    ]:
        with pytest.raises(ManifestError, match=reason):
            read(folder, row(), meta=meta)
    (folder / "m.meta.json").unlink()
    with pytest.raises(ManifestError, match="x.json: entry 0 is not"):
        read(folder, row(), labels={"x": ["red"]})


def test_a_row_is_written_as_it_is_read():
    """Every field; the member of an archive and a query that is empty among them."""
    fields = {
        "id": "x",
        "media": [{"path": "a.tar", "member": "b.mp4", "start": -1.0, "end": 2.5}],
        "query": "",
        "texts": ["one", "two"],
        "cand": [{"path": "c.png"}],
        "gold": 0,
        "times": [0.5, 2.0],
        "durations": [1.0, 0.25],
        "tags": {"kind": "k"},
        "task": "stream",
    }
    row = ManifestRow.from_json(fields)
    assert row.as_json() == fields
    assert ManifestRow.from_json(row.as_json()) == row
    assert ManifestRow("y").as_json() == {"id": "y"}
    assert set(fields) == {field.name for field in dataclasses.fields(ManifestRow)}


def test_durations_are_of_the_times(folder):
    stream = {"times": [1, 2], "texts": ["a", "b"], "durations": [0.5, 1]}
    (found,) = read(folder, row(**stream))
    assert (found.annotation.times, found.annotation.durations) == ((1.0, 2.0), (0.5, 1.0))
    (fault,) = read(folder, row(**stream | {"durations": [1]}))
    assert (fault.kind, fault.reason) == ("wrong times", "1 durations for 2 times")


def test_where_a_manifest_comes_from_is_kept(folder):
    meta = {"metric": "top-1", "license": "MIT", "sources": [{"file": "a.json", "sha256": "0"}]}
    read(folder, row(), meta=meta)
    manifest = open_manifest(str(folder / "m.jsonl"), split=None, root=None)
    assert (manifest.metric, manifest.license, list(manifest.sources)) == tuple(meta.values())
    for wrong in ("a.json", ["a.json"]):
        with pytest.raises(ManifestError, match="'sources' is no list of objects"):
            read(folder, row(), meta={"sources": wrong})


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_encodings_that_show(folder, encoding):
    write(folder, [row(id="1", texts=["a café"], cand="@labels/x", gold=0), row(id="2")], encoding)
    first, second = open_manifest(
        str(folder / "m.jsonl"), split=None, root=str(folder / "media")
    ).rows()
    assert first.annotation.texts == ("a café",)
    assert (first.number, second.number) == (1, 2)


def write(folder, rows, encoding):
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows)
    (folder / "m.jsonl").write_bytes(lines.encode(encoding))
    (folder / "m.meta.json").write_bytes(json.dumps({"query": "é?"}).encode(encoding))
    (folder / "labels").mkdir()
    (folder / "labels/x.json").write_bytes(json.dumps([{"texts": ["é"]}]).encode(encoding))


def test_another_encoding_is_refused_unless_it_is_named(folder):
    write(folder, [row(), row(id="2", texts=["a café"])], "cp1252")
    where = {"split": None, "root": str(folder / "media")}
    with pytest.raises(ManifestError, match=r"m.jsonl: is not in utf-8 .*--encoding=cp1252"):
        list(open_manifest(str(folder / "m.jsonl"), **where).rows())
    named = open_manifest(str(folder / "m.jsonl"), **where, encoding="cp1252")
    assert [found.annotation.texts for found in named.rows()] == [("a dog",), ("a café",)]
    assert named.query == "é?"
    with pytest.raises(ManifestError, match="'utf-9' is no encoding"):
        open_manifest(str(folder / "m.jsonl"), **where, encoding="utf-9")


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"labels": 1.5}, "'labels' is 1.5, not a file or a list of them"),
        ({"labels": [1]}, r"'labels' is \[1\], not a file or a list of them"),
        ({"n_expected": "1"}, "'n_expected' is \"1\", not a number"),
        ({"n_expected": True}, "'n_expected' is true, not a number"),
        ({"query": "\ud83d"}, "'query' holds '.ud83d', half a character"),
        ({"labels": "gone\0.json"}, "cannot be read"),
        ({"labels": "x" * 300}, "cannot be read"),
    ],
)
def test_meta_files_that_cannot_be_used(folder, meta, reason):
    with pytest.raises(ManifestError, match=reason):
        read(folder, row(), meta=meta)


def test_labels_of_half_a_character(folder):
    with pytest.raises(ManifestError, match="x.json: entry 0 holds .*half a character"):
        read(folder, row(), labels={"x": [{"texts": ["\ud83d"]}]})

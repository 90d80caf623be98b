import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console

from tests.helpers.media_library import CASES
from tests.helpers.sample_media import encode, footage, numbered_frames, numbers, png
from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data import prepare as prepare_module
from vljepa_jax.data.manifest import ManifestError, open_manifest
from vljepa_jax.data.prepare import prepare
from vljepa_jax.data.records import Medium
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.video import load_clip

VIDEO = VideoInput(4, 32, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)


def write_manifest(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_manifest(str(path), split=None, root=None)


def run(output, *manifests, on_error="skip", embed=True, num_workers=0):
    """Returns the summary and what was printed."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    summary = prepare(
        manifests,
        output,
        name="toy",
        on_error=on_error,
        embed=embed,
        num_workers=num_workers,
        console=console,
    )
    return summary, console.file.getvalue()


def caption(name, *media, **fields):
    return {"id": name, "media": list(media), "texts": [f"text of {name}"]} | fields


@pytest.mark.parametrize("embed", [True, False])
def test_real_footage_gives_the_same_frames(tmp_path, embed):
    spans = [
        {"path": str(footage() / "bigbuckbunny.mp4"), "start": 3.0, "end": 5.0},
        {"path": str(footage() / "bikes.mp4"), "start": 6.52, "end": 8.0},
        {"path": str(footage() / "bikes.mp4"), "start": 0.0, "end": 2.0},
        {"path": str(footage() / "carphone_pristine.mp4")},
    ]
    manifest = write_manifest(
        tmp_path / "m.jsonl", [caption(str(i), span) for i, span in enumerate(spans)]
    )
    summary, _ = run(tmp_path / "out", manifest, embed=embed)
    assert summary.records == {"train": 4}
    media = open_dataset(tmp_path / "out").media("train")
    for index, span in enumerate(spans):
        record = media[index]
        assert bool(record.media[0].data) == embed
        assert bool(record.media[0].path) != embed
        np.testing.assert_array_equal(
            load_clip(record.media, VIDEO, None), load_clip([Medium(**span)], VIDEO, None)
        )


def test_every_kind_of_file(tmp_path):
    names = ["a.mp4", "a.webm", "a.mkv", "a.mov", "a.avi", "a.gif", "a.animated.webp"]
    rows = []
    for name in names:
        encode(tmp_path / name, numbered_frames(24))
        rows.append(caption(name, {"path": name, "start": 0.8, "end": 1.6}))
        rows.append(caption(f"whole {name}", {"path": name}))
    (tmp_path / "a.png").write_bytes(png(numbered_frames(8)[7]))
    rows.append(caption("a.png", {"path": "a.png"}))
    run(tmp_path / "out", write_manifest(tmp_path / "m.jsonl", rows))
    read = open_dataset(tmp_path / "out").records("train")
    found = {record.id: numbers(load_clip(record.media, VIDEO, None)) for record in read}
    assert {name: found[name] for name in names} == dict.fromkeys(names, [9, 11, 13, 15])
    wholes = [f"whole {name}" for name in names]
    assert {name: found[name] for name in wholes} == dict.fromkeys(wholes, [3, 9, 15, 21])
    assert found["a.png"] == [7, 7, 7, 7]


def test_rows_of_the_same_media_become_one_record(tmp_path):
    for name in "ab":
        encode(tmp_path / f"{name}.mp4", numbered_frames(20))
    part = {"path": "a.mp4", "start": 0.5, "end": 1}
    rows = [
        caption("1", {"path": "a.mp4"}),
        caption("2", part),
        caption("3", {"path": "a.mp4"}, query="Which?", cand=["x", "y"], gold=1),
        caption("4", part, {"path": "b.mp4"}),
        caption("5", {"path": "a.mp4"}, cand=[part, {"path": "b.mp4"}, part], gold=1),
        caption("6", {"path": "a.mp4"}, cand=[{"path": "b.mp4"}, {"path": "a.mp4"}], gold=0),
        caption("7", texts=["a", "b", "c"]),
        caption("8", texts=["d", "e", "f"]),
    ]
    summary, _ = run(tmp_path / "out", write_manifest(tmp_path / "m.jsonl", rows), embed=False)
    assert (summary.rows, summary.annotations) == (8, 8)
    records = list(open_dataset(tmp_path / "out").records("train"))
    grouped = [[annotation.id for annotation in record.annotations] for record in records]
    assert grouped == [["1", "3", "5", "6"], ["2"], ["4"], ["7"], ["8"]]
    assert [len(record.media) for record in records] == [3, 1, 2, 0, 0]
    fifth, sixth = records[0].annotations[2:]
    assert (fifth.inputs, fifth.candidate_media, fifth.gold) == ((0,), (1, 2, 1), 1)
    assert (sixth.inputs, sixth.candidate_media, sixth.gold) == ((0,), (2, 0), 0)
    assert records[2].annotations[0].inputs == (0, 1)


@pytest.fixture
def faulty(tmp_path):
    """A manifest with two good rows and four faulty ones."""
    data = encode(tmp_path / "good.mp4", numbered_frames(20)).read_bytes()
    (tmp_path / "torn.mp4").write_bytes(data[: len(data) // 2])
    rows = [
        caption("1", {"path": "good.mp4"}),
        caption("2", {"path": "none.mp4"}),
        caption("3", {"path": "torn.mp4"}),
        caption("1", {"path": "good.mp4"}),
        caption("5", {"path": "good.mp4", "start": 5}),
        caption("6", {"path": "good.mp4", "end": 1.0}),
    ]
    return write_manifest(tmp_path / "m.jsonl", rows)


def test_faulty_rows_are_skipped_and_told(tmp_path, faulty):
    summary, printed = run(tmp_path / "out", faulty)
    assert (summary.rows, summary.annotations, summary.records) == (6, 2, {"train": 2})
    found = [(fault.row, fault.id, fault.kind) for fault in summary.faults]
    assert found == [
        (2, "2", "missing file"),
        (3, "3", "unreadable"),
        (4, "1", "duplicate id"),
        (5, "5", "unreadable"),
    ]
    lines = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [2, 3, 4, 5]
    assert "torn.mp4: cannot be decoded" in json.loads(lines[1])["reason"]
    assert "the id '1' is that of row 1 of" in printed
    assert "starts at 5.0 s, but is 2.00 s long" in printed
    assert "skipped: unreadable" in printed
    assert len(open_dataset(tmp_path / "out").media("train")) == 2


def test_spans_that_one_container_cannot_hold_lie_in_another(tmp_path):
    """ProRes, WMV and AV1 fit in few; where an edit list begins may be inside a group of frames."""
    names = ["prores.mov", "wmv2.asf", "av1.mkv", "h264_open.ts", "edit.mp4"]
    paths = {name: CASES[name].write(tmp_path) for name in names}
    span = {"start": 0.35, "end": 1.15}
    rows = [caption(name, {"path": path.name} | span) for name, path in paths.items()]
    run(tmp_path / "out", write_manifest(tmp_path / "m.jsonl", rows), on_error="refuse")
    for record in open_dataset(tmp_path / "out").records("train"):
        assert record.media[0].data
        expected = load_clip([Medium(path=str(paths[record.id]), **span)], VIDEO, None)
        np.testing.assert_array_equal(load_clip(record.media, VIDEO, None), expected)


def test_a_row_is_lost_only_with_a_medium_of_its_own(tmp_path):
    data = encode(tmp_path / "good.mp4", numbered_frames(20)).read_bytes()
    (tmp_path / "torn.mp4").write_bytes(data[: len(data) // 2])
    good, torn = {"path": "good.mp4"}, {"path": "torn.mp4"}
    part = {"path": "good.mp4", "start": 0.5, "end": 1.5}
    rows = [
        caption("1", good, cand=[torn, part], gold=1),
        caption("2", good, cand=[part, good], gold=0),
        caption("3", torn),
        caption("4", torn, task="vqa"),
    ]
    train = write_manifest(tmp_path / "train.jsonl", rows[:3])
    test = dataclasses.replace(write_manifest(tmp_path / "test.jsonl", rows[3:]), split="test")
    summary, _ = run(tmp_path / "out", train, test)
    assert (summary.rows, summary.annotations, summary.records) == (4, 1, {"train": 1})
    assert [fault.id for fault in summary.faults] == ["4", "1", "3"]
    dataset = open_dataset(tmp_path / "out")
    assert dataset.splits == {"train": 1}
    (record,) = dataset.records("train")
    (annotation,) = record.annotations
    assert (annotation.id, annotation.inputs, annotation.candidate_media) == ("2", (0,), (1, 0))
    assert record.media[1].end - record.media[1].start == pytest.approx(1.0)


def test_faulty_rows_are_refused(tmp_path, faulty):
    with pytest.raises(ManifestError, match="4 of 6 rows are faulty and nothing was written"):
        run(tmp_path / "out", faulty, on_error="refuse")
    assert not (tmp_path / "out").exists()


def test_faults_of_files_of_any_name_are_printed_as_they_are(tmp_path):
    name = "cl\udce9 [bold]:smile:\n.mp4"  # a byte that is no UTF-8, markup and a line break
    (tmp_path / name).write_bytes(b"no video")
    encode(tmp_path / "good.mp4", numbered_frames(5))
    rows = [caption("1", {"path": name}), caption("2", {"path": "good.mp4"})]
    summary, printed = run(tmp_path / "out", write_manifest(tmp_path / "m.jsonl", rows))
    assert "cl\\xe9 [bold]:smile:\\n.mp4" in printed
    assert [fault.id for fault in summary.faults] == ["1"]
    assert "xe9" in (tmp_path / "out" / "skipped.jsonl").read_text()


def test_nothing_left_is_an_error(tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [caption("1", {"path": "none.mp4"})])
    with pytest.raises(ManifestError, match="none of 1 rows can be used"):
        run(tmp_path / "out", manifest)
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_kept(tmp_path, faulty):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out exists"):
        run(tmp_path / "out", faulty)


def test_splits_and_label_sets_of_several_manifests(tmp_path):
    encode(tmp_path / "a.mp4", numbered_frames(5))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "c.json").write_text('[{"id": "r", "texts": ["red"]}]')
    (tmp_path / "b.meta.json").write_text(
        '{"split": "test", "license": "MIT", "metric": "top-1", "sources": [{"home": "here"}]}'
    )
    first, second = (
        write_manifest(tmp_path / f"{name}.jsonl", [caption(name, {"path": "a.mp4"}, **fields)])
        for name, fields in {"a": {}, "b": {"cand": "@labels/c", "gold": 0}}.items()
    )
    summary, _ = run(tmp_path / "out", first, second)
    assert summary.records == {"train": 1, "test": 1}
    dataset = open_dataset(tmp_path / "out")
    assert dataset.answer(dataset.annotations("test")[0][1]) == ("red",)
    assert (dataset.license, dataset.metric) == ("MIT", "top-1")
    assert dataset.sources == ({"home": "here"},)


def test_workers_change_nothing(tmp_path, faulty, monkeypatch):
    monkeypatch.setattr(prepare_module, "_FEW", 1)
    summaries = [run(tmp_path / f"out{count}", faulty, num_workers=count)[0] for count in (0, 2)]
    assert summaries[0] == summaries[1]
    alone, together = (open_dataset(tmp_path / f"out{count}").records("train") for count in (0, 2))
    assert list(alone) == list(together)

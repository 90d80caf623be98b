"""What a table's columns mean, and the manifest rows that its rows become."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.sample_media import encode, numbered_frames, numbers, png
from vljepa_jax.data.manifest import Fault, open_manifest
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import read_frames
from vljepa_jax.finetuning.columns import choose_columns, read_examples
from vljepa_jax.finetuning.tables import Table, TableError


@pytest.fixture
def folder(tmp_path):
    for name in "abcd":
        encode(tmp_path / f"{name}.mp4", numbered_frames(4))
    return tmp_path


def table(folder, *rows):
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(folder / "t.csv", columns, iter(rows), folder)


def examples(folder, *rows, **named):
    made = table(folder, *rows)
    return read_examples(made, choose_columns(made, named), folder / "media")


@pytest.mark.parametrize(
    ("columns", "named", "wanted"),
    [
        (["video", "caption"], {}, {"media": "video", "texts": "caption"}),
        (["File Name", "Class"], {}, {"media": "File Name", "label": "Class"}),
        (
            ["path", "question", "answer", "choices"],
            {},
            {"media": "path", "query": "question", "answer": "answer", "cand": "choices"},
        ),
        (["x", "y"], {"media": "x", "texts": "y"}, {"media": "x", "texts": "y"}),
        (
            ["video", "caption", "split"],
            {"split": ""},
            {"media": "video", "texts": "caption"},
        ),
        # A column that is named for one role serves no other.
        (["video", "text"], {"label": "text"}, {"media": "video", "label": "text"}),
    ],
)
def test_columns_are_found_by_name_or_named(tmp_path, columns, named, wanted):
    made = Table(tmp_path, tuple(columns), iter(()), tmp_path)
    assert choose_columns(made, named) == wanted


@pytest.mark.parametrize(
    ("columns", "named", "message"),
    [
        (["x", "caption"], {}, r"has the columns 'x', 'caption'; which one names the videos.*"),
        (["video", "x"], {}, r"has the columns 'video', 'x'; none says.*--columns=media=video,te"),
        (["video", "question"], {}, "none says anything"),
        (["video", "caption"], {"texts": "captoin"}, r"did you mean 'caption'"),
        (["video", "caption"], {"txts": "caption"}, r"'txts' is no role \(did you mean 'texts'"),
    ],
)
def test_what_is_missing_is_told_with_what_is_there(tmp_path, columns, named, message):
    made = Table(tmp_path, tuple(columns), iter(()), tmp_path)
    with pytest.raises(TableError, match=message):
        choose_columns(made, named)


def test_captions_labels_and_questions_become_their_tasks(folder):
    found = examples(
        folder,
        {"id": "1", "video": "a.mp4", "caption": "a dog", "label": "dog"},
        {"id": "2", "video": "b.mp4", "caption": ["a cat", "cat!"], "label": "cat", "end": "0.3"},
    )
    (first, second) = (example.rows for example in found.examples)
    assert [(row.id, row.task) for row in first] == [
        ("1-caption", "caption"),
        ("1-classification", "classification"),
    ]
    assert second[0].texts == ("a cat", "cat!")
    assert second[0].media[0].end == 0.3
    assert found.labels == {"labels": ("cat", "dog")}
    assert [example.rows[1].gold for example in found.examples] == [1, 0]
    assert [example.label for example in found.examples] == ["dog", "cat"]


def test_questions_without_candidates_choose_among_all_answers(folder):
    found = examples(
        folder,
        {"video": "a.mp4", "question": "what passes", "answer": "a tram"},
        {"video": "b.mp4", "question": "what passes", "answer": ["a bus", "a coach"]},
    )
    rows = [example.rows[0] for example in found.examples]
    assert [row.task for row in rows] == ["vqa", "vqa"]
    assert found.labels == {"answers": ("a bus", "a tram")}
    assert [(row.query, row.gold, row.texts) for row in rows] == [
        ("what passes", 1, ("a tram",)),
        ("what passes", 0, ("a bus", "a coach")),
    ]
    assert {row.cand for row in rows} == {"@labels/answers"}


def test_an_open_question_of_a_manifest_is_one_and_a_request_for_captions_is_none(folder):
    found = examples(
        folder,
        {"media": [{"path": "a.mp4"}], "query": "What passes?", "texts": ["a tram"]},
        {"media": [{"path": "b.mp4"}], "query": "What passes?", "texts": ["a bus"]},
        {"media": [{"path": "c.mp4"}], "query": "Describe it.", "texts": ["a dog"]},
    )
    rows = [example.rows[0] for example in found.examples]
    assert [(row.task, row.query, row.texts) for row in rows] == [
        ("vqa", "What passes?", ("a tram",)),
        ("vqa", "What passes?", ("a bus",)),
        ("caption", "Describe it.", ("a dog",)),
    ]
    assert [row.gold for row in rows] == [1, 0, None]


@pytest.mark.parametrize(
    ("fields", "gold"),
    [
        ({"choices": "a bus|a tram", "answer": "a tram"}, 1),
        ({"choices": '["a bus", "a tram"]', "answer": "B"}, 1),
        ({"choices": ["a bus", "a tram"], "gold": 0}, 0),
        ({"choices": "a bus;a tram", "answer": "1"}, 1),
    ],
)
def test_the_right_candidate_is_named_numbered_or_lettered(folder, fields, gold):
    made = examples(folder, {"video": "a.mp4", "question": "what", **fields})
    (row,) = made.examples[0].rows
    assert (row.cand, row.gold, row.task) == (("a bus", "a tram"), gold, "vqa")


def test_faulty_rows_are_counted_and_the_others_stay(folder):
    found = examples(
        folder,
        {"video": "a.mp4", "caption": "a dog"},
        {"video": "none.mp4", "caption": "a cat"},
        {"video": "b.mp4", "caption": " "},
        {"video": "", "caption": "a cat"},
        {"video": "c.mp4", "caption": "a cow", "start": "2", "end": "1"},
        {"video": "d.mp4", "caption": "a cow", "start": "soon"},
    )
    assert len(found.examples) == 1
    assert [number for number, _ in found.faults] == [2, 3, 4, 5, 6]
    reasons = [reason for _, reason in found.faults]
    for reason, part in zip(
        reasons,
        ("there is no file", "says nothing", "names no video", "ends at 1.0 s", "not a number"),
        strict=True,
    ):
        assert part in reason


def test_one_class_alone_and_no_usable_row_are_errors(folder):
    with pytest.raises(TableError, match="all rows have the label 'dog'.*give clips of two"):
        examples(folder, *({"video": f"{n}.mp4", "label": "dog"} for n in "ab"))
    with pytest.raises(TableError, match="no row can be used: row 1: there is no file .*--root"):
        examples(folder, {"video": "none.mp4", "caption": "x"})


def test_ids_that_are_not_unique_are_told_apart(folder):
    found = examples(
        folder,
        {"id": "7", "video": "a.mp4", "caption": "x"},
        {"id": "7", "video": "b.mp4", "caption": "y"},
        {"id": "8", "video": "b.mp4", "caption": "z"},
    )
    assert [e.rows[0].id for e in found.examples] == ["7-1-caption", "7-2-caption", "8-caption"]


def test_media_in_the_table_become_files_once(folder):
    picture = png(np.full((9, 8, 3), 200, np.uint8))
    found = examples(
        folder,
        {"image": {"bytes": picture, "path": "x.png"}, "caption": "white"},
        {"image": picture, "caption": "again"},
        {"image": {"bytes": None, "path": "a.mp4"}, "caption": "a file"},
        {"image": [{"path": "a.mp4", "start": 0.1}], "caption": "of a manifest"},
    )
    embedded, again, file, span = (example.rows[0].media[0] for example in found.examples)
    assert embedded.path == again.path
    assert Path(embedded.path).read_bytes() == picture
    assert file.path == span.path == str(folder / "a.mp4")
    assert span.start == 0.1


def test_pictures_of_a_video_become_one(folder):
    pictures = [png(frame) for frame in numbered_frames(8, height=49)]
    (example,) = examples(folder, {"video": pictures, "caption": "brighter"}).examples
    frames = read_frames(Medium(path=example.media[0]), [0.05, 0.5, 0.95], np.asarray)
    assert numbers(np.stack(frames)) == [0, 4, 7]


def test_the_rows_are_those_of_a_manifest(folder):
    found = examples(
        folder,
        {"video": "a.mp4", "caption": "a dog", "label": "dog", "question": "how", "answer": "so"},
        {"video": "b.mp4", "caption": "a cat", "label": "cat", "question": "how", "answer": "no"},
    )
    path = folder / "rows.jsonl"
    rows = [row.as_json() for example in found.examples for row in example.rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labels").mkdir()
    for name, texts in found.labels.items():
        content = [{"id": text, "texts": [text]} for text in texts]
        (folder / f"labels/{name}.json").write_text(json.dumps(content))
    read = list(open_manifest(str(path), split=None, root=None).rows())
    assert not [row for row in read if isinstance(row, Fault)]
    assert len(read) == 6

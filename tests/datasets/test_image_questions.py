import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from tests.helpers.official_files import rows, write
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.image_questions import (
    CLEVR,
    GQA,
    POPE,
    POPE_V2,
    TALLYQA,
    VQA_V2,
)


def test_gqa(tmp_path):
    def question(answer):
        return {
            "question": "What is it?",
            "imageId": "n25",
            "answer": answer,
            "fullAnswer": "",
            "isBalanced": True,
            "types": {"detailed": "x", "structural": "query", "semantic": "obj"},
        }

    files = {
        "trainval_label2ans.json": ["cat toy", "yes"],
        "testdev_balanced_questions.json": {"201": question("yes"), "202": question("zeppelin")},
        "questions1.2/train_balanced_questions.json": {"201": question("cat toy")},
    }
    write(tmp_path, files)
    known, unknown = rows(GQA, tmp_path, "testdev")
    assert known == {
        "id": "testdev/201",
        "media": [{"path": "images/n25.jpg"}],
        "query": "What is it?",
        "texts": ["yes"],
        "cand": "@labels/gqa",
        "gold": 1,
        "tags": {"structural": "query", "semantic": "obj"},
    }
    # An answer that no candidate says is there, and cannot be right.
    assert unknown["texts"] == ["zeppelin"]
    assert "gold" not in unknown
    assert [label.texts for label in GQA.labels(tmp_path, "testdev")["gqa"]] == [
        ("cat toy",),
        ("yes",),
    ]

    (trained,) = rows(GQA, tmp_path, "train")
    assert (trained["id"], trained["texts"], trained["gold"]) == ("train/201", ["cat toy"], 0)


def test_vqa_v2(tmp_path):
    """Annotations have their questions in another file, in any order."""
    questions = [
        {"image_id": 9, "question": f"What is {identity}?", "question_id": identity}
        for identity in (90, 91)
    ]
    annotations = [
        {
            "question_type": "what is",
            "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": 1}],
            "image_id": 9,
            "answer_type": "other",
            "question_id": identity,
        }
        for identity, answer in ((91, "net"), (90, "a thing nobody else says"))
    ]
    files = {
        "trainval_label2ans.json": ["yes", "net"],
        "v2_OpenEnded_mscoco_train2014_questions.json": {"questions": questions},
        "v2_mscoco_train2014_annotations.json": {"annotations": annotations},
        "train2014/COCO_train2014_000000000009.jpg": b"",
    }
    write(tmp_path, files)
    known, unknown = rows(VQA_V2, tmp_path, "train")
    assert known == {
        "id": "91",
        "media": [{"path": "train2014/COCO_train2014_000000000009.jpg"}],
        "query": "What is 91?",
        "texts": ["net"],
        "cand": "@labels/vqa_v2",
        "gold": 1,
        "tags": {"kind": "other"},
    }
    assert unknown["query"] == "What is 90?"
    assert "gold" not in unknown
    del annotations[0]["multiple_choice_answer"]
    write(tmp_path, {"v2_mscoco_train2014_annotations.json": {"annotations": annotations}})
    with pytest.raises(AdapterError, match="multiple_choice_answer"):
        list(VQA_V2.rows(tmp_path, "train"))


def test_tallyqa(tmp_path):
    def question(identity, answer, **fields):
        return {
            "answer": answer,
            "data_source": "imported_genome",
            "image": "VG_100K_2/24.jpg",
            "image_id": 924,
            "question": "How many?",
            "question_id": identity,
        } | fields

    files = {
        "test.json": [
            question(1, 4, issimple=True),
            question(2, 15, issimple=False),
            question(3, 16, issimple=False),
        ],
        "train.json": [question(1, 0)],
        "visual_genome/VG_100K_2/24.jpg": b"",
    }
    write(tmp_path, files)
    found = list(rows(TALLYQA, tmp_path, "test"))
    assert found[0] == {
        "id": "test/1",
        "media": [{"path": "visual_genome/VG_100K_2/24.jpg"}],
        "query": "How many?",
        "texts": ["4"],
        "cand": "@labels/tallyqa",
        "gold": 4,
        "tags": {"source": "imported_genome", "subset": "simple"},
    }
    assert [(row["tags"]["subset"], row.get("gold")) for row in found[1:]] == [
        ("complex", 15),
        ("complex", None),
    ]
    (train,) = rows(TALLYQA, tmp_path, "train")
    assert (train["gold"], train["tags"]) == (0, {"source": "imported_genome"})


def pope_files(label):
    line = {"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a dog?", "label": "no"}
    return {
        f"output/coco/coco_pope_{subset}.json": "".join(
            json.dumps(line | {"question_id": number, "label": answer}) + "\n"
            for number, answer in ((1, "no"), (2, label))
        )
        for subset in ("random", "popular", "adversarial")
    }


def test_pope_numbers_its_questions_anew_in_each_file(tmp_path):
    found = list(rows(POPE, write(tmp_path, pope_files("yes")), "test"))
    assert found[3] == {
        "id": "popular/2",
        "media": [{"path": "val2014/COCO_1.jpg"}],
        "query": "Is there a dog?",
        "texts": ["yes"],
        "cand": ["yes", "no"],
        "gold": 0,
        "tags": {"subset": "popular"},
    }
    assert len({row["id"] for row in found}) == 6


def test_pope_with_an_answer_of_another_kind(tmp_path):
    with pytest.raises(AdapterError, match="after 1 rows .*'maybe' is neither yes nor no"):
        list(rows(POPE, write(tmp_path, pope_files("maybe")), "test"))


def test_popev2(tmp_path):
    table = {
        "example_id": ["popev2-000000000042"],
        "image_id": [42],
        "target_object": ["dog"],
        "question": ["Is there a dog?"],
        "normal_label": ["Yes"],
        "counterfactual_label": ["No"],
        # Both images have the same name in the file.
        "normal_image": [{"bytes": b"with", "path": "000000000042.jpg"}],
        "counterfactual_image": [{"bytes": b"without", "path": "000000000042.jpg"}],
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "test.parquet")
    assert list(rows(POPE_V2, tmp_path, "test")) == [
        {
            "id": f"popev2-000000000042/{view}",
            "media": [{"path": f"{folder}/000000000042.jpg"}],
            "query": "Is there a dog?",
            "texts": [answer],
            "cand": ["yes", "no"],
            "gold": gold,
            "tags": {"pair": "popev2-000000000042", "view": view, "object": "dog"},
        }
        for view, folder, answer, gold in (
            ("normal", "normal_images", "yes", 0),
            ("counterfactual", "images", "no", 1),
        )
    ]
    assert list(POPE_V2.read_media(POPE_V2.official(tmp_path, "test"))) == [
        ("normal_images/000000000042.jpg", b"with"),
        ("images/000000000042.jpg", b"without"),
    ]


def test_popev2_with_other_columns(tmp_path):
    parquet.write_table(pyarrow.table({"example_id": ["x"]}), tmp_path / "test.parquet")
    with pytest.raises(AdapterError, match="test.parquet: has no column image_id, target_object"):
        list(rows(POPE_V2, tmp_path, "test"))


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write(tmp_path, {"test.parquet": b"PAR1"})
    with pytest.raises(AdapterError, match=r"test.parquet: Parquet needs .*vljepa_jax\[parquet\]"):
        list(rows(POPE_V2, tmp_path, "test"))


@pytest.mark.parametrize("function", ["function", "type"])
def test_clevr(tmp_path, function):
    def question(index, answer, last):
        return {
            "split": "val",
            "image_filename": "CLEVR_val_000000.png",
            "image_index": 0,
            "question": "Is it?",
            "program": [{function: "scene", "inputs": []}, {function: last, "inputs": [0]}],
            "answer": answer,
            "question_family_index": 2,
            "question_index": index,
        }

    questions = [
        question(0, "no", "exist"),
        question(1, 10, "count"),
        question(2, "metal", "query"),
    ]
    files = {"questions/CLEVR_val_questions.json": {"info": {}, "questions": questions}}
    found = list(rows(CLEVR, write(tmp_path, files), "val"))
    assert found[0] == {
        "id": "val/0",
        "media": [{"path": "images/val/CLEVR_val_000000.png"}],
        "query": "Is it?",
        "texts": ["no"],
        "cand": "@labels/clevr",
        "gold": 1,
        "tags": {"kind": "exist"},
    }
    labels = CLEVR.labels(tmp_path, "val")["clevr"]
    assert len({label.texts for label in labels}) == 28
    assert [labels[row["gold"]].texts for row in found] == [("no",), ("10",), ("metal",)]

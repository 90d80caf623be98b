import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.egoexo4d import ATOMIC_DESCRIPTIONS, KEYSTEPS

SEGMENT = {
    "segment_name_list": ["val/some_take_1/start1.5_end3.0_aria02_214-1.mp4"],
    "ego_segment_name": "val/some_take_1/start1.5_end3.0_aria02_214-1.mp4",
    "take_uid": "u-1",
    "take_name": "some_take_1",
    "start_time": 1.5,
    "end_time": 3.0,
    "step_unique_id": 843,
    "label_id": 1,
    "step_name": "Open box",
}
KEYSTEP_FILES = {
    "keystep_benchmark/label_mapping.csv": "label_id,step_unique_id,step_name,scenario_name\n"
    '0,1567,"Stir, then taste",cooking\n1,843,Open box,bike\n',
    "keystep_benchmark/keystep_segment_val.json": {"splits": "val", "segments": [SEGMENT]},
}


def test_keysteps(tmp_path):
    write(tmp_path, KEYSTEP_FILES)
    assert list(rows(KEYSTEPS, tmp_path, "val")) == [
        {
            "id": "val/some_take_1/start1.5_end3.0_aria02_214-1.mp4",
            # The clip is cut already: it has no span.
            "media": [
                {
                    "path": "keystep_benchmark/clips_448p/"
                    "val/some_take_1/start1.5_end3.0_aria02_214-1.mp4"
                }
            ],
            "cand": "@labels/egoexo4d_keysteps",
            "gold": 1,
            "tags": {"take": "some_take_1", "step": "843"},
        }
    ]
    assert KEYSTEPS.labels(tmp_path, "val")["egoexo4d_keysteps"] == (
        Label("0", ("Stir, then taste",)),
        Label("1", ("Open box",)),
    )


def test_a_label_that_is_not_mapped(tmp_path):
    segments = {"segments": [SEGMENT | {"label_id": 7}]}
    write(tmp_path, KEYSTEP_FILES | {"keystep_benchmark/keystep_segment_val.json": segments})
    with pytest.raises(AdapterError, match="has label 7, which is not in label_mapping.csv"):
        list(rows(KEYSTEPS, tmp_path, "val"))


def described(time, text):
    return {"text": text, "timestamp": time, "ego_visible": "1", "unsure": "0"}


ATOMIC_FILES = {
    "takes.json": [
        {"take_uid": "u-1", "take_name": "take_1", "parent_task_name": "Cooking"},
        {"take_uid": "u-2", "take_name": "take_2"},
    ],
    "annotations/atomic_descriptions_val.json": {
        "take_cam_id_map": {},
        "annotations": {
            "u-1": [
                {
                    "annotation_uid": "a",
                    "annotator_id": "7",
                    "rejected": False,
                    "descriptions": [
                        described(2.5, "C lifts a cup. "),
                        described(0.25, "C sits."),
                        described(1.0, " "),
                    ],
                },
                {
                    "annotation_uid": "b",
                    "annotator_id": "8",
                    "rejected": "1",
                    "descriptions": [described(1.0, "C does something else.")],
                },
            ],
            "u-2": [
                {
                    "annotation_uid": "c",
                    "annotator_id": "8",
                    "rejected": "0",
                    "descriptions": [described(1.0, "C waits.")],
                },
            ],
        },
    },
    "takes/take_2/frame_aligned_videos/downscaled/448/aria04_214-1.mp4": b"",
    "takes/take_2/frame_aligned_videos/downscaled/448/cam01.mp4": b"",
}


def test_atomic_descriptions(tmp_path):
    folder = "frame_aligned_videos/downscaled/448"
    assert list(rows(ATOMIC_DESCRIPTIONS, write(tmp_path, ATOMIC_FILES), "val")) == [
        {
            "id": "a",
            "media": [{"path": f"takes/take_1/{folder}/aria01_214-1.mp4"}],
            "texts": ["C sits.", "C lifts a cup."],
            "times": [0.25, 2.5],
            "tags": {"take": "take_1", "annotator": "7", "scenario": "Cooking"},
        },
        {
            "id": "c",
            "media": [{"path": f"takes/take_2/{folder}/aria04_214-1.mp4"}],
            "texts": ["C waits."],
            "times": [1.0],
            "tags": {"take": "take_2", "annotator": "8", "scenario": ""},
        },
    ]

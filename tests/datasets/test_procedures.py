import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.procedures import (
    COIN_NEXT_STEP,
    COIN_STEP,
    COIN_TASK,
    CROSSTASK_STEP,
    CROSSTASK_TASK,
)


def video(task, number, subset, steps):
    return {
        "duration": 90.5,
        "class": task,
        "video_url": "",
        "start": 4.25,
        "end": 80.5,
        "subset": subset,
        "recipe_type": number,
        "annotation": [
            {"id": str(step), "segment": [start, end], "label": text}
            for step, start, end, text in steps
        ],
    }


COIN_FILES = {
    "COIN.json": {
        "database": {
            "aa_a": video(
                "ReplaceSIMCard",
                5,
                "testing",
                [(30, 20.0, 31.0, "put in the card"), (12, 9.0, 15.0, "take out the shell")],
            ),
            "bbb": video("WashHair", 2, "training", [(40, 1.0, 2.0, "rinse")]),
            "ccc": video("MakeTea", 9, "validation", [(13, 5.0, 6.0, "Take out the shell ")]),
        }
    },
    "videos/aa_a.webm": b"",
}


@pytest.fixture
def coin(tmp_path):
    return write(tmp_path, COIN_FILES)


def test_coin_steps_in_order_of_time(coin):
    assert list(rows(COIN_STEP, coin, "testing")) == [
        {
            "id": "aa_a/0",
            "media": [{"path": "videos/aa_a.webm", "start": 9.0, "end": 15.0}],
            "cand": "@labels/coin_steps",
            "gold": 0,
            "tags": {"task": "replace SIM card", "step": "12"},
        },
        {
            "id": "aa_a/1",
            "media": [{"path": "videos/aa_a.webm", "start": 20.0, "end": 31.0}],
            "cand": "@labels/coin_steps",
            "gold": 1,
            "tags": {"task": "replace SIM card", "step": "30"},
        },
        # Another step, 13, in the same words: it has the same label.
        {
            "id": "ccc/0",
            "media": [{"path": "videos/ccc.mp4", "start": 5.0, "end": 6.0}],
            "cand": "@labels/coin_steps",
            "gold": 0,
            "tags": {"task": "make tea", "step": "13"},
        },
    ]


def test_coin_labels_are_those_of_all_videos_by_what_they_say(coin):
    assert COIN_STEP.labels(coin, "testing") == {
        "coin_steps": (
            Label("take out the shell", ("take out the shell",)),
            Label("put in the card", ("put in the card",)),
            Label("rinse", ("rinse",)),
        )
    }
    tasks = COIN_TASK.labels(coin, "testing")["coin_tasks"]
    assert [label.texts for label in tasks] == [
        ("wash hair",),
        ("replace SIM card",),
        ("make tea",),
    ]


def test_coin_tasks_show_the_region_of_interest(coin):
    assert list(rows(COIN_TASK, coin, "training")) == [
        {
            "id": "bbb",
            "media": [{"path": "videos/bbb.mp4", "start": 4.25, "end": 80.5}],
            "cand": "@labels/coin_tasks",
            "gold": 0,
        }
    ]
    assert [row["gold"] for row in rows(COIN_TASK, coin, "testing")] == [1, 2]


def test_coin_next_step_shows_a_step_and_asks_for_the_following(coin):
    (row,) = rows(COIN_NEXT_STEP, coin, "testing")
    assert row["media"] == [{"path": "videos/aa_a.webm", "start": 9.0, "end": 15.0}]
    assert row["gold"] == 1


CROSSTASK_FILES = {
    "crosstask_release/tasks_primary.txt": "23\nMake Jello Shots\nhttp://x\n3\n"
    "pour water,stir,pour alcohol\n\n105\nMake Tea\n\n2\npour water,add leaves\n\n",
    "crosstask_release/videos_val.csv": "105,-a_b,https://z\n",
    "crosstask_release/annotations/105_-a_b.csv": "2,9.5,12.0\n1,1.5,4.25\n",
    "crosstask_release/annotations/23_ccc.csv": "3,0.0,2.0\n",
    "crosstask_release/annotations/999_ddd.csv": "1,0.0,2.0\n",
}


def test_crosstask_steps_count_from_one(tmp_path):
    assert list(rows(CROSSTASK_STEP, write(tmp_path, CROSSTASK_FILES), "val")) == [
        {
            "id": "105_-a_b/0",
            "media": [{"path": "videos/-a_b.mp4", "start": 1.5, "end": 4.25}],
            "cand": "@labels/crosstask_steps",
            "gold": 0,
            "tags": {"task": "Make Tea", "step": "1"},
        },
        {
            "id": "105_-a_b/1",
            "media": [{"path": "videos/-a_b.mp4", "start": 9.5, "end": 12.0}],
            "cand": "@labels/crosstask_steps",
            "gold": 3,
            "tags": {"task": "Make Tea", "step": "2"},
        },
    ]


def test_crosstask_tasks(tmp_path):
    write(tmp_path, CROSSTASK_FILES)
    # Every annotated video of a primary task; 999 is none.
    assert list(rows(CROSSTASK_TASK, tmp_path, "all")) == [
        {
            "id": "105_-a_b",
            "media": [{"path": "videos/-a_b.mp4"}],
            "cand": "@labels/crosstask_tasks",
            "gold": 1,
        },
        {
            "id": "23_ccc",
            "media": [{"path": "videos/ccc.mp4"}],
            "cand": "@labels/crosstask_tasks",
            "gold": 0,
        },
    ]
    labels = CROSSTASK_TASK.labels(tmp_path, "all")["crosstask_tasks"]
    assert [label.texts for label in labels] == [("Make Jello Shots",), ("Make Tea",)]


def test_crosstask_with_a_step_too_many(tmp_path):
    tasks = CROSSTASK_FILES["crosstask_release/tasks_primary.txt"]
    tasks = tasks.replace("x\n3\n", "x\n2\n")
    write(tmp_path, CROSSTASK_FILES | {"crosstask_release/tasks_primary.txt": tasks})
    with pytest.raises(AdapterError, match="task 23 has 3 steps, not 2"):
        list(rows(CROSSTASK_STEP, tmp_path, "val"))

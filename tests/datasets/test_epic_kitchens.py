from tests.helpers.official_files import rows, write
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.epic_kitchens import ANTICIPATION, RECOGNITION

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
TRAINING = HEADER + (
    # The action put cup (1, 2) is said in two ways; the numbers of frames fit no time.
    "P01_01_0,P01,P01_01,00:00:01.00,00:00:01.00,00:00:02.00,9,9,put cup,put,1,cup,2,['cup'],[2]\n"
    "P01_01_1,P01,P01_01,00:00:02.00,00:00:02.00,00:00:03.00,9,9,lay down mug,put,1,cup,2,"
    "\"['mug', 'x']\",\"[2, 7]\"\n"
    "P01_01_2,P01,P01_01,00:00:03.00,00:00:03.00,00:00:04.00,9,9,take cup,take,0,cup,2,"
    "['cup'],[2]\n"
    "P01_01_3,P01,P01_01,00:00:04.00,00:00:04.00,00:00:05.00,9,9,put cup,put,1,cup,2,['cup'],[2]\n"
)
VALIDATION = HEADER + (
    "P02_03_0,P02,P02_03,00:00:03.000,00:00:03.50,01:01:05.25,1,2,put cup,put,1,cup,2,['cup'],[2]\n"
    # An action that training lacks, with numbers that would come first.
    "P02_03_1,P02,P02_03,00:01:00.000,00:01:00.10,00:01:02.00,1,2,take fork,take,0,fork,1,"
    "['fork'],[1]\n"
)
FILES = {"EPIC_100_train.csv": TRAINING, "EPIC_100_validation.csv": VALIDATION}


def test_recognition(tmp_path):
    write(tmp_path, FILES | {"P02/P02_03.MP4": b""})
    assert list(rows(RECOGNITION, tmp_path, "validation")) == [
        {
            "id": "P02_03_0",
            "media": [{"path": "P02/P02_03.MP4", "start": 3.5, "end": 3665.25}],
            "cand": "@labels/epic_kitchens_100",
            "gold": 1,
            "tags": {"verb": "1", "noun": "2", "narration": "put cup"},
        },
        {
            "id": "P02_03_1",
            "media": [{"path": "P02/P02_03.MP4", "start": 60.1, "end": 62.0}],
            "cand": "@labels/epic_kitchens_100",
            "gold": 2,
            "tags": {"verb": "0", "noun": "1", "narration": "take fork"},
        },
    ]
    (first, *_) = rows(RECOGNITION, tmp_path, "train")
    assert first["media"] == [{"path": "P01/videos/P01_01.MP4", "start": 1.0, "end": 2.0}]


def test_actions_of_training_come_first_in_both_label_sets(tmp_path):
    seen = (Label("0:2", ("take cup",)), Label("1:2", ("put cup", "lay down mug")))
    assert RECOGNITION.labels(write(tmp_path, FILES), "validation") == {
        "epic_kitchens_100": (*seen, Label("0:1", ("take fork",))),
        "epic_kitchens_100_training": seen,
    }


def test_what_anticipation_shows_ends_before_the_action_begins(tmp_path):
    found = list(rows(ANTICIPATION, write(tmp_path, FILES), "validation"))
    assert len(found) == 8
    assert found[0] == {
        "id": "P02_03_0/1",
        "media": [{"path": "P02/videos/P02_03.MP4", "start": -1.5, "end": 2.5}],
        "cand": "@labels/epic_kitchens_100",
        "gold": 1,
        "tags": {"verb": "1", "noun": "2", "narration": "put cup", "tau": "1"},
    }
    spans = [(row["media"][0]["start"], row["media"][0]["end"]) for row in found]
    # 3.5 s and 60.1 s, less 1, 2, 4, 10 s; four seconds each, also before the video begins.
    assert spans == [
        (-1.5, 2.5),
        (-2.5, 1.5),
        (-4.5, -0.5),
        (-10.5, -6.5),
        (55.1, 59.1),
        (54.1, 58.1),
        (52.1, 56.1),
        (46.1, 50.1),
    ]
    assert ANTICIPATION.splits[1].rows == 4 * RECOGNITION.splits[1].rows

import json
import os
import pickle

import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.video_texts import (
    ACTIVITYNET,
    DIDEMO,
    DREAM_1K,
    MSRVTT_1KA,
    MSVD,
    VATEX,
    VDC_1K,
    YOUCOOK2,
)


def test_msrvtt(tmp_path):
    files = {
        "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\n"
        'ret0,msr7010,video7010,"a man, a plan"\nret1,msr7011,video7011,a cat\n',
        "video7011.mp4": b"",
    }
    assert list(rows(MSRVTT_1KA, write(tmp_path, files), "test")) == [
        {
            "id": "ret0",
            "media": [{"path": "videos/all/video7010.mp4"}],
            "texts": ["a man, a plan"],
        },
        {"id": "ret1", "media": [{"path": "video7011.mp4"}], "texts": ["a cat"]},
    ]


def test_equal_captions_keep_rows_of_their_own(tmp_path):
    """Both videos are right for both; a tag "meaning" would leave one of them out."""
    table = "key,vid_key,video_id,sentence\nret0,m0,video0,a cat\nret1,m1,video1,a cat\n"
    found = list(rows(MSRVTT_1KA, write(tmp_path, {"msrvtt_test.csv": table}), "test"))
    assert [row["texts"] for row in found] == [["a cat"], ["a cat"]]
    assert not any("tags" in row for row in found)


def test_activitynet_joins_sentences(tmp_path):
    files = {
        "val_1.json": {
            "v_a-B": {
                "duration": 40.5,
                "timestamps": [[0.5, 9.0], [8.0, 40.5]],
                "sentences": ["A cook waves.", "  He leaves."],
            },
            "v_c": {"duration": 9.0, "timestamps": [[0, 9]], "sentences": ["He jumps."]},
        },
        "videos/c.mkv": b"",  # without v_, as CLIP4Clip has it
    }
    assert list(rows(ACTIVITYNET, write(tmp_path, files), "val_1")) == [
        {
            "id": "val_1/v_a-B",
            "media": [{"path": "videos/v_a-B.mp4"}],
            "texts": ["A cook waves. He leaves."],
        },
        {"id": "val_1/v_c", "media": [{"path": "videos/c.mkv"}], "texts": ["He jumps."]},
    ]


def moment(video, description, identity):
    return {
        "num_segments": 6,
        "description": description,
        "dl_link": "",
        "times": [[1, 1]],
        "video": video,
        "annotation_id": identity,
    }


DIDEMO_FILES = {
    "data/test_data.json": [
        moment("1@N0_2.m4v", "a ball is thrown. ", 1),
        moment("3@N0_4.", "a dog", 2),
        moment("1@N0_2.m4v", "it rolls.", 3),
    ],
    "data/test_list.txt": "3@N0_4.\n",
    "videos/3@N0_4.mp4": b"",
}


def test_didemo_joins_the_descriptions_of_a_video(tmp_path):
    write(tmp_path, DIDEMO_FILES)
    # A name that ends in a bare dot is that of a converted file, too.
    dot = {"media": [{"path": "videos/3@N0_4.mp4", "end": 30}], "texts": ["a dog"]}
    assert list(rows(DIDEMO, tmp_path, "test")) == [
        {
            "id": "test/1@N0_2.m4v",
            "media": [{"path": "videos/1@N0_2.m4v", "end": 30}],
            "texts": ["a ball is thrown. it rolls."],
        },
        {"id": "test/3@N0_4.", **dot},
    ]
    assert list(rows(DIDEMO, tmp_path, "test_1004")) == [{"id": "test_1004/3@N0_4.", **dot}]


def test_didemo_with_a_list_of_other_names(tmp_path):
    write(tmp_path, DIDEMO_FILES | {"data/test_list.txt": "1@N0_2\n3@N0_4.\n"})
    with pytest.raises(
        AdapterError, match="1 of 2 videos are not in test_data.json, the first is 1"
    ):
        list(rows(DIDEMO, tmp_path, "test_1004"))


def test_msvd_has_all_captions_in_one_row(tmp_path):
    captions = {"a_1_5": [["a", "cat"], [], ["it", "purrs"]], "b_2_9": [["a", "dog"]]}
    files = {
        "raw-captions.pkl": pickle.dumps(captions, protocol=2),
        "test_list.txt": "a_1_5\n",
        "YouTubeClips/a_1_5.avi": b"",
    }
    assert list(rows(MSVD, write(tmp_path, files), "test")) == [
        {
            "id": "a_1_5",
            "media": [{"path": "YouTubeClips/a_1_5.avi"}],
            "texts": ["a cat", "it purrs"],
        }
    ]


class CallsSomething:
    def __reduce__(self):
        return os.getpid, ()


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    files = {"raw-captions.pkl": pickle.dumps({"a": CallsSomething()}), "test_list.txt": "a\n"}
    with pytest.raises(AdapterError, match="it refers to posix.getpid"):
        list(rows(MSVD, write(tmp_path, files), "test"))


YOUCOOK2_OFFICIAL = {
    "database": {
        "abc": {
            "duration": 90.0,
            "subset": "validation",
            "recipe_type": "301",
            "annotations": [{"segment": [12, 20], "id": 0, "sentence": "grate a carrot"}],
        },
        "def": {
            "duration": 90.0,
            "subset": "training",
            "recipe_type": "101",
            "annotations": [{"segment": [1, 9], "id": 0, "sentence": "boil water"}],
        },
    }
}


def test_youcook2(tmp_path):
    table = "end,start,task,text,video_id\n20,12,301,grate a carrot ,abc\n20,12,301,again,abc\n"
    files = {
        "validation_youcook.csv": table,
        "youcookii_annotations_trainval.json": YOUCOOK2_OFFICIAL,
        "raw_videos/training/101/def.webm": b"",
        "validation/301/abc.mkv": b"",
    }
    write(tmp_path, files)
    clip = [{"path": "validation/301/abc.mkv", "start": 12.0, "end": 20.0}]
    tags = {"video": "abc", "task": "301"}
    assert list(rows(YOUCOOK2, tmp_path, "validation")) == [
        {"id": "validation/0", "media": clip, "texts": ["grate a carrot"], "tags": tags},
        {"id": "validation/1", "media": clip, "texts": ["again"], "tags": tags},
    ]
    assert list(rows(YOUCOOK2, tmp_path, "validation_all")) == [
        {"id": "validation_all/0", "media": clip, "texts": ["grate a carrot"], "tags": tags}
    ]
    assert list(rows(YOUCOOK2, tmp_path, "train")) == [
        {
            "id": "train/0",
            "media": [{"path": "raw_videos/training/101/def.webm", "start": 1.0, "end": 9.0}],
            "texts": ["boil water"],
            "tags": {"video": "def", "task": "101"},
        }
    ]


def test_dream1k(tmp_path):
    def part(kind, text=None, reference=None):
        return {"type": kind, "text": text, "reference": reference, "video": None}

    record = {
        "messages": [
            {"role": "user", "content": [part("video"), part("text", "Describe the video.")]},
            {"role": "assistant", "content": [part("text", "", "A man runs.")]},
        ],
        "dataset": "DREAM/movie_animation",
        "task": "video/caption",
        "idx": 7,
        "extra_info": {"duration": 5.0, "events": ["A man runs."]},
        "vid": 9,
    }
    root = write(tmp_path, {"DREAM-1k.jsonl": json.dumps(record) + "\n\n"})
    assert list(rows(DREAM_1K, root, "test")) == [
        {
            "id": "7",
            "media": [{"path": "video/9.mp4"}],
            "texts": ["A man runs."],
            "tags": {"subset": "movie_animation"},
        }
    ]


def test_vdc_in_both_forms(tmp_path):
    captions = {"main_object_caption": "a dog", "detailed_caption": "a dog on a lawn"}
    lines = [
        {"video_id": "x-1", "video_name": "x-1.webm", **captions},
        {"video_id": "y-2", "captions": captions},
    ]
    files = {"VDC_1k.jsonl": "\n".join(map(json.dumps, lines)), "videos/videos/x-1.webm": b""}
    assert list(rows(VDC_1K, write(tmp_path, files), "test")) == [
        {
            "id": "x-1",
            "media": [{"path": "videos/videos/x-1.webm"}],
            "texts": ["a dog on a lawn"],
        },
        {"id": "y-2", "media": [{"path": "videos/y-2.mp4"}], "texts": ["a dog on a lawn"]},
    ]


def test_vatex(tmp_path):
    record = {
        "videoID": "a-B_c_000012_000022",
        "enCap": ["A man runs.", " He runs "],
        "chCap": ["x"],
    }
    files = {"vatex_training_v1.0.json": [record], "videos/a-B_c_000012_000022.webm": b""}
    assert list(rows(VATEX, write(tmp_path, files), "train")) == [
        {
            "id": "train/a-B_c_000012_000022",
            "media": [{"path": "videos/a-B_c_000012_000022.webm"}],
            "texts": ["A man runs.", "He runs"],
        }
    ]

import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.action_clips import HMDB51, KINETICS_400, SSV2, UCF101
from vljepa_jax.datasets.adapter import AdapterError

SSV2_LABELS = {"Tearing something": "1", "Covering something with something": "0"}
SSV2_RECORDS = [
    {
        "id": "8",
        "label": "covering a cup with a lid",
        "template": "Covering [something] with [something]",
        "placeholders": ["a cup", "a lid"],
    },
    {"id": "9", "label": "tearing paper", "template": "Tearing [something]", "placeholders": []},
]


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        ("something-something-v2-labels.json", "something-something-v2-validation.json"),
        ("labels/labels.json", "labels/validation.json"),
    ],
)
def test_ssv2(tmp_path, labels, annotations):
    write(tmp_path, {labels: SSV2_LABELS, annotations: SSV2_RECORDS, "videos/9.webm": b""})
    assert list(rows(SSV2, tmp_path, "validation")) == [
        {
            "id": "8",
            "media": [{"path": "20bn-something-something-v2/8.webm"}],
            "cand": "@labels/ssv2",
            "gold": 0,
        },
        {"id": "9", "media": [{"path": "videos/9.webm"}], "cand": "@labels/ssv2", "gold": 1},
    ]
    assert SSV2.labels(tmp_path, "validation") == {
        "ssv2": (
            Label("Covering something with something", ("Covering something with something",)),
            Label("Tearing something", ("Tearing something",)),
        )
    }


def test_a_class_outside_the_vocabulary_is_named(tmp_path):
    files = {
        "something-something-v2-labels.json": {"Tearing something": "0"},
        "something-something-v2-validation.json": SSV2_RECORDS,
    }
    with pytest.raises(AdapterError, match="'Covering something with something', the class of 8"):
        list(rows(SSV2, write(tmp_path, files), "validation"))


KINETICS = """label,youtube_id,time_start,time_end,split
{label},--abcdefghi,20,30,val
air drumming,x_cdefghij,5,15,val
"""


def test_kinetics(tmp_path):
    files = {
        # Classes are those of training, here one more than of validation.
        "kinetics_train.csv": "label,youtube_id,time_start,time_end,split\n"
        "petting animal (not cat),a,0,10,train\nair drumming,b,0,10,train\n"
        "abseiling,c,0,10,train\n",
        "kinetics_val.csv": KINETICS.format(label="petting animal (not cat)"),
        "val/x_cdefghij_000005_000015.mp4": b"",
    }
    write(tmp_path, files)
    assert list(rows(KINETICS_400, tmp_path, "val")) == [
        {
            "id": "--abcdefghi_000020_000030",
            "media": [
                {"path": "videos_val/petting_animal_(not_cat)/--abcdefghi_000020_000030.mp4"}
            ],
            "cand": "@labels/kinetics_400",
            "gold": 2,
        },
        {
            "id": "x_cdefghij_000005_000015",
            "media": [{"path": "val/x_cdefghij_000005_000015.mp4"}],
            "cand": "@labels/kinetics_400",
            "gold": 1,
        },
    ]
    labels = KINETICS_400.labels(tmp_path, "val")["kinetics_400"]
    assert [label.texts for label in labels] == [
        ("abseiling",),
        ("air drumming",),
        ("petting animal (not cat)",),
    ]


def test_kinetics_with_labels_quoted_twice(tmp_path):
    quoted = KINETICS.format(label='"""massaging person\'s head"""')
    files = {"kinetics_train.csv": quoted, "kinetics_val.csv": quoted}
    first = next(rows(KINETICS_400, write(tmp_path, files), "val"))
    assert first["media"][0]["path"].startswith("videos_val/massaging_person's_head/")


def test_kinetics_without_its_header(tmp_path):
    files = {"kinetics_train.csv": "air drumming,b,0,10,train\n", "kinetics_val.csv": ""}
    with pytest.raises(AdapterError, match=r"kinetics_train.csv: begins with \['air drumming'"):
        list(rows(KINETICS_400, write(tmp_path, files), "val"))


def test_ucf101(tmp_path):
    files = {
        "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 TaiChi\r\n",
        "ucfTrainTestlist/testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c02.avi\r\n",
        "ucfTrainTestlist/trainlist01.txt": "TaiChi/v_TaiChi_g08_c01.avi 3\r\n",
    }
    write(tmp_path, files)
    # The class is the folder: the file is spelt otherwise.
    assert list(rows(UCF101, tmp_path, "test01")) == [
        {
            "id": "test01/v_HandStandPushups_g01_c02.avi",
            "media": [{"path": "UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi"}],
            "cand": "@labels/ucf101",
            "gold": 1,
            "tags": {"group": "g01"},
        }
    ]
    assert [row["gold"] for row in rows(UCF101, tmp_path, "train01")] == [2]
    labels = UCF101.labels(tmp_path, "test01")["ucf101"]
    assert [label.texts[0] for label in labels] == [
        "apply eye makeup",
        "handstand pushups",
        "tai chi",
    ]


def test_hmdb51(tmp_path):
    folder = "testTrainMulti_7030_splits"
    clip = "A_(x)_[1]_&_#20_wave_u_nm_np1_fr_bad_0.avi"
    files = {
        f"{folder}/wave_test_split1.txt": f"{clip} 2 \nb_wave_0.avi 1 \nc_wave_0.avi 0 \n",
        f"{folder}/wave_test_split2.txt": f"{clip} 1 \n",
        f"{folder}/brush_hair_test_split1.txt": "a_brush_hair_0.avi 2 \n",
    }
    write(tmp_path, files)
    assert list(rows(HMDB51, tmp_path, "test01")) == [
        {
            "id": "test01/brush_hair/a_brush_hair_0.avi",
            "media": [{"path": "hmdb51_org/brush_hair/a_brush_hair_0.avi"}],
            "cand": "@labels/hmdb51",
            "gold": 0,
        },
        {
            "id": f"test01/wave/{clip}",
            "media": [{"path": f"hmdb51_org/wave/{clip}"}],
            "cand": "@labels/hmdb51",
            "gold": 1,
        },
    ]
    assert [row["id"] for row in rows(HMDB51, tmp_path, "train01")] == ["train01/wave/b_wave_0.avi"]
    labels = HMDB51.labels(tmp_path, "test01")["hmdb51"]
    assert [label.texts for label in labels] == [("brush hair",), ("wave",)]

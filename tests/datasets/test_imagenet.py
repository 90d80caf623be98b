import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.imagenet import IMAGENET

FILES = {
    "LOC_synset_mapping.txt": "n01 tench, Tinca tinca\nn02 crane\nn03 crane\n",
    "classnames.txt": "tench\ncrane bird\nconstruction crane\n",
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    "ILSVRC2012_val_00000001,n03 85 1 499 272 n03 1 2 3 4 \n"
    "ILSVRC2012_val_00000002,n01 0 0 10 10 \n",
    "val/n01/ILSVRC2012_val_00000002.JPEG": b"",
}


def test_rows(tmp_path):
    assert list(rows(IMAGENET, write(tmp_path, FILES), "val")) == [
        {
            "id": "ILSVRC2012_val_00000001",
            "media": [{"path": "ILSVRC/Data/CLS-LOC/val/n03/ILSVRC2012_val_00000001.JPEG"}],
            "cand": "@labels/imagenet",
            "gold": 2,
            "tags": {"synset": "n03"},
        },
        {
            "id": "ILSVRC2012_val_00000002",
            "media": [{"path": "val/n01/ILSVRC2012_val_00000002.JPEG"}],
            "cand": "@labels/imagenet",
            "gold": 0,
            "tags": {"synset": "n01"},
        },
    ]


def test_synsets_of_one_word_have_names_of_their_own(tmp_path):
    assert IMAGENET.labels(write(tmp_path, FILES), "val")["imagenet"] == (
        Label("n01", ("tench",)),
        Label("n02", ("crane bird",)),
        Label("n03", ("construction crane",)),
    )


def test_too_few_names(tmp_path):
    with pytest.raises(AdapterError, match="has 1 names for 3 classes"):
        IMAGENET.labels(write(tmp_path, FILES | {"classnames.txt": "tench\n"}), "val")

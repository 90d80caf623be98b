"""Datasets that are called "@data/NAME"."""

import pytest

from vljepa_jax.config import ConfigError
from vljepa_jax.data.datasets import AbsentDatasetError, find_dataset, require_split
from vljepa_jax.data.records import Annotation, Record
from vljepa_jax.data.shards import DatasetError
from vljepa_jax.data.storage import write_dataset


def write_texts(directory):
    triplet = Annotation("a", "triplet", texts=("x", "y", "z"), inputs=())
    records = {"test": [Record("a", (), (triplet,))]}
    write_dataset(directory, records, name="visla", description="", labels={})


def test_a_name_lies_below_the_folder(tmp_path):
    write_texts(tmp_path / "visla")
    dataset = find_dataset("@data/visla", None, str(tmp_path))
    assert dataset.directory == str(tmp_path / "visla")
    require_split(dataset, "@data/visla", "test")
    with pytest.raises(AbsentDatasetError, match="'val': python launch/prepare.py --dataset=visla"):
        require_split(dataset, "@data/visla", "val")
    require_split(dataset, "some/where", "val")  # which says so itself


def test_what_is_not_there_says_how_to_make_it(tmp_path):
    command = f"python launch/prepare.py --dataset=gqa --root=... --output={tmp_path}/gqa makes it"
    with pytest.raises(AbsentDatasetError, match=f"there is no {tmp_path}/gqa: {command}"):
        find_dataset("@data/gqa", None, f"{tmp_path}/")
    with pytest.raises(ConfigError, match="'@data/gqa' is a dataset below config.data, which is"):
        find_dataset("@data/gqa", None)
    (tmp_path / "gqa").mkdir()  # broken is not absent
    with pytest.raises(DatasetError, match="holds no dataset") as caught:
        find_dataset("@data/gqa", None, str(tmp_path))
    assert not isinstance(caught.value, AbsentDatasetError)

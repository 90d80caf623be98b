import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.datasets.adapter import AdapterError
from vljepa_jax.datasets.text_triplets import SUGARCREPE_PP, VISLA

SUBSETS = ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


def test_sugarcrepe(tmp_path):
    def triplet(negative):
        return {
            "id": 0,
            "filename": "1.jpg",
            "caption": "A dog.",
            "caption2": "One dog.",
            "negative_caption": negative,
        }

    files = {f"data/{subset}.json": [triplet("A cat.")] for subset in SUBSETS}
    files["data/swap_obj.json"] = [triplet("A dog.")]  # equal to a positive, and kept
    found = list(rows(SUGARCREPE_PP, write(tmp_path, files), "test"))
    assert found[0] == {
        "id": "replace_att/0",
        "texts": ["A dog.", "One dog.", "A cat."],
        "tags": {"subset": "replace_att", "image": "1.jpg"},
    }
    assert [row["id"] for row in found] == [f"{subset}/0" for subset in SUBSETS]
    assert found[-1]["texts"] == ["A dog.", "One dog.", "A dog."]


GENERIC = (
    "filename\tcaption\tsecond positive\tnegative_caption\r\n"
    '1.jpg\tA shirt says "Go".\tA shirt with the word "Go".\t"Go" hides a shirt.\r\n'
)
SPATIAL = (
    "image\tsent1\tsent2\tBest reference (Semantically close)\t"
    "Reference-2 (Completely irrelevant)\r\n"
    "2.jpg\tA hat is on a box.\tThe box is below a hat.\t\t\r\n"
    "2.jpg\tA hat is on a box.\tThe box is below a hat.\tThe hat is in the box.\tA plane.\r\n"
)


def test_visla_keeps_quotes_and_leaves_out_triplets_without_a_negative(tmp_path):
    files = {"Generic_VISLA.tsv": GENERIC, "data/Spatial_VISLA.tsv": SPATIAL}
    assert list(rows(VISLA, write(tmp_path, files), "test")) == [
        {
            "id": "generic/1",
            "texts": ['A shirt says "Go".', 'A shirt with the word "Go".', '"Go" hides a shirt.'],
            "tags": {"subset": "generic", "image": "1.jpg"},
        },
        {
            "id": "spatial/2",
            "texts": ["A hat is on a box.", "The box is below a hat.", "The hat is in the box."],
            "tags": {"subset": "spatial", "image": "2.jpg"},
        },
    ]


def test_a_table_with_other_columns(tmp_path):
    generic = GENERIC.replace("second positive", "positive2")
    write(tmp_path, {"Generic_VISLA.tsv": generic, "Spatial_VISLA.tsv": SPATIAL})
    with pytest.raises(AdapterError, match="Generic_VISLA.tsv: has no column second positive"):
        list(rows(VISLA, tmp_path, "test"))


def test_a_line_with_a_column_too_few(tmp_path):
    write(
        tmp_path, {"Generic_VISLA.tsv": GENERIC + "3.jpg\tA dog.\r\n", "Spatial_VISLA.tsv": SPATIAL}
    )
    with pytest.raises(AdapterError, match="Generic_VISLA.tsv, line 3: has another number"):
        list(rows(VISLA, tmp_path, "test"))

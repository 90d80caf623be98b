from tests.helpers.official_files import rows, write
from vljepa_jax.datasets.image_captions import COCO_CAPTIONS


def test_coco_gathers_the_captions_of_an_image(tmp_path):
    document = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": 42, "file_name": "000000000042.jpg", "height": 480, "width": 640},
            {"id": 7, "file_name": "000000000007.jpg", "height": 480, "width": 640},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "A dog runs.\n"},
            {"id": 2, "image_id": 42, "caption": "A cat sleeps."},
            {"id": 3, "image_id": 7, "caption": " A running dog"},
        ],
    }
    files = {"annotations/captions_val2017.json": document, "images/000000000007.jpg": b""}
    assert list(rows(COCO_CAPTIONS, write(tmp_path, files), "val")) == [
        {
            "id": "val/42",
            "media": [{"path": "val2017/000000000042.jpg"}],
            "texts": ["A cat sleeps."],
        },
        {
            "id": "val/7",
            "media": [{"path": "images/000000000007.jpg"}],
            "texts": ["A dog runs.", "A running dog"],
        },
    ]

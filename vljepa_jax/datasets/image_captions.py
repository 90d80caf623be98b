"""Images with captions: COCO.

A row is an image with all that is said of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.datasets.adapter import Adapter, Official, OfficialFile, Split, manifest_row


def _coco(official: Official) -> Iterator[ManifestRow]:
    document = official.json("annotations")
    texts: dict[int, list[str]] = {image["id"]: [] for image in document["images"]}
    for record in document["annotations"]:
        texts[record["image_id"]].append(record["caption"].strip())
    for image in document["images"]:
        yield manifest_row(
            f"{official.split}/{image['id']}",
            media=[official.medium(image=image["file_name"])],
            texts=texts[image["id"]],
        )


COCO_CAPTIONS = Adapter(
    name="coco_captions",
    title="COCO Captions, 2017",
    citation="Chen et al., 2015 (arXiv 1504.00325)",
    licence="CC BY 4.0; images are their owners', on Flickr's terms",
    home="https://cocodataset.org",
    task="caption",
    files=tuple(
        OfficialFile(
            "annotations",
            (f"annotations/captions_{split}2017.json", f"captions_{split}2017.json"),
            "its home (annotations_trainval2017.zip)",
            (split,),
        )
        for split in ("train", "val")
    ),
    media=("{split}2017/{image}", "images/{split}2017/{image}", "images/{image}"),
    splits=(Split("train", 118_287, 118_287), Split("val", 5_000, 5_000)),
    known_from="others' code that reads it; the file was not seen",
    read=_coco,
    notes=("A row has all captions of an image, five or a few more; one is drawn each time.",),
)

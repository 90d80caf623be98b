"""ImageNet-1k, in the layout of ILSVRC's localisation challenge, whose lists are text."""

from __future__ import annotations

from collections.abc import Iterator

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import (
    Adapter,
    AdapterError,
    Official,
    OfficialFile,
    Split,
    manifest_row,
)


def _classes(official: Official) -> list[Label]:
    """A label a synset, in the order of the official file, which is that of the class numbers."""
    synsets = [line.split(maxsplit=1) for line in official.lines("synsets")]
    names = list(official.lines("names"))
    if len(names) != len(synsets):
        raise AdapterError(
            f"{official.path('names')}: has {len(names)} names for {len(synsets)} classes"
        )
    return [Label(synset, (name,)) for (synset, _), name in zip(synsets, names, strict=True)]


def _read(official: Official) -> Iterator[ManifestRow]:
    index = {label.id: place for place, label in enumerate(_classes(official))}
    for record in official.table("annotations", ("ImageId", "PredictionString")):
        # Synset and box of each object; all of an image are of one class.
        image, synset = record["ImageId"], record["PredictionString"].split()[0]
        fields = {"image": image, "synset": synset}
        media = [official.medium(**fields)]
        tags = {"synset": synset}
        yield manifest_row(image, media=media, labels="imagenet", gold=index[synset], tags=tags)


IMAGENET = Adapter(
    name="imagenet",
    title="ImageNet-1k",
    citation="Russakovsky et al., IJCV 2015 (arXiv 1409.0575)",
    licence="image-net.org's, for non-commercial research",
    home="https://www.image-net.org",
    task="classification",
    files=(
        OfficialFile("synsets", ("LOC_synset_mapping.txt",), "ILSVRC's localisation challenge"),
        OfficialFile(
            "names",
            ("classnames.txt",),
            "OpenCLIP's zero_shot_metadata.py (IMAGENET_CLASSNAMES), one a line, in that order",
        ),
        OfficialFile(
            "annotations",
            ("LOC_train_solution.csv",),
            "ILSVRC's localisation challenge",
            ("train",),
        ),
        OfficialFile(
            "annotations",
            ("LOC_val_solution.csv",),
            "ILSVRC's localisation challenge",
            ("val",),
        ),
    ),
    media=(
        "ILSVRC/Data/CLS-LOC/{split}/{synset}/{image}.JPEG",
        "ILSVRC/Data/CLS-LOC/{split}/{image}.JPEG",
        "{split}/{synset}/{image}.JPEG",
        "{split}/{image}.JPEG",
    ),
    splits=(Split("train", 1_281_167, 1_281_167), Split("val", 50_000, 50_000)),
    known_from="others' code that reads them; the files were not seen",
    read=_read,
    read_labels=lambda official: {"imagenet": _classes(official)},
    label_counts={"imagenet": 1_000},
    notes=(
        "WordNet's words do not tell all classes apart: two synsets are 'crane' and no more. Zero-"
        "shot results are for the 1,000 names that CLIP chose, so these are asked for.",
        "One name a class; templates and ensembles belong to the benchmark.",
    ),
)

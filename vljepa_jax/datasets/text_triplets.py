"""Triplets of texts: two that say the same and a third that does not. SugarCrepe++ and VISLA.

They measure a text encoder alone: rows have no media; the image is a tag.
"""

from __future__ import annotations

from collections.abc import Iterator

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.datasets.adapter import Adapter, Official, OfficialFile, Split, manifest_row

_SUGARCREPE_SUBSETS = ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


def _sugarcrepe(official: Official) -> Iterator[ManifestRow]:
    for subset in _SUGARCREPE_SUBSETS:
        for record in official.json(subset):
            yield manifest_row(
                f"{subset}/{record['id']}",
                texts=[record[name] for name in ("caption", "caption2", "negative_caption")],
                tags={"subset": subset, "image": record["filename"]},
            )


SUGARCREPE_PP = Adapter(
    name="sugarcrepe_pp",
    title="SugarCrepe++",
    citation="Dumpala et al., NeurIPS 2024 (arXiv 2406.11171)",
    licence="MIT",
    home="https://github.com/Sri-Harsha/scpp",
    task="triplet",
    files=tuple(
        OfficialFile(subset, (f"{subset}.json", f"data/{subset}.json"), "its home (data)")
        for subset in _SUGARCREPE_SUBSETS
    ),
    media=(),
    splits=(Split("test", 4_757, 0),),
    known_from="the files themselves, whole",
    read=_sugarcrepe,
    notes=(
        "788, 1,652, 1,406, 666 and 245 triplets (tags.subset). The paper's averages are those of"
        " the subsets, not of the triplets.",
        "Two triplets of swap_obj have a negative that is one of their positives: no model can get"
        " them right under the strict rule.",
    ),
)

# The file of each subset: two positives and the negative.
_VISLA = {
    "generic": ("caption", "second positive", "negative_caption"),
    "spatial": ("sent1", "sent2", "Best reference (Semantically close)"),
}
_VISLA_IMAGE = {"generic": "filename", "spatial": "image"}


def _visla(official: Official) -> Iterator[ManifestRow]:
    for subset, columns in _VISLA.items():
        image = _VISLA_IMAGE[subset]
        # Quotes are part of captions here.
        rows = official.table(subset, (image, *columns), delimiter="\t", quoted=False)
        for number, row in enumerate(rows, 1):
            texts = [row[column].strip() for column in columns]
            if all(texts):
                tags = {"subset": subset, "image": row[image]}
                yield manifest_row(f"{subset}/{number}", texts=texts, tags=tags)


VISLA = Adapter(
    name="visla",
    title="VISLA",
    citation="Dumpala et al., 2024 (arXiv 2404.16365)",
    licence="none stated",
    home="https://github.com/Sri-Harsha/visla_benchmark",
    task="triplet",
    files=tuple(
        OfficialFile(
            subset,
            (f"{subset.title()}_VISLA.tsv", f"data/{subset.title()}_VISLA.tsv"),
            "its home (data)",
        )
        for subset in _VISLA
    ),
    media=(),
    splits=(Split("test", 1_613, 0),),
    known_from="the files themselves, whole",
    read=_visla,
    notes=(
        "973 generic and 652 spatial triplets (tags.subset); 12 of the spatial ones have no"
        " negative and are left out, which leaves 640.",
        "The spatial negative is the column 'Best reference (Semantically close)': a reading of"
        " ours. Two of these equal a positive: no model can get them right under the strict rule.",
    ),
)

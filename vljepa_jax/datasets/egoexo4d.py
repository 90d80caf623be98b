"""Ego-Exo4D: keysteps of trimmed clips, and atomic descriptions of whole takes."""

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

_CITATION = "Grauman et al., CVPR 2024 (arXiv 2311.18259)"
_LICENCE = "Ego-Exo4D License Agreement"
_HOME = "https://docs.ego-exo4d-data.org"
_LABELS = "egoexo4d_keysteps"


def _classes(official: Official) -> list[Label]:
    rows = official.table("labels", ("label_id", "step_name"))
    return [Label(row["label_id"], (row["step_name"],)) for row in rows]


def _keysteps(official: Official) -> Iterator[ManifestRow]:
    index = {label.id: place for place, label in enumerate(_classes(official))}
    for segment in official.json("segments")["segments"]:
        name, label = segment["ego_segment_name"], str(segment["label_id"])
        if label not in index:
            raise AdapterError(
                f"{official.path('segments')}: {name} has label {label}, which is not in"
                f" {official.path('labels').name}"
            )
        # The clip is cut already: its times are those of the take.
        yield manifest_row(
            name,
            media=[official.medium(clip=name)],
            labels=_LABELS,
            gold=index[label],
            tags={"take": segment["take_name"], "step": segment["step_unique_id"]},
        )


KEYSTEPS = Adapter(
    name="egoexo4d_keysteps",
    title="Ego-Exo4D, keystep recognition",
    citation=_CITATION,
    licence=_LICENCE,
    home=_HOME,
    task="classification",
    files=(
        OfficialFile(
            "labels",
            (
                "annotations/keystep_benchmark/label_mapping.csv",
                "keystep_benchmark/label_mapping.csv",
            ),
            "egoexo --parts annotations",
        ),
        *(
            OfficialFile(
                "segments",
                (
                    f"annotations/keystep_benchmark/keystep_segment_{split}.json",
                    f"keystep_benchmark/keystep_segment_{split}.json",
                ),
                "egoexo --parts annotations",
                (split,),
            )
            for split in ("train", "val")
        ),
    ),
    media=("keystep_benchmark/clips_448p/{clip}", "clips_448p/{clip}"),
    splits=(Split("train"), Split("val")),
    known_from="records in its documentation; the file itself was not seen",
    read=_keysteps,
    read_labels=lambda official: {_LABELS: _classes(official)},
    label_counts={_LABELS: 278},
    notes=(
        "What is shown is the egocentric clip alone, as the benchmark has it.",
        "How many segments there are was not found.",
    ),
)


def _atomic(official: Official) -> Iterator[ManifestRow]:
    takes = {take["take_uid"]: take for take in official.json("takes")}
    for uid, passes in official.json("descriptions")["annotations"].items():
        if uid not in takes:
            raise AdapterError(f"{official.path('takes')}: has no take {uid}")
        take = takes[uid]
        for annotation in passes:
            if _true(annotation["rejected"]):
                continue
            described = sorted(
                (float(description["timestamp"]), description["text"].strip())
                for description in annotation["descriptions"]
                if description["text"].strip()
            )
            if not described:
                continue
            yield manifest_row(
                annotation["annotation_uid"],
                media=[official.medium(take=take["take_name"])],
                texts=[text for _, text in described],
                times=[time for time, _ in described],
                tags={
                    "take": take["take_name"],
                    "annotator": annotation["annotator_id"],
                    "scenario": take.get("parent_task_name", ""),
                },
            )


def _true(flag: bool | str | None) -> bool:
    """Flags are true and false, or "1" and "0"."""
    return flag in (True, "1", "true", "True")


ATOMIC_DESCRIPTIONS = Adapter(
    name="egoexo4d_atomic_descriptions",
    title="Ego-Exo4D, atomic action descriptions",
    citation=_CITATION,
    licence=_LICENCE,
    home=_HOME,
    task="stream",
    files=(
        OfficialFile("takes", ("takes.json",), "egoexo --parts metadata"),
        *(
            OfficialFile(
                "descriptions",
                (f"annotations/atomic_descriptions_{split}.json",),
                "egoexo --parts annotations",
                (split,),
            )
            for split in ("train", "val")
        ),
    ),
    media=(
        "takes/{take}/frame_aligned_videos/downscaled/448/aria01_214-1.mp4",
        "takes/{take}/frame_aligned_videos/downscaled/448/*_214-1.mp4",
        "takes/{take}/frame_aligned_videos/*_214-1.mp4",
    ),
    splits=(Split("train"), Split("val")),
    known_from="records in its documentation; the file itself was not seen",
    read=_atomic,
    notes=(
        "One row an annotation that is not rejected: a take has several annotators, each of whom"
        " describes it from start to finish.",
        "Flags are true and false in some files and 1 and 0, as text, in others.",
        "The paper's 218 procedural takes are in no public list: tags.scenario and tags.take"
        " select.",
        "The egocentric camera is the file that ends in _214-1.mp4, with the name of the glasses"
        " before it.",
    ),
)

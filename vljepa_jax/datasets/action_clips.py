"""Sets of short clips with one action each: Something-Something v2, Kinetics-400, UCF101, HMDB51.

A row is a whole file and its class among all classes of the dataset.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import (
    Adapter,
    AdapterError,
    Official,
    OfficialFile,
    Split,
    camel_words,
    manifest_row,
)

# (id of the row, class, fields of the media patterns, tags)
Clip = tuple[str, str, Mapping[str, str | int], Mapping[str, object]]


def _class_rows(
    official: Official,
    read_clips: Callable[[Official], Iterator[Clip]],
    read_classes: Callable[[Official], Sequence[Label]],
) -> Iterator[ManifestRow]:
    """A row a clip; ``read_classes`` gives the vocabulary, whose ids are the classes."""
    (name,) = official.adapter.label_counts
    index = {label.id: place for place, label in enumerate(read_classes(official))}
    for clip, label, fields, tags in read_clips(official):
        if label not in index:
            raise AdapterError(
                f"{official.adapter.name}, split '{official.split}': '{label}', the class of"
                f" {clip}, is none of the {len(index)} classes"
            )
        media = [official.medium(**fields)]
        yield manifest_row(clip, media=media, labels=name, gold=index[label], tags=tags)


def _ssv2_classes(official: Official) -> list[Label]:
    names = official.json("labels")
    return [Label(name, (name,)) for name in sorted(names, key=lambda name: int(names[name]))]


def _ssv2_clips(official: Official) -> Iterator[Clip]:
    for record in official.json("annotations"):
        # A class is the template without the brackets of its places.
        label = record["template"].replace("[", "").replace("]", "")
        yield record["id"], label, {"id": record["id"]}, {}


SSV2 = Adapter(
    name="ssv2",
    title="Something-Something v2",
    citation="Goyal et al., ICCV 2017 (arXiv 1706.04261)",
    licence="Qualcomm's, for research",
    home="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
    task="classification",
    files=(
        OfficialFile(
            "labels",
            ("something-something-v2-labels.json", "labels/labels.json"),
            "its download page",
        ),
        OfficialFile(
            "annotations",
            ("something-something-v2-train.json", "labels/train.json"),
            "its download page",
            ("train",),
        ),
        OfficialFile(
            "annotations",
            ("something-something-v2-validation.json", "labels/validation.json"),
            "its download page",
            ("validation",),
        ),
    ),
    media=("20bn-something-something-v2/{id}.webm", "videos/{id}.webm", "{id}.webm"),
    splits=(Split("train", 168_913, 168_913), Split("validation", 24_777, 24_777)),
    known_from="records that others show, and their code that reads it; the file was not seen",
    read=functools.partial(_class_rows, read_clips=_ssv2_clips, read_classes=_ssv2_classes),
    read_labels=lambda official: {"ssv2": _ssv2_classes(official)},
    label_counts={"ssv2": 174},
    notes=(
        "The class is the template without brackets; the field label has words in its places.",
        "Class numbers are text in the official file. The test split is published unlabelled.",
        "No public recipe says the text of the classes; here it is the class itself.",
    ),
)


def _kinetics_clips(official: Official, role: str = "annotations") -> Iterator[Clip]:
    with open(official.path(role), encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header[:1] != ["label"]:
            raise AdapterError(f"{official.path(role)}: begins with {header}, not with 'label,...'")
        for number, row in enumerate(rows, 2):
            if len(row) < 4:
                raise AdapterError(f"{official.path(role)}, line {number}: has {len(row)} columns")
            label, video = row[0].replace('"', "").strip(), row[1]
            start, end = (int(float(seconds)) for seconds in row[2:4])
            fields = {"label": label, "label_": label.replace(" ", "_"), "video": video}
            clip = f"{video}_{start:06d}_{end:06d}"
            yield clip, label, fields | {"clip": clip}, {}


def _kinetics_classes(official: Official) -> list[Label]:
    labels = {label for _, label, _, _ in _kinetics_clips(official, "vocabulary")}
    return [Label(label, (label,)) for label in sorted(labels)]


_KINETICS_TRAIN = ("annotations/kinetics_train.csv", "annotations/train.csv", "kinetics_train.csv")
_KINETICS_VAL = ("annotations/kinetics_val.csv", "annotations/val.csv", "kinetics_val.csv")

KINETICS_400 = Adapter(
    name="kinetics_400",
    title="Kinetics-400",
    citation="Kay et al., 2017 (arXiv 1705.06950)",
    licence="CC BY 4.0; videos are their owners'",
    home="https://github.com/cvdfoundation/kinetics-dataset",
    task="classification",
    files=(
        OfficialFile("vocabulary", _KINETICS_TRAIN, "its home; the classes are those of training"),
        OfficialFile("annotations", _KINETICS_TRAIN, "its home", ("train",)),
        OfficialFile("annotations", _KINETICS_VAL, "its home", ("val",)),
    ),
    media=(
        "videos_{split}/{label_}/{clip}.mp4",
        "{split}/{clip}.mp4",
        "{split}/{label}/{clip}.mp4",
    ),
    splits=(Split("train"), Split("val", 19_796, 19_796)),
    known_from="others' code that reads it, and their list of classes; the file was not seen",
    read=functools.partial(_class_rows, read_clips=_kinetics_clips, read_classes=_kinetics_classes),
    read_labels=lambda official: {"kinetics_400": _kinetics_classes(official)},
    label_counts={"kinetics_400": 400},
    notes=(
        "Videos vanish: copies differ in number. 19,796 is what MMAction2's copy of the validation"
        " videos holds; the original list has about 20,000.",
        "Columns count by their place: label, video, start, end. Some copies quote labels twice.",
        "Classes are the sorted labels of training, never those of the split alone.",
    ),
)


def _ucf101_classes(official: Official) -> list[Label]:
    names = [line.split(maxsplit=1)[1] for line in official.lines("classes")]
    return [Label(name, (camel_words(name),)) for name in names]


def _ucf101_clips(official: Official) -> Iterator[Clip]:
    for line in official.lines("annotations"):
        path = line.split()[0]  # lists of training have the number of the class, too
        label, file = path.split("/")
        group = file.split("_")[2]
        yield f"{official.split}/{file}", label, {"path": path}, {"group": group}


_UCF101_COUNTS = {"train": (9_537, 9_586, 9_624), "test": (3_783, 3_734, 3_696)}

UCF101 = Adapter(
    name="ucf101",
    title="UCF101",
    citation="Soomro et al., 2012 (arXiv 1212.0402)",
    licence="none stated",
    home="https://www.crcv.ucf.edu/data/UCF101.php",
    task="classification",
    files=(
        OfficialFile("classes", ("ucfTrainTestlist/classInd.txt", "classInd.txt"), "its home"),
        *(
            OfficialFile(
                "annotations",
                (f"ucfTrainTestlist/{kind}list0{fold}.txt", f"{kind}list0{fold}.txt"),
                "its home",
                (f"{kind}0{fold}",),
            )
            for kind in ("train", "test")
            for fold in (1, 2, 3)
        ),
    ),
    media=("UCF-101/{path}", "{path}", "videos/{path}"),
    splits=tuple(
        Split(f"{kind}0{fold}", count, count)
        for kind, counts in _UCF101_COUNTS.items()
        for fold, count in enumerate(counts, 1)
    ),
    known_from="lists that others show, and a list of its classes; the files were not seen",
    read=functools.partial(_class_rows, read_clips=_ucf101_clips, read_classes=_ucf101_classes),
    read_labels=lambda official: {"ucf101": _ucf101_classes(official)},
    label_counts={"ucf101": 101},
    notes=(
        "Three folds, each with a training and a test list; a clip is in a test list once.",
        "The class is the folder: clips of HandstandPushups are called v_HandStandPushups_....",
        "The text of a class is its name in words: ApplyEyeMakeup, apply eye makeup.",
    ),
)


def _hmdb51_classes(official: Official) -> list[Label]:
    suffix = f"_test_split{official.split[-1]}.txt"
    files = official.path("annotations").glob(f"*{suffix}")
    names = sorted(file.name.removesuffix(suffix) for file in files)
    return [Label(name, (name.replace("_", " "),)) for name in names]


def _hmdb51_clips(official: Official) -> Iterator[Clip]:
    wanted = {"train": "1", "test": "2"}[official.split[:-2]]
    for label in _hmdb51_classes(official):
        name = f"{label.id}_test_split{official.split[-1]}.txt"
        lines = (official.path("annotations") / name).read_text(encoding="utf-8").splitlines()
        for line in filter(str.strip, lines):
            file, part = line.split()
            if part == wanted:
                yield (
                    f"{official.split}/{label.id}/{file}",
                    label.id,
                    {"label": label.id, "file": file},
                    {},
                )


HMDB51 = Adapter(
    name="hmdb51",
    title="HMDB51",
    citation="Kuehne et al., ICCV 2011",
    licence="CC BY 4.0",
    home="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
    task="classification",
    files=(
        OfficialFile(
            "annotations",
            (
                "testTrainMulti_7030_splits",
                "test_train_splits/testTrainMulti_7030_splits",
                "splits",
            ),
            "its home (test_train_splits.rar)",
        ),
    ),
    media=("hmdb51_org/{label}/{file}", "videos/{label}/{file}", "{label}/{file}"),
    splits=tuple(
        Split(f"{kind}0{fold}", count, count)
        for kind, count in (("train", 3_570), ("test", 1_530))
        for fold in (1, 2, 3)
    ),
    known_from="lists that others show; the files were not seen",
    read=functools.partial(_class_rows, read_clips=_hmdb51_clips, read_classes=_hmdb51_classes),
    read_labels=lambda official: {"hmdb51": _hmdb51_classes(official)},
    label_counts={"hmdb51": 51},
    notes=(
        "A file a class and fold: NAME 1 is training, 2 is test, 0 is neither.",
        "The text of a class is its name in words: brush_hair, brush hair.",
    ),
)

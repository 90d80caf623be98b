"""Questions about images with one correct answer: GQA, VQA v2, TallyQA, POPE, POPEv2, CLEVR.

A row is an image, a question, and the answer's place among all answers. An answer that is none of
them has no place, and counts as wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vljepa_jax.data.manifest_row import ManifestRow, MediaEntry
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import (
    Adapter,
    AdapterError,
    Official,
    OfficialFile,
    Split,
    manifest_row,
)

_YES_NO = ("yes", "no")


def _question_row(
    identity: str,
    image: MediaEntry,
    question: str,
    answer: str,
    answers: Mapping[str, int],
    labels: str | Sequence[str],
    tags: Mapping[str, object],
) -> ManifestRow:
    return manifest_row(
        identity,
        media=[image],
        query=question,
        texts=[answer],
        labels=labels,
        gold=answers.get(answer),
        tags=tags,
    )


def _places(texts: Sequence[str]) -> dict[str, int]:
    return {text: place for place, text in enumerate(texts)}


def _labels(texts: Sequence[str]) -> list[Label]:
    return [Label(text, (text,)) for text in texts]


def _gqa(official: Official) -> Iterator[ManifestRow]:
    answers = _places(official.json("answers"))
    for identity, record in official.json("questions").items():
        yield _question_row(
            f"{official.split}/{identity}",
            official.medium(image=record["imageId"]),
            record["question"],
            record["answer"],
            answers,
            "gqa",
            {name: record["types"][name] for name in ("structural", "semantic")},
        )


GQA = Adapter(
    name="gqa",
    title="GQA, balanced",
    citation="Hudson and Manning, CVPR 2019 (arXiv 1902.09506)",
    licence="CC BY 4.0",
    home="https://cs.stanford.edu/people/dorarad/gqa",
    task="vqa",
    files=(
        OfficialFile(
            "answers",
            ("trainval_label2ans.json",),
            "LXMERT: the answers of training and validation",
        ),
        *(
            OfficialFile(
                "questions",
                (
                    f"{split}_balanced_questions.json",
                    f"questions1.2/{split}_balanced_questions.json",
                ),
                "its home",
                (split,),
            )
            for split in ("train", "testdev", "val")
        ),
    ),
    media=("images/{image}.jpg", "allImages/images/{image}.jpg"),
    splits=(
        Split("train", 943_000, 72_140),
        Split("testdev", 12_578, 398),
        Split("val", 132_062, 10_234),
    ),
    known_from="the list of answers, whole; the questions from records that others show",
    read=_gqa,
    read_labels=lambda official: {"gqa": _labels(official.json("answers"))},
    label_counts={"gqa": 1_842},
    notes=(
        "Candidates are the 1,842 answers of training and validation, LXMERT's list: the paper does"
        " not say its own.",
        "Right is the exact string. A question whose answer is not in the list has no gold.",
        "Each split needs its own file of questions alone: --splits=testdev does without the"
        " others.",
    ),
)


def _vqa_v2(official: Official) -> Iterator[ManifestRow]:
    answers = _places(official.json("answers"))
    asked = {record["question_id"]: record for record in official.json("questions")["questions"]}
    for record in official.json("annotations")["annotations"]:
        question = asked[record["question_id"]]
        yield _question_row(
            str(record["question_id"]),
            official.medium(image=int(question["image_id"])),
            question["question"],
            record["multiple_choice_answer"],
            answers,
            "vqa_v2",
            {"kind": record["answer_type"]},
        )


VQA_V2 = Adapter(
    name="vqa_v2",
    title="VQA v2, for training",
    citation="Goyal et al., CVPR 2017 (arXiv 1612.00837)",
    licence="CC BY 4.0; images on Flickr's terms",
    home="https://visualqa.org/download.html",
    task="vqa",
    files=(
        OfficialFile(
            "answers",
            ("trainval_label2ans.json",),
            "LXMERT: the answers of training and validation (data/vqa)",
        ),
        OfficialFile(
            "questions", ("v2_OpenEnded_mscoco_train2014_questions.json",), "its home", ("train",)
        ),
        OfficialFile(
            "annotations", ("v2_mscoco_train2014_annotations.json",), "its home", ("train",)
        ),
    ),
    media=(
        "train2014/COCO_train2014_{image:012d}.jpg",
        "images/COCO_train2014_{image:012d}.jpg",
        "COCO_train2014_{image:012d}.jpg",
    ),
    splits=(Split("train", 443_757, 82_783),),
    known_from="its description of the format; the files were not seen",
    read=_vqa_v2,
    read_labels=lambda official: {"vqa_v2": _labels(official.json("answers"))},
    label_counts={"vqa_v2": 3_129},
    notes=(
        "The target is the answer that most of ten people gave (multiple_choice_answer). The"
        " official score counts the others too, and is not computed here: there is no test split.",
        "Candidates are the 3,129 answers that LXMERT trains on. A question whose answer is not in"
        " the list has no gold.",
    ),
)

_COUNTS = tuple(str(number) for number in range(16))


def _tallyqa(official: Official) -> Iterator[ManifestRow]:
    answers = _places(_COUNTS)
    for record in official.json("questions"):
        tags = {"source": record["data_source"]}
        if official.split == "test":
            tags["subset"] = "simple" if record["issimple"] else "complex"
        yield _question_row(
            f"{official.split}/{record['question_id']}",
            official.medium(image=record["image"]),
            record["question"],
            str(record["answer"]),
            answers,
            "tallyqa",
            tags,
        )


TALLYQA = Adapter(
    name="tallyqa",
    title="TallyQA",
    citation="Acharya et al., AAAI 2019 (arXiv 1810.12440)",
    licence="Apache-2.0",
    home="https://github.com/manoja328/TallyQA_dataset",
    task="vqa",
    files=tuple(
        OfficialFile("questions", (f"{split}.json",), "its home (tallyqa.zip)", (split,))
        for split in ("train", "test")
    ),
    media=("{image}", "images/{image}", "visual_genome/{image}", "coco/{image}"),
    splits=(Split("train", 249_318), Split("test", 38_589)),
    known_from="a record in its description; the file itself was not seen",
    read=_tallyqa,
    read_labels=lambda official: {"tallyqa": _labels(_COUNTS)},
    label_counts={"tallyqa": len(_COUNTS)},
    notes=(
        "tags.subset is simple (22,991 of the test) or complex (15,598); only the test says.",
        "Images are of Visual Genome (VG_100K, VG_100K_2) and of COCO, by the first folder.",
        "Candidates are the counts 0 to 15. HowMany-QA is its predecessor: ids of VQA 2.0 and of"
        " Visual Genome alone, which are not read.",
    ),
)

_POPE_SUBSETS = ("random", "popular", "adversarial")


def _pope(official: Official) -> Iterator[ManifestRow]:
    for subset in _POPE_SUBSETS:
        for record in official.json_lines(subset):
            yield _question_row(
                f"{subset}/{record['question_id']}",
                official.medium(image=record["image"]),
                record["text"],
                _yes_or_no(record["label"]),
                _places(_YES_NO),
                _YES_NO,
                {"subset": subset},
            )


def _yes_or_no(answer: str) -> str:
    if answer.strip().lower() not in _YES_NO:
        raise ValueError(f"the answer '{answer}' is neither yes nor no")
    return answer.strip().lower()


POPE = Adapter(
    name="pope",
    title="POPE, COCO",
    citation="Li et al., EMNLP 2023 (arXiv 2305.10355)",
    licence="MIT",
    home="https://github.com/RUCAIBox/POPE",
    task="vqa",
    files=tuple(
        OfficialFile(
            subset,
            (
                f"coco_pope_{subset}.json",
                f"output/coco/coco_pope_{subset}.json",
                f"coco/coco_pope_{subset}.json",
            ),
            "its home (output/coco)",
        )
        for subset in _POPE_SUBSETS
    ),
    media=("val2014/{image}", "images/{image}", "{image}"),
    splits=(Split("test", 9_000, 500),),
    known_from="the files themselves, whole",
    read=_pope,
    notes=(
        "Three subsets of 3,000 questions on the same 500 images of COCO, half of them yes"
        " (tags.subset); the files are JSON lines despite their names.",
        "LLaVA's older copy has 2,910 random ones.",
    ),
)

_VIEWS = ("normal", "counterfactual")


def _popev2(official: Official) -> Iterator[ManifestRow]:
    columns = ["example_id", "image_id", "target_object", "question"]
    for record in _parquet(official, columns + [f"{view}_label" for view in _VIEWS]):
        for view in _VIEWS:
            yield _question_row(
                f"{record['example_id']}/{view}",
                _popev2_image(official, view, record),
                record["question"],
                _yes_or_no(record[f"{view}_label"]),
                _places(_YES_NO),
                _YES_NO,
                {"pair": record["example_id"], "view": view, "object": record["target_object"]},
            )


def _popev2_images(official: Official) -> Iterator[tuple[str, bytes]]:
    for record in _parquet(official, ["image_id", *(f"{view}_image" for view in _VIEWS)]):
        for view in _VIEWS:
            yield _popev2_image(official, view, record).path, record[f"{view}_image"]["bytes"]


def _popev2_image(official: Official, view: str, record: Mapping[str, Any]) -> MediaEntry:
    folder = {"normal": "normal_images", "counterfactual": "images"}[view]
    return official.medium(folder=folder, image=int(record["image_id"]))


def _parquet(official: Official, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise AdapterError(
            f"{official.path('questions')}: Parquet needs pip install 'vljepa_jax[parquet]'"
        ) from error
    file = parquet.ParquetFile(official.path("questions"))
    if missing := [column for column in columns if column not in file.schema_arrow.names]:
        raise AdapterError(f"{official.path('questions')}: has no column {', '.join(missing)}")
    for batch in file.iter_batches(batch_size=64, columns=columns):
        yield from batch.to_pylist()


POPE_V2 = Adapter(
    name="popev2",
    title="POPEv2",
    citation="Li et al., AAAI 2026 (arXiv 2508.04567)",
    licence="see its home",
    home="https://huggingface.co/datasets/Monosail/POPEv2",
    task="vqa",
    files=(
        OfficialFile(
            "questions", ("test.parquet", "data/test.parquet", "POPEv2/test.parquet"), "its home"
        ),
    ),
    media=("{folder}/{image:012d}.jpg",),
    splits=(Split("test", 1_000, 1_000),),
    known_from="the official script that writes it; the file was not seen",
    read=_popev2,
    read_media=_popev2_images,
    notes=(
        "500 pairs of an image and the same without the object that is asked for (tags.pair,"
        " tags.view). No scorer is published: whether both views count, or the counterfactual one"
        " alone, is not said.",
        "The images lie in the file; preparing a dataset writes them below the root, where the"
        " authors have them: normal_images/ and images/.",
    ),
)

_CLEVR_ANSWERS = (
    ("yes", "no")
    + tuple(str(number) for number in range(11))
    + ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
    + ("cube", "sphere", "cylinder")
    + ("small", "large")
    + ("rubber", "metal")
)


def _clevr(official: Official) -> Iterator[ManifestRow]:
    answers = _places(_CLEVR_ANSWERS)
    for record in official.json("questions")["questions"]:
        last = record["program"][-1]
        yield _question_row(
            f"{official.split}/{record['question_index']}",
            official.medium(image=record["image_filename"]),
            record["question"],
            str(record["answer"]),
            answers,
            "clevr",
            {"kind": last["function"] if "function" in last else last["type"]},
        )


CLEVR = Adapter(
    name="clevr",
    title="CLEVR",
    citation="Johnson et al., CVPR 2017 (arXiv 1612.06890)",
    licence="CC BY 4.0",
    home="https://cs.stanford.edu/people/jcjohns/clevr/",
    task="vqa",
    files=tuple(
        OfficialFile(
            "questions",
            (f"questions/CLEVR_{split}_questions.json", f"CLEVR_{split}_questions.json"),
            "its home (CLEVR_v1.0.zip)",
            (split,),
        )
        for split in ("train", "val")
    ),
    media=("images/{split}/{image}", "images/{image}", "{image}"),
    splits=(Split("train", 699_989, 70_000), Split("val", 149_991, 15_000)),
    known_from="the official code that writes it; the file was not seen",
    read=_clevr,
    read_labels=lambda official: {"clevr": _labels(_CLEVR_ANSWERS)},
    label_counts={"clevr": 28},
    notes=(
        "Candidates are the 28 answers that the generator can give.",
        "tags.kind is the last function of the question's program, which CLEVR_v1.0 calls function"
        " and the generator type. The test split is published without answers.",
    ),
)

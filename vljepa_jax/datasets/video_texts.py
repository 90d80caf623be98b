"""Videos with texts, for retrieval and captioning: MSR-VTT, ActivityNet Captions, DiDeMo, MSVD,
YouCook2, VATEX, Dream-1K, VDC.

A row is a video, or a span of one, with what is said of it. Equal captions of different videos stay
apart: the protocol of retrieval counts all their videos as correct.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, NoReturn

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.datasets.adapter import (
    Adapter,
    AdapterError,
    Official,
    OfficialFile,
    Split,
    manifest_row,
)


def _msrvtt(official: Official) -> Iterator[ManifestRow]:
    for row in official.table("annotations", ("key", "video_id", "sentence")):
        media = [official.medium(video=row["video_id"])]
        yield manifest_row(row["key"], media=media, texts=[row["sentence"]])


MSRVTT_1KA = Adapter(
    name="msrvtt_1ka",
    title="MSR-VTT, split 1k-A",
    citation="Xu et al., CVPR 2016; split of Yu et al., ECCV 2018 (arXiv 1808.02559)",
    licence="none stated",
    home="https://github.com/ArrowLuo/CLIP4Clip",
    task="caption",
    files=(
        OfficialFile(
            "annotations",
            ("MSRVTT_JSFUSION_test.csv", "msrvtt_test.csv"),
            "CLIP4Clip's msrvtt_data.zip, or MIL-NCE_HowTo100M",
        ),
    ),
    media=("videos/all/{video}.mp4", "MSRVTT/videos/all/{video}.mp4", "{video}.mp4"),
    splits=(Split("test", 1_000, 1_000),),
    known_from="the file itself, whole",
    read=_msrvtt,
    notes=("995 of the 1,000 captions are different.",),
)


def _activitynet(official: Official) -> Iterator[ManifestRow]:
    for video, record in official.json("annotations").items():
        paragraph = " ".join(sentence.strip() for sentence in record["sentences"])
        media = [official.medium(video=video, id=video.removeprefix("v_"))]
        yield manifest_row(f"{official.split}/{video}", media=media, texts=[paragraph])


ACTIVITYNET = Adapter(
    name="activitynet",
    title="ActivityNet Captions, paragraphs",
    citation="Krishna et al., ICCV 2017 (arXiv 1705.00754)",
    licence="none stated",
    home="https://cs.stanford.edu/people/ranjaykrishna/densevid/",
    task="caption",
    files=tuple(
        OfficialFile(
            "annotations", (f"{split}.json", f"captions/{split}.json"), "its home", (split,)
        )
        for split in ("train", "val_1", "val_2")
    ),
    media=(
        "videos/{video}.mp4",
        "videos/{video}.*",
        "videos/{id}.mp4",
        "videos/{id}.*",
        "{video}.mp4",
    ),
    splits=(Split("train"), Split("val_1", 4_917, 4_917), Split("val_2", 4_885, 4_885)),
    known_from="the files of validation, whole",
    read=_activitynet,
    notes=(
        "All sentences of a video are one text; sentences begin with spaces in the official files."
        " Retrieval is reported on val_1.",
        "Files may be called v_ID or, as CLIP4Clip has them, ID.",
        "val_2 has other sentences for most videos of val_1.",
    ),
)


def _didemo(official: Official) -> Iterator[ManifestRow]:
    descriptions: dict[str, list[str]] = {}
    for record in official.json("annotations"):
        descriptions.setdefault(record["video"], []).append(record["description"].strip())
    if official.split == "test_1004":
        listed = list(official.lines("videos"))
        if unknown := [video for video in listed if video not in descriptions]:
            raise AdapterError(
                f"{official.path('videos')}: {len(unknown)} of {len(listed)} videos are not in"
                f" {official.path('annotations').name}, the first is {unknown[0]}"
            )
        descriptions = {video: descriptions[video] for video in listed}
    for video, texts in descriptions.items():
        # A name may end in a bare dot; converted files have another extension.
        media = [official.medium(video=video, stem=video.rpartition(".")[0] or video, end=30)]
        yield manifest_row(f"{official.split}/{video}", media=media, texts=[" ".join(texts)])


DIDEMO = Adapter(
    name="didemo",
    title="DiDeMo, paragraphs",
    citation="Hendricks et al., ICCV 2017 (arXiv 1708.01641)",
    licence="none stated",
    home="https://github.com/LisaAnne/LocalizingMoments",
    task="caption",
    files=(
        *(
            OfficialFile(
                "annotations",
                (f"data/{name}_data.json", f"{name}_data.json"),
                "its home",
                splits,
            )
            for name, splits in (
                ("train", ("train",)),
                ("val", ("val",)),
                ("test", ("test", "test_1004")),
            )
        ),
        OfficialFile(
            "videos",
            ("data/test_list.txt", "test_list.txt"),
            "collaborative-experts or CLIP4Clip: the 1,004 test videos of retrieval",
            ("test_1004",),
        ),
    ),
    media=(
        "videos/{video}",
        "{video}",
        "videos/{stem}.mp4",
        "videos/{video}.mp4",
        "videos/{stem}.*",
    ),
    splits=(
        Split("train"),
        Split("val", 1_094, 1_094),
        Split("test", 1_037, 1_037),
        Split("test_1004", 1_004, 1_004),
    ),
    known_from="the files of validation and test, whole; test_list.txt was not seen",
    read=_didemo,
    notes=(
        "The official test file has 4,021 descriptions of 1,037 videos; retrieval is reported on"
        " 1,004 of these, which a list of others names: split test_1004.",
        "All descriptions of a video are one text, in the order of the file. What is shown ends at"
        " 30 s, as the annotators saw it.",
        "The name is the file's; 119 descriptions are of names that end in a bare dot.",
    ),
)


class _PlainUnpickler(pickle.Unpickler):
    """Builds dicts, lists, texts and numbers; what would import or call anything is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _plain_pickle(official: Official, role: str) -> Any:
    path = official.path(role)
    with open(path, "rb") as file:
        try:
            return _PlainUnpickler(file, encoding="utf-8").load()
        except (pickle.UnpicklingError, EOFError) as error:
            raise AdapterError(
                f"{path}: is no pickle of plain dicts, lists and texts, and nothing else is"
                f" unpickled: {error}"
            ) from error


def _msvd(official: Official) -> Iterator[ManifestRow]:
    captions = _plain_pickle(official, "captions")
    for video in official.lines("videos"):
        texts = [" ".join(tokens) for tokens in captions[video]]
        media = [official.medium(video=video)]
        yield manifest_row(video, media=media, texts=[text for text in texts if text.strip()])


MSVD = Adapter(
    name="msvd",
    title="MSVD",
    citation="Chen and Dolan, ACL 2011",
    licence="none stated",
    home="https://www.cs.utexas.edu/users/ml/clamp/videoDescription/",
    task="caption",
    files=(
        OfficialFile("captions", ("raw-captions.pkl",), "collaborative-experts or CLIP4Clip"),
        *(
            OfficialFile(
                "videos", (f"{split}_list.txt",), "collaborative-experts or CLIP4Clip", (split,)
            )
            for split in ("train", "val", "test")
        ),
    ),
    media=("YouTubeClips/{video}.avi", "videos/{video}.*", "{video}.avi"),
    splits=(Split("train", 1_200, 1_200), Split("val", 100, 100), Split("test", 670, 670)),
    known_from="others' code that reads them; the files were not seen",
    read=_msvd,
    notes=(
        "A row has all captions of a video, about 40; each is a query of its own.",
        "The captions are pickled. Only plain dicts, lists and texts are unpickled: what would run"
        " code is refused.",
        "A caption is a list of words, joined by spaces here.",
    ),
)


_YOUCOOK2_SUBSETS = {"train": "training", "validation_all": "validation"}


def _youcook2(official: Official) -> Iterator[ManifestRow]:
    if official.split == "validation":
        rows = official.table("annotations", ("end", "start", "task", "text", "video_id"))
        clips = (
            (row["video_id"], row["task"], float(row["start"]), float(row["end"]), row["text"])
            for row in rows
        )
    else:
        clips = (
            (video, record["recipe_type"], *map(float, clip["segment"]), clip["sentence"])
            for video, record in official.json("annotations")["database"].items()
            if record["subset"] == _YOUCOOK2_SUBSETS[official.split]
            for clip in record["annotations"]
        )
    for number, (video, task, start, end, text) in enumerate(clips):
        yield manifest_row(
            f"{official.split}/{number}",
            media=[official.medium(video=video, task=task, start=start, end=end)],
            texts=[text.strip()],
            tags={"video": video, "task": task},
        )


_YOUCOOK2_OFFICIAL = (
    "youcookii_annotations_trainval.json",
    "annotations/youcookii_annotations_trainval.json",
)

YOUCOOK2 = Adapter(
    name="youcook2",
    title="YouCook2, clips",
    citation="Zhou et al., AAAI 2018 (arXiv 1703.09788)",
    licence="none stated",
    home="http://youcook2.eecs.umich.edu",
    task="caption",
    files=(
        OfficialFile(
            "annotations",
            ("validation_youcook.csv",),
            "MIL-NCE_HowTo100M: the clips of retrieval",
            ("validation",),
        ),
        OfficialFile("annotations", _YOUCOOK2_OFFICIAL, "its home", ("train", "validation_all")),
    ),
    media=(
        "validation/{task}/{video}.mp4",
        "validation/{task}/{video}.*",
        "raw_videos/validation/{task}/{video}.*",
        "raw_videos/training/{task}/{video}.*",
        "training/{task}/{video}.*",
    ),
    splits=(
        Split("train"),
        Split("validation", 3_350, 436),
        Split("validation_all", 3_492, 457),
    ),
    known_from="the list of retrieval, whole; the official file from records that others show",
    read=_youcook2,
    notes=(
        "Retrieval is reported on 3,350 clips of 436 videos, those of MIL-NCE's list; the official"
        " file has 3,492 clips of 457 videos.",
        "3,273 of the 3,350 texts are different, and two rows are of one clip.",
    ),
)


def _dream1k(official: Official) -> Iterator[ManifestRow]:
    for record in official.json_lines("annotations"):
        answers = [message for message in record["messages"] if message["role"] == "assistant"]
        reference = answers[0]["content"][0]["reference"]
        yield manifest_row(
            str(record["idx"]),
            media=[official.medium(video=record["vid"])],
            texts=[reference.strip()],
            tags={"subset": record["dataset"].removeprefix("DREAM/")},
        )


DREAM_1K = Adapter(
    name="dream_1k",
    title="Dream-1K",
    citation="Wang et al., Tarsier, 2024 (arXiv 2407.00634)",
    licence="Apache-2.0 (annotations)",
    home="https://github.com/bytedance/tarsier",
    task="caption",
    files=(
        OfficialFile(
            "annotations", ("DREAM-1k.jsonl", "data/annotations/DREAM-1k.jsonl"), "its home"
        ),
    ),
    media=("video/{video}.mp4", "videos/{video}.mp4", "{video}.mp4"),
    splits=(Split("test", 1_000, 1_000),),
    known_from="the file itself, whole",
    read=_dream1k,
    notes=(
        "Five subsets of 200 (tags.subset). The official metric lets a language model judge; the"
        " paper takes the references for retrieval.",
        "The file has a placeholder where a video's name belongs; videos are called by the number"
        " vid.",
    ),
)


def _vdc(official: Official) -> Iterator[ManifestRow]:
    for record in official.json_lines("annotations"):
        video = record["video_id"]
        captions = record.get("captions", record)
        media = [official.medium(file=record.get("video_name", f"{video}.mp4"))]
        yield manifest_row(video, media=media, texts=[captions["detailed_caption"].strip()])


VDC_1K = Adapter(
    name="vdc_1k",
    title="VDC (Video Detailed Captions)",
    citation="Chai et al., AuroraCap, ICLR 2025 (arXiv 2410.03051)",
    licence="Apache-2.0",
    home="https://huggingface.co/datasets/wchai/Video-Detailed-Caption",
    task="caption",
    files=(OfficialFile("annotations", ("VDC_1k.jsonl", "VDC_1k_captions.jsonl"), "its home"),),
    media=("videos/{file}", "videos/videos/{file}", "{file}"),
    splits=(Split("test", 1_027, 1_027),),
    known_from="code that reads it; the file was not seen",
    read=_vdc,
    notes=(
        "Despite its name it has 1,027 videos.",
        "Each has five captions; the paper does not say which it takes. Here it is"
        " detailed_caption.",
        "Captions lie in the record, as others read it, or under captions, as the official code"
        " does; the video's file is video_name, or else video_id with .mp4.",
    ),
)


def _vatex(official: Official) -> Iterator[ManifestRow]:
    for record in official.json("annotations"):
        clip = record["videoID"]
        texts = [text.strip() for text in record["enCap"]]
        yield manifest_row(
            f"{official.split}/{clip}", media=[official.medium(clip=clip)], texts=texts
        )


_VATEX_FILES = {
    "train": "vatex_training_v1.0.json",
    "val": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}

VATEX = Adapter(
    name="vatex",
    title="VATEX, English captions",
    citation="Wang et al., ICCV 2019 (arXiv 1904.03493)",
    licence="CC BY 4.0; videos are their owners'",
    home="https://eric-xw.github.io/vatex-website/",
    task="caption",
    files=tuple(
        OfficialFile("annotations", (file, f"annotations/{file}"), "its home", (split,))
        for split, file in _VATEX_FILES.items()
    ),
    media=("videos/{clip}.mp4", "videos/{clip}.*", "{clip}.mp4"),
    splits=(
        Split("train", 25_991, 25_991),
        Split("val", 3_000, 3_000),
        Split("test", 6_000, 6_000),
    ),
    known_from="others' code that reads it; the files were not seen",
    read=_vatex,
    notes=(
        "A clip is called by its video and its span, ID_000012_000022, and holds that span alone;"
        " the clips are of Kinetics-600's videos, of which some have vanished.",
        "Ten English captions each; the Chinese ones are not read.",
    ),
)

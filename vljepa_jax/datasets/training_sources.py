"""Sources to train on, by name: what is published, and the reader of it.

Unlike benchmarks (``registry``), they are read and written in shares, and have no counts to compare
with: a preparation's card tells them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vljepa_jax.config import nearest
from vljepa_jax.data.shares import RecordSource, SourceError
from vljepa_jax.datasets.action100m import Action100M
from vljepa_jax.datasets.columns import Columns
from vljepa_jax.datasets.ego4d import Ego4D
from vljepa_jax.datasets.parquet_rows import ParquetRows
from vljepa_jax.datasets.sft_lines import SFTLines
from vljepa_jax.datasets.webdataset import WebDataset
from vljepa_jax.datasets.yfcc import YFCC


@dataclasses.dataclass(frozen=True)
class TrainingSource:
    """A source as it is known before it is read.

    Attributes:
        name: by which commands call it.
        title, citation, licence, home: of the source; empty for a format alone.
        layout: what lies below the root.
        known_from: how the format is known: from the file itself, or from what else.
        make: (card, root, columns, task) -> the reader.
        options: of ``columns`` and ``task``, those that it takes.
    """

    name: str
    title: str
    layout: tuple[str, ...]
    known_from: str
    make: Callable[[dict[str, Any], str, Columns, str], RecordSource]
    options: tuple[str, ...] = ()
    citation: str = ""
    licence: str = ""
    home: str = ""

    def open(self, root: str, columns: Columns, task: str) -> RecordSource:
        """The reader of the files below a root.

        Raises:
            SourceError: it does not take columns, or a task, and there are some; or there is no
                such task.
        """
        if task not in ("", *_TASKS):
            raise SourceError(
                f"--task={task}: is none of {', '.join(_TASKS)}{nearest(task, _TASKS)}"
            )
        for option, given in (("columns", columns != Columns()), ("task", task)):
            if given and option not in self.options:
                raise SourceError(f"{self.name}: --{option} is not for this source")
        card = {
            name: getattr(self, name) for name in ("name", "title", "citation", "licence", "home")
        }
        return self.make(card, root, columns, task)


_TASKS = ("vqa", "caption", "classification")
_CONVERSATIONS = ("columns", "task")

SOURCES: Mapping[str, TrainingSource] = {
    source.name: source
    for source in (
        TrainingSource(
            name="datacomp",
            title="DataComp-1B",
            citation="Gadre et al., 2023 (arXiv 2304.14108)",
            licence="CC BY 4.0 (addresses and texts); images are their owners'",
            home="https://huggingface.co/datasets/mlfoundations/datacomp_1b",
            layout=("*.tar, as img2dataset writes them: KEY.jpg, KEY.txt, KEY.json",),
            known_from="img2dataset's description; no archive was seen",
            make=WebDataset,
            options=("columns",),
        ),
        TrainingSource(
            name="yfcc100m",
            title="YFCC-100M",
            citation="Thomee et al., 2016 (arXiv 1503.01817)",
            licence="Creative Commons, of each photo its own (licensename)",
            home="https://multimediacommons.wordpress.com/yfcc100m-core-dataset/",
            layout=(
                "*.tsv: yfcc100m_dataset, unpacked, or with a header",
                "data/images/ab3/f28/ab3f28....jpg by the file's hash, or images/PHOTOID.jpg",
            ),
            known_from="others' descriptions of its columns; the table was not seen",
            make=lambda card, root, columns, task: YFCC(card, root),
        ),
        TrainingSource(
            name="action100m",
            title="Action100M",
            citation="Chen et al., 2026",
            licence="see its home",
            home="https://github.com/facebookresearch/Action100M",
            layout=("*.parquet or *.json", "videos/VIDEO_UID.mp4 (webm, mkv)"),
            known_from="files of the published sample, whole",
            make=lambda card, root, columns, task: Action100M(card, root),
        ),
        TrainingSource(
            name="ego4d",
            title="Ego4D, narrations",
            citation="Grauman et al., CVPR 2022 (arXiv 2110.07058)",
            licence="Ego4D License Agreement",
            home="https://ego4d-data.org",
            layout=("narration.json", "full_scale/VIDEO_UID.mp4"),
            known_from="its official description; the file was not seen",
            make=lambda card, root, columns, task: Ego4D(card, root),
        ),
        TrainingSource(
            name="plm_image_auto",
            title="PLM-Image-Auto",
            citation="Cho et al., 2025 (arXiv 2504.13180)",
            licence="see its home",
            home="https://huggingface.co/datasets/facebook/PLM-Image-Auto",
            layout=("*.parquet with image, and conversations or a caption",),
            known_from="its description; the files were not seen",
            make=ParquetRows,
            options=_CONVERSATIONS,
        ),
        TrainingSource(
            name="plm_sft",
            title="PLM, fine-tuning data",
            citation="Cho et al., 2025 (arXiv 2504.13180)",
            licence="of each of its parts its own",
            home="https://github.com/facebookresearch/perception_models",
            layout=("*.jsonl, a conversation a line", "images and videos by the paths in it"),
            known_from="its official description and code; the mixture is not published",
            make=lambda card, root, columns, task: SFTLines(card, root, task),
            options=("task",),
        ),
        TrainingSource(
            name="webdataset",
            title="Any webdataset",
            layout=("*.tar of samples with an image or a video, and a text or a conversation",),
            known_from="webdataset's description",
            make=WebDataset,
            options=_CONVERSATIONS,
        ),
        TrainingSource(
            name="parquet",
            title="Any Parquet files of Hugging Face",
            layout=("*.parquet with an image or a path, and a text or a conversation",),
            known_from="the datasets library's description of its image columns",
            make=ParquetRows,
            options=_CONVERSATIONS,
        ),
    )
}

# Sources of the paper, or of its first version, without a public format, and why.
NOT_PUBLISHED = {
    "plm_video_auto": "no public description of the columns of its Parquet files was seen; where"
    " they hold a video or its path, and conversations, --dataset=parquet reads them",
    "datacomp recaptioned": "whose captions the paper takes is not said; --dataset=datacomp reads"
    " the archives' own, and --columns=text=json.FIELD others",
    "the fine-tuning mixture": "only its counts are published (25M questions, 2.8M captions, 1.8M"
    " classifications), not which rows; --dataset=plm_sft reads files of its form",
}

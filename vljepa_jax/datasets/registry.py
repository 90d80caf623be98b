"""Which datasets there are, by name."""

from __future__ import annotations

import pkgutil

from vljepa_jax.config import nearest
from vljepa_jax.datasets.adapter import Adapter, AdapterError, Unsettled

# Written "module:object", as entry points of packages are: a module is imported when it is asked
# for.
_DATASETS = {
    "ssv2": "action_clips:SSV2",
    "kinetics_400": "action_clips:KINETICS_400",
    "ucf101": "action_clips:UCF101",
    "hmdb51": "action_clips:HMDB51",
    "epic_kitchens_100": "epic_kitchens:RECOGNITION",
    "epic_kitchens_100_anticipation": "epic_kitchens:ANTICIPATION",
    "egoexo4d_keysteps": "egoexo4d:KEYSTEPS",
    "egoexo4d_atomic_descriptions": "egoexo4d:ATOMIC_DESCRIPTIONS",
    "coin_step": "procedures:COIN_STEP",
    "coin_task": "procedures:COIN_TASK",
    "coin_next_step": "procedures:COIN_NEXT_STEP",
    "crosstask_step": "procedures:CROSSTASK_STEP",
    "crosstask_task": "procedures:CROSSTASK_TASK",
    "imagenet": "imagenet:IMAGENET",
    "coco_captions": "image_captions:COCO_CAPTIONS",
    "msrvtt_1ka": "video_texts:MSRVTT_1KA",
    "activitynet": "video_texts:ACTIVITYNET",
    "didemo": "video_texts:DIDEMO",
    "msvd": "video_texts:MSVD",
    "youcook2": "video_texts:YOUCOOK2",
    "vatex": "video_texts:VATEX",
    "dream_1k": "video_texts:DREAM_1K",
    "vdc_1k": "video_texts:VDC_1K",
    "gqa": "image_questions:GQA",
    "vqa_v2": "image_questions:VQA_V2",
    "tallyqa": "image_questions:TALLYQA",
    "pope": "image_questions:POPE",
    "popev2": "image_questions:POPE_V2",
    "clevr": "image_questions:CLEVR",
    "sugarcrepe_pp": "text_triplets:SUGARCREPE_PP",
    "visla": "text_triplets:VISLA",
}

UNSETTLED = (
    Unsettled(
        name="worldprediction_wm",
        title="WorldPrediction-WM",
        citation="Chen et al., 2025 (arXiv 2506.04363)",
        home="https://arxiv.org/abs/2506.04363",
        reason="of a record only the beginning was seen (states.segment_uid 'segment|COIN|...');"
        " which file and span an id stands for, and the list of its 825 samples, were not",
        columns={
            "id": "of the sample",
            "media": '[{"path": initial state}, {"path": final state}]',
            "cand": 'four clips: [{"path": ..., "start": ..., "end": ...}, ...]',
            "gold": "index of the correct clip",
            "task": '"state"',
        },
    ),
    Unsettled(
        name="pvd_bench",
        title="PVD-Bench (PE Video Dataset)",
        citation="Bolya et al., 2025 (arXiv 2504.13181)",
        home="https://github.com/facebookresearch/perception_models",
        reason="a public reader names a list, imago15k.csv with video_id and sentence; neither the"
        " list nor the layout of its videos was seen",
        columns={
            "id": "of the video",
            "media": '[{"path": the video}]',
            "texts": '["the caption"], the one that people refined',
            "task": '"caption"',
        },
    ),
)


def names() -> tuple[str, ...]:
    """Of all datasets that have an adapter."""
    return tuple(_DATASETS)


def load(name: str) -> Adapter:
    """The adapter of a dataset.

    Raises:
        AdapterError: there is none of this name.
    """
    for unsettled in UNSETTLED:
        if name == unsettled.name:
            raise AdapterError(
                f"{name}: no public file settles its format: {unsettled.reason}. Write a manifest"
                f" of rows with {', '.join(unsettled.columns)}, for --manifest"
            )
    if name not in _DATASETS:
        known = [*_DATASETS, *(unsettled.name for unsettled in UNSETTLED)]
        raise AdapterError(
            f"there is no dataset '{name}'{nearest(name, known)}; see --dataset=list"
        )
    return pkgutil.resolve_name(f"{__package__}.{_DATASETS[name]}")

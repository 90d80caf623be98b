"""Calibrates a model on the clips that it was trained on, and judges others by that."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from vljepa_jax.config import ConfigError
from vljepa_jax.data.records import Annotation, ClipError
from vljepa_jax.data.workers import in_batches
from vljepa_jax.evals.datasets import Datasets, file_order
from vljepa_jax.evals.evaluate import Result
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.inference.calibration import Calibration, calibrate
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.tasks import CAPTION_QUERY

QUERIES = ("", CAPTION_QUERY)  # those of search and of streams, where none is given
_JUDGED = 100  # clips of a split


def calibrate_on_training(model: Embedder, clips: int, num_workers: int = 0) -> Calibration:
    """Measures on clips of the training run's sources, drawn in equal shares.

    Args:
        clips: at most so many.
        num_workers: decoding processes.

    Raises:
        CalibrationError: too few can be read.
        ConfigError: nothing tells what the model was trained on.
        DatasetError: the data are no longer there.
    """
    if model.history is None:
        raise ConfigError("this model is no training run: nothing tells what it was trained on")
    config = model.history.config
    datasets = Datasets(config.world, num_workers)
    captions: dict[ClipRef, str] = {}
    for source in config.data.sources:
        own: dict[ClipRef, str] = {}
        for record, annotation in datasets.annotations(source.path, source.split):
            clip = ClipRef(source.path, source.split, record, annotation.inputs)
            if clip.media and not own.get(clip):
                own[clip] = _caption(annotation)
        most = -(-clips // len(config.data.sources))
        chosen = random.Random(0).sample([*own], min(most, len(own)))
        captions |= {clip: own[clip] for clip in chosen}

    def measured(
        some: list[ClipRef], frames: np.ndarray
    ) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        tokens = model.encode_clips(frames)
        rows = np.arange(len(some))
        embedded = [model.predict_tokens(tokens, rows, [q] * len(some)) for q in QUERIES]
        return list(zip(model.mean_tokens(tokens)[rows], zip(*embedded, strict=True), strict=True))

    decoded = datasets.decode(sorted(captions, key=file_order), model.video)
    found = {
        clip: made
        for clip, made in in_batches(measured, decoded, model.batch_size)
        if not isinstance(made, ClipError)
    }
    captioned = [clip for clip in found if captions[clip]]
    cosines = {}
    if captioned:
        texts = model.embed_text([captions[clip] for clip in captioned])
        for place, query in enumerate(QUERIES):
            clips_of_query = np.stack([found[clip][1][place] for clip in captioned])
            cosines[query] = np.sum(clips_of_query * texts, axis=1)
    tokens = [tokens for tokens, _ in found.values()]
    return calibrate(model.fingerprint, np.stack(tokens) if tokens else np.zeros((0, 1)), cosines)


def _caption(annotation: Annotation) -> str:
    """The shortest, which is not cut; "" where there is none."""
    return min(annotation.texts, key=len) if annotation.task == "caption" else ""


def share_unlike(
    model: Embedder, results: Sequence[Result], datasets: Datasets
) -> dict[str, dict[str, int]]:
    """Of some clips of each split, how many are unlike those that the model was trained on.

    Args:
        model: with a calibration.
        results: of whose clips a few are drawn, the same every time.

    Returns:
        "clips" and "unlike" by "path · split".
    """
    splits: dict[str, set[ClipRef]] = {}
    for result in results:
        count = len(result.outcomes)
        for place in random.Random(0).sample(range(count), min(_JUDGED, count)):
            if (clip := result.outcomes[place].clip) is not None:
                splits.setdefault(f"{clip.path} · {clip.split}", set()).add(clip)
    found = {}
    for name, own in splits.items():
        some = random.Random(0).sample(sorted(own, key=file_order), min(_JUDGED, len(own)))
        judged = in_batches(
            lambda some, frames: model.predict_and_judge(frames, [""] * len(some))[1],
            datasets.decode(some, model.video),
            model.batch_size,
        )
        novelty = [new for _, new in judged if not isinstance(new, ClipError)]
        found[name] = {"clips": len(novelty), "unlike": sum(int(new > 1) for new in novelty)}
    return found

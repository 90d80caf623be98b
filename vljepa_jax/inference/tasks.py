"""Functions over any embedder: classification, answers, captions, text banks, retrieval."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vljepa_jax.inference.arguments import candidate_texts
from vljepa_jax.inference.labels import mean_embedding
from vljepa_jax.inference.search.hits import Hit
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
from vljepa_jax.inference.text_decoder import Method, TextBank
from vljepa_jax.inference.videos import Video, is_batch

if TYPE_CHECKING:  # these functions are methods of it too
    from vljepa_jax.inference.embedder import Embedder

# One text, or several that mean the same.
LabelTexts = str | Sequence[str]

CAPTION_QUERY = "Describe this video in one sentence."  # the paper's, Figure 2


class Scored(NamedTuple):
    """A candidate with its cosine similarity to the prediction."""

    text: str
    score: float


def classify(
    model: Embedder,
    videos: Video | Sequence[Video],
    labels: Sequence[LabelTexts],
    query: str = "",
) -> list[Scored] | list[list[Scored]]:
    """Open-vocabulary classification: labels by their cosine to Ŝ_Y, best first.

    Args:
        videos: as for ``Embedder.embed_video``; several give a list for each.
        labels: a text each, or several texts of one meaning, whose embeddings are averaged.
        query: X_Q, e.g. "What is the action shown?"; "" is the query-free form.

    Raises:
        TypeError: the labels are one text, or no texts.
        ValueError: there are no labels, or one has no text.
    """
    texts = candidate_texts("labels", labels)
    ranked = _ranked(model, model.embed_video(videos, query), texts)
    return ranked if is_batch(videos) else ranked[0]


def answer(
    model: Embedder,
    videos: Video | Sequence[Video],
    question: str,
    candidates: Sequence[LabelTexts],
) -> Scored | list[Scored]:
    """Discriminative VQA: the candidate answer nearest to Ŝ_Y under the question.

    Raises:
        TypeError, ValueError: as ``classify``.
    """
    texts = candidate_texts("candidates", candidates)
    best = [best for best, *_ in _ranked(model, model.embed_video(videos, question), texts)]
    return best if is_batch(videos) else best[0]


def caption(
    model: Embedder,
    videos: Video | Sequence[Video],
    query: str = CAPTION_QUERY,
    method: Method = "greedy",
    **settings: Any,
) -> str | list[str]:
    """A text of what a video shows, or the answer to ``query``; raises as ``Embedder.decode``."""
    texts = model.decode(model.embed_video(videos, query), method, **settings)
    return texts if is_batch(videos) else texts[0]


def text_bank(model: Embedder, texts: Sequence[str]) -> TextBank:
    """A bank whose ``decode`` takes the nearest text: the baseline of ``Embedder.decode``.

    Raises:
        TypeError: it is one text, or no texts.
        ValueError: it is empty.
    """
    texts = [text for (text,) in candidate_texts("texts", texts)]
    return TextBank(texts, model.embed_text(texts))


def retrieve(
    model: Embedder,
    texts: str | Sequence[str],
    index: VideoIndex | str | os.PathLike,
    *,
    top: int = 10,
    **limits: Any,
) -> list[Hit] | list[list[Hit]]:
    """Text-to-video retrieval: clips of an index by their cosine to S_Y, best first.

    Args:
        texts: one text, or several, which give a list for each.
        index: made by ``launch/embed.py`` with this model, or its directory.
        top: hits a text.
        limits: ``each_once``, ``fold``, ``threshold``, ``names``, see ``VideoIndex.search``.

    Returns:
        Hits that, where the model has a calibration, say whether they are a match.

    Raises:
        SearchIndexError: there is no index, or another model made it.
        ValueError: fewer than one hit is asked for, or a limit makes no sense.
    """
    index = _opened(model, index, top)
    hits = index.search(model.embed_text(texts), top, **limits)
    if model.calibration is not None:
        query, is_match = index.settings.query, model.calibration.is_match
        hits = [
            [hit._replace(match=is_match(query, hit.score, hit.novelty)) for hit in own]
            for own in hits
        ]
    return hits[0] if isinstance(texts, str) else hits


def retrieve_like(
    model: Embedder,
    videos: Video | Sequence[Video],
    index: VideoIndex | str | os.PathLike,
    *,
    top: int = 10,
    **limits: Any,
) -> list[Hit] | list[list[Hit]]:
    """Search by example: clips of an index by their cosine to that of a video, best first.

    Both are Ŝ_Y under the query and with the frames of the index. Of a cosine between clips no
    calibration tells, so that no hit says whether it is a match.

    Args:
        videos: as for ``Embedder.embed_video``; several give a list for each.
        index, top, limits: as for ``retrieve``.

    Raises:
        SearchIndexError: there is no index, or another model made it, or with other frames.
        ClipError, TypeError: as ``Embedder.embed_video``.
        ValueError: as ``retrieve``.
    """
    index = _opened(model, index, top)
    if index.settings.frames != model.video.frames:
        raise SearchIndexError(
            f"'{index.directory}' has {index.settings.frames} frames of each clip, and this model "
            f"takes {model.video.frames}: load it with frames={index.settings.frames}"
        )
    hits = index.search(model.embed_video(videos, index.settings.query), top, **limits)
    return hits if is_batch(videos) else hits[0]


def _opened(model: Embedder, index: VideoIndex | str | os.PathLike, top: int) -> VideoIndex:
    if top < 1:
        raise ValueError(f"top is {top}, where at least one hit is asked for")
    if not isinstance(index, VideoIndex):
        index = VideoIndex(index)
    if index.settings.model != model.fingerprint:
        raise SearchIndexError(
            f"'{index.directory}' was made by another model ({index.settings.model}, from "
            f"'{index.checkpoint}') than this one ({model.fingerprint}); their embeddings do "
            "not compare. Load that one, or embed the collection again"
        )
    return index


def rank(
    model: Embedder, embeddings: Float[np.ndarray, "n e"], labels: Sequence[LabelTexts]
) -> list[list[Scored]]:
    """For each embedding Ŝ_Y the labels by their cosine to it, best first; as ``classify``."""
    return _ranked(model, embeddings, candidate_texts("labels", labels))


def _ranked(
    model: Embedder, embeddings: Float[np.ndarray, "n e"], texts: list[list[str]]
) -> list[list[Scored]]:
    embedded = iter(model.embed_text([text for label in texts for text in label]))
    matrix = np.stack([mean_embedding([next(embedded) for _ in label]) for label in texts])
    ranked = []
    for scores in embeddings @ matrix.T:
        order = np.argsort(-scores, kind="stable")
        ranked.append([Scored(texts[i][0], float(scores[i])) for i in order])
    return ranked

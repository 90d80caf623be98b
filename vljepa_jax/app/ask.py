"""Ask: scores of candidates and a text, of one clip under one question."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from vljepa_jax.app.visitors import Refused
from vljepa_jax.inference import tasks
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.tasks import CAPTION_QUERY, Scored


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of a clip.

    Attributes:
        query: that was asked.
        scores: the candidates, best first; [] where there are none.
        matches: whether each is as near as a caption is to its clip; () where nobody can tell.
        text: written by the Y-Decoder; "" where it was not asked for.
        unlike: whether the clip is unlike the training clips; ``None`` where nobody can tell.
    """

    query: str
    scores: list[Scored]
    matches: tuple[bool, ...]
    text: str
    unlike: bool | None


def ask(
    model: Embedder,
    clip: UInt8[np.ndarray, "T H W 3"],
    question: str,
    candidates: list[list[str]],
    *,
    write: bool,
) -> Answer:
    """Answers as ``tasks.classify`` and ``tasks.caption`` do, with one pass over the clip.

    Args:
        clip: as ``model.video`` says.
        question: X_Q; "" asks for a description where a text is written without candidates, and
            is the query-free form with them.
        candidates: the wordings of each.
        write: whether a text is wanted.

    Raises:
        ConfigError: a text is wanted of a model that writes none.
        Refused: nothing is asked for.
    """
    if not candidates and not write:
        raise Refused("name candidates, one a line, or ask for a text")
    if not candidates and not question:
        question = CAPTION_QUERY
    embeddings, novelty = model.predict_and_judge(clip[None], [question])
    scores = tasks.rank(model, embeddings, candidates)[0] if candidates else []
    text = model.decode(embeddings)[0] if write else ""
    known = model.calibration
    if known is None:
        return Answer(question, scores, (), text, None)
    matches = tuple(known.is_match(question, score, float(novelty[0])) for _, score in scores)
    return Answer(question, scores, matches, text, bool(novelty[0] > 1))

"""What a model's functions cannot take, told by the name of the argument."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vljepa_jax.config import ConfigError


def check_least(name: str, value: int, least: int) -> None:
    """Raises ConfigError for a number that is no whole one, or below ``least``."""
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}, where a whole number from {least} on is needed")


def check_texts(name: str, texts: Sequence[Any]) -> None:
    """Raises TypeError or ValueError for what no tokenizer takes."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] is no text, but {type(text).__name__}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = ascii(text[error.start])
                raise ValueError(f"{name}[{index}] holds {half}, half a character") from error


def candidate_texts(name: str, candidates: Any) -> list[list[str]]:
    """The texts of each candidate, one at least of either.

    Args:
        candidates: a text each, or several texts of one meaning.

    Raises:
        TypeError: they are one text, whose letters would be ranked, or no texts.
        ValueError: there are none, or one has no text.
    """
    if isinstance(candidates, str):
        raise TypeError(f"{name} is one text, where a list is needed: [{candidates!r}]")
    groups = []
    for index, candidate in enumerate(candidates):
        own = [candidate] if isinstance(candidate, str) else candidate
        if not isinstance(own, Sequence):
            raise TypeError(f"{name}[{index}] is no text, but {type(own).__name__}")
        if not own:
            raise ValueError(f"{name}[{index}] has no text")
        check_texts(f"{name}[{index}]" if own is candidate else name, own)
        groups.append(list(own))
    if not groups:
        raise ValueError(f"{name} is empty: there is nothing to choose from")
    return groups


def checked_embeddings(embeddings: Any, size: int) -> Float[np.ndarray, "n e"]:
    """Raises TypeError for what is no array, ValueError for one of another shape than [n, size]."""
    if not hasattr(embeddings, "ndim"):
        raise TypeError(
            f"embeddings are an array [n, {size}], as embed_video and embed_text give it, not "
            f"{type(embeddings).__name__}"
        )
    if embeddings.ndim != 2 or embeddings.shape[1] != size:
        raise ValueError(f"embeddings: {list(embeddings.shape)}, where [n, {size}] is expected")
    return embeddings


def warn_of_frames(videos: Sequence[Any]) -> None:
    """Warns of a list of pictures of one size, which may be meant for the frames of one clip."""
    shapes = {video.shape if isinstance(video, np.ndarray) else () for video in videos}
    if len(videos) > 1 and len(shapes) == 1 and len(shapes.pop()) == 3:
        warnings.warn(
            "a list of arrays [H, W, 3] is as many images; the frames of one clip are one array, "
            "np.stack(frames)",
            stacklevel=3,
        )

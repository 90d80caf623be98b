"""A published text encoder in the place of a trained model's Y-Encoder.

Its head is fitted so that words lie where the model's own Y-Encoder has them: what the predictor
has learned stays true, and words that the model never heard lie among those that mean the like.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.console

from vljepa_jax.config import TrainConfig
from vljepa_jax.convert import sentence_transformers
from vljepa_jax.convert.published import read_part
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.convert.text_encoders import text_encoder_config
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.json_text import JSONError
from vljepa_jax.objectives import make_objective
from vljepa_jax.training.head_init import TEXTS, translating_head

_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_SHORTEST = 3  # letters of a word that says something


def with_text_encoder(
    config: TrainConfig,
    params: dict[str, Any],
    directory: Path,
    texts: Iterable[str],
    console: rich.console.Console,
) -> tuple[TrainConfig, dict[str, Any]]:
    """A VL-JEPA's config and parameters with another Y-Encoder.

    Args:
        config, params: of the trained model.
        directory: of the text encoder, in sentence-transformers' layout.
        texts: beside words; those of them count that the model's own Y-Encoder knows.

    Raises:
        ConversionError: the directory holds no text encoder that can be read.
    """
    if not directory.is_dir():
        raise ConversionError([f"{directory}: there is no such folder"])
    y_encoder = text_encoder_config(directory)
    new = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, y_encoder=y_encoder),
        data=dataclasses.replace(
            config.data,
            text=dataclasses.replace(
                config.data.text,
                target_tokenizer=str(_tokenizer(directory)),
                target_prompt=_prompt(directory),
            ),
        ),
    )
    target, _ = jax.eval_shape(make_objective(new).init, jax.random.key(0))
    read, faults = read_part(new, target, "y_encoder", directory, console)
    if faults:
        raise ConversionError(faults)
    known = known_texts(Tokenizer(config.data.text.target_tokenizer), texts)
    head = translating_head(config, params, new, read["y_encoder"], known)
    console.print(f"y_head: fitted to the model's own by {len(known)} words and texts")
    return new, params | read | {"y_head": {"kernel": jax.numpy.asarray(head)}}


def known_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The words that are a token each, and those of ``texts`` that consist of such; distinct.

    A Y-Encoder knows what it was trained on, and that its tokenizer was made of.
    """
    (special,) = tokenizer.encode_whole([""])
    spelt = sorted({tokenizer.decode([token]) for token in tokenizer.vocabulary().values()})
    words = [word for word in spelt if word.isalpha() and len(word) >= _SHORTEST]
    found = [
        text
        for text, ids in _tokens(tokenizer, [*words, *texts])
        if len(ids) - len(special) <= len(text.split())
    ]
    distinct = list(dict.fromkeys(found))
    chosen = np.linspace(0, len(distinct) - 1, min(TEXTS, len(distinct))).round().astype(int)
    return [distinct[index] for index in chosen]


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> Iterable[tuple[str, np.ndarray]]:
    return zip(texts, tokenizer.encode_whole(texts), strict=True)


def _tokenizer(directory: Path) -> Path:
    for name in _TOKENIZERS:
        if (directory / name).is_file():
            return directory / name
    raise ConversionError(
        [f"{directory}: holds neither {' nor '.join(_TOKENIZERS)}; fetch it with the weights"]
    )


def _prompt(directory: Path) -> str:
    """What the model puts before every text."""
    try:
        found, default = sentence_transformers.prompts(directory)
    except JSONError as error:
        raise ConversionError([str(error)]) from error
    return "" if default is None else found[default]

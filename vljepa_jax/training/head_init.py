"""Heads in closed form: least squares on texts, before any training.

A language model's last hidden state is compared with the vectors of its words, so a predictor made
of its layers starts with outputs near the words of what it would say. A text therefore has a place
there, too: the mean of its words' vectors. From these places and the Y-Encoder's embeddings of the
same texts, both heads follow in closed form, and InfoNCE starts where prediction and target of a
pretrained reader already lie close, instead of in two unrelated spaces. (Ours; the paper does not
say how its heads start.)

Where another Y-Encoder takes the place of a trained model's own, its head follows likewise: it puts
texts where the old one put them (``translating_head``), so that the rest goes on as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.data.pipeline import target_shares
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.models.text_encoder import make_text_encoder

TEXTS = 8_000  # targets, as training draws them: some forty for each number of a row
RIDGE = 0.005  # of the mean eigenvalue, added to all
# A translation is used for texts that it was not fitted to. Of words the fit is as good with a
# tenth of it, but for sentences, of which MiniLM's then find their own in 19 % of the cases instead
# of 35 % (279 sentences of the world, translated into the demo's space by 408 single words).
_TRANSLATION_RIDGE = 0.05
_BATCH = 256  # texts encoded at a time


def align_heads(config: TrainConfig, params: Any) -> dict[str, Any]:
    """``predictor_head`` and ``y_head`` of a VL-JEPA that has not been trained yet.

    Args:
        config: whose training texts are taken.
        params: of the model; only its token table and Y-Encoder are read.

    Returns:
        The two parts, float32, in place of those in ``params``.

    Raises:
        ConfigError: the shared space is larger than the predictor's.
        DatasetError: a source is missing.
    """
    model, text = config.embedder
    if model.embedding_size > model.predictor.hidden_size:
        raise ConfigError(
            f"model.embedding_size: {model.embedding_size} is more than the predictor's "
            f"{model.predictor.hidden_size}, whose words' vectors cannot fill it"
        )
    texts, weights = drawn(target_shares(config), TEXTS)
    words = _places(texts, Tokenizer(text.query_tokenizer), params["token_embedding"]["embedding"])
    embeddings = _embeddings(config, texts, params["y_encoder"])
    predictor_head, y_head = heads(words, embeddings, weights, model.embedding_size)
    return {"predictor_head": {"kernel": predictor_head}, "y_head": {"kernel": y_head}}


def drawn(shares: Mapping[str, float], count: int) -> tuple[list[str], np.ndarray]:
    """Systematic sampling: ``count`` draws, evenly spread over the texts laid end to end.

    Args:
        shares: text -> how often it is drawn, in any unit.

    Returns:
        The distinct texts that were drawn, and how often each was, int [n].
    """
    texts, ends = list(shares), np.cumsum(list(shares.values()))
    points = (np.arange(count) + 0.5) / count * ends[-1]
    places, times = np.unique(np.searchsorted(ends, points), return_counts=True)
    return [texts[place] for place in places], times


def heads(
    words: np.ndarray, embeddings: np.ndarray, weights: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Solves for the heads by which both sides of n texts agree best, in closed form.

    Args:
        words: float [n, d], the texts' places in the predictor's space.
        embeddings: float [n, y], of the same texts, before the Y-Encoder's head.
        weights: [n], what each text counts.
        size: e, of the shared space, at most d.

    Returns:
        float32 [d, e], onto the e directions in which the texts' places, as unit vectors around
        their mean, differ most; and float32 [y, e], by least squares from embeddings, as unit
        vectors, onto these places there.
    """
    weights = (weights / weights.sum())[:, None]
    centred = _unit(words - (weights * words).sum(axis=0))
    _, directions = np.linalg.eigh(centred.T @ (weights * centred))  # ascending
    predictor_head = directions[:, ::-1][:, :size]
    y_head = _least_squares(_unit(embeddings), centred @ predictor_head, weights, RIDGE)
    return predictor_head.astype(np.float32), y_head


def translating_head(
    old: TrainConfig, old_params: Any, new: TrainConfig, y_encoder: Any, texts: Sequence[str]
) -> np.ndarray:
    """The head by which another Y-Encoder puts texts where a trained model's own puts them.

    Args:
        old, old_params: the model; only its Y-Encoder and that one's head are read.
        new: its config with the other Y-Encoder, and with that one's tokenizer.
        y_encoder: parameters of the other Y-Encoder.
        texts: that the model's own Y-Encoder knows.

    Returns:
        float32 [y, e], to stand behind the other Y-Encoder.
    """
    wanted = _unit(
        _embeddings(old, texts, old_params["y_encoder"]) @ old_params["y_head"]["kernel"]
    )
    given = _unit(_embeddings(new, texts, y_encoder))
    return _least_squares(given, wanted, np.full((len(texts), 1), 1.0), _TRANSLATION_RIDGE)


def _least_squares(
    given: np.ndarray, wanted: np.ndarray, weights: np.ndarray, ridge: float
) -> np.ndarray:
    """Float32 [y, e] by which [n, y] come nearest to [n, e]; ``weights`` are [n, 1]."""
    product = given.T @ (weights * given)
    product += ridge * np.trace(product) / len(product) * np.eye(len(product))
    return np.linalg.solve(product, given.T @ (weights * wanted)).astype(np.float32)


def _places(texts: Sequence[str], tokenizer: Tokenizer, table: Any) -> np.ndarray:
    """Float64 [n, d]: the mean vector of each text's tokens but the special ones."""
    table = np.asarray(table, np.float64)
    (special,), (there,) = tokenizer.encode([""], 8)
    places = np.zeros((len(texts), table.shape[1]))
    for row, ids in enumerate(tokenizer.encode_whole(texts)):
        kept = ids[~np.isin(ids, special[there])]
        places[row] = table[kept].mean(axis=0) if len(kept) else 0.0
    return places


def _embeddings(config: TrainConfig, texts: Sequence[str], params: Any) -> np.ndarray:
    """Float64 [n, y], of the texts as training shows them to the Y-Encoder."""
    model, text = config.embedder
    encoder = make_text_encoder(
        model.y_encoder, jax.numpy.dtype(model.dtype), model.remat, model.unroll_layers
    )
    encode = jax.jit(lambda tokens, mask: encoder.apply({"params": params}, tokens, mask))
    tokenizer, found = Tokenizer(text.target_tokenizer), []
    for start in range(0, len(texts), _BATCH):
        batch = [text.target_prompt + t for t in texts[start : start + _BATCH]]
        tokens, mask = tokenizer.encode(batch + [""] * (_BATCH - len(batch)), text.target_length)
        found.append(np.asarray(encode(tokens, mask), np.float64)[: len(batch)])
    return np.concatenate(found)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)

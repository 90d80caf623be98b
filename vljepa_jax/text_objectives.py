"""Objectives of words: what pretrains the two text backbones, and the VLM that answers in words.

``objectives.py`` says what an objective is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vljepa_jax import losses
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.models.text_pretraining import LanguageModel, TextPairs
from vljepa_jax.models.vision_language import VLM

PyTree = Any
Arrays = Mapping[str, Array]


@struct.dataclass
class Triplets:
    """Attributes: unit vectors [B, D] of a text, its paraphrase and what is none, float32."""

    text: Array
    paraphrase: Array
    other: Array


class TextPairsObjective:
    """Paraphrases near, other texts far: InfoNCE with hard negatives, as sentence encoders learn.

    EmbeddingGemma's own recipe (arXiv 2509.20354, section 2) has this loss as its main part.
    """

    def __init__(self, config: TrainConfig) -> None:
        if config.batch_size < 2:
            raise ConfigError(
                f"batch_size: {config.batch_size}, but InfoNCE compares a row with the others"
            )
        self._length = config.data.text.length
        self._model = TextPairs(config.model)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        tokens = jnp.zeros((1, self._length), jnp.int32)
        params = self._model.init(rng, tokens, jnp.ones(tokens.shape, bool))["params"]
        scale = self._model.init(rng, method="logit_scale")["params"]
        return params | scale, {}

    def represent(self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array) -> Triplets:
        del extra, rng
        rows, three, length = arrays["tokens"].shape
        embeddings = self._model.apply(
            {"params": params},
            arrays["tokens"].reshape(rows * three, length),
            arrays["mask"].reshape(rows * three, length),
        ).reshape(rows, three, -1)
        return Triplets(*(embeddings[:, place] for place in range(three)))

    def loss(
        self,
        params: PyTree,
        representations: Triplets,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del rng
        text, paraphrase = representations.text, representations.paraphrase
        # Equal texts have paraphrases that mean the same, though their words may differ.
        text_id, _, other_id = arrays["text_id"].T
        scale = self._model.apply({"params": params}, method="logit_scale")
        loss, metrics = losses.info_nce(
            text, paraphrase, scale, text_id, representations.other, other_id, mesh=mesh
        )
        return loss, metrics | losses.embedding_metrics(text, paraphrase)

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


@struct.dataclass
class TokenLosses:
    """Attributes: [B], float32, of the tokens that count in each text: their summed cross-entropy
    in nats, how many are the likeliest ones, and how many there are."""

    nats: Array
    right: Array
    tokens: Array


def token_losses(logits: Array, tokens: Array, counts: Array) -> TokenLosses:
    """Logits [B, t, v] of tokens [B, t]; those where ``counts``."""
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens[..., None], axis=-1)[
        ..., 0
    ]
    right = (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32)
    return TokenLosses(
        jnp.sum(nats, axis=1, where=counts),
        jnp.sum(right, axis=1, where=counts),
        jnp.sum(counts, axis=1, dtype=jnp.float32),
    )


def _next_token_losses(logits: Array, tokens: Array, counts: Array) -> TokenLosses:
    """As ``token_losses``, for logits of the token after each one."""
    return token_losses(logits[:, :-1], tokens[:, 1:], counts[:, 1:])


def answer_losses(logits: Array, arrays: Arrays) -> TokenLosses:
    """Logits [B, S, v] of the words of S answers: "target_tokens" and "target_mask" [B, S, A].

    The words are drawn from one distribution, in no order, and an answer counts as one token,
    however long: what is a label must not drown in what is a caption. An answer is right where its
    likeliest word is among its own.
    """
    tokens, counts = arrays["target_tokens"], arrays["target_mask"]
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), tokens, axis=-1)
    length = jnp.sum(counts, axis=-1)
    likeliest = jnp.argmax(logits, axis=-1)[..., None]
    right = jnp.any((likeliest == tokens) & counts, axis=-1)
    return TokenLosses(
        jnp.sum(jnp.sum(nats, axis=-1, where=counts) / jnp.maximum(length, 1), axis=1),
        jnp.sum(right, axis=1, dtype=jnp.float32),
        jnp.sum(length > 0, axis=1, dtype=jnp.float32),
    )


class TokensObjective:
    """The mean over all tokens that count, whatever the row."""

    def loss(
        self,
        params: PyTree,
        representations: TokenLosses,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        del params, arrays, rng, mesh
        tokens = jnp.maximum(jnp.sum(representations.tokens), 1)
        loss = jnp.sum(representations.nats) / tokens
        right = jnp.sum(representations.right) / tokens
        return loss, {
            "perplexity": jnp.exp(jax.lax.stop_gradient(loss)),
            "accuracy": jax.lax.stop_gradient(right),
        }

    def init_extra(self, params: PyTree) -> PyTree:
        del params
        return {}

    def update_extra(self, extra: PyTree, params: PyTree) -> PyTree:
        del params
        return extra


class DialogueObjective(TokensObjective):
    """Write or read: what the objectives of a language model and of a VLM share.

    In a share of the steps (``model.reading_share``) the layers work as a VL-JEPA's predictor will:
    without the causal mask, each question by itself, its answer told by the mean over its tokens.
    In the others they predict the next token.
    """

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        if not model.predictor.causal:
            raise ConfigError("model.predictor.causal: a language model must not see what follows")
        if not 0 <= model.reading_share <= 1:
            raise ConfigError(f"model.reading_share: {model.reading_share} is not in 0 .. 1")
        self._config = config

    def _write_or_read(
        self,
        write: Callable[[PyTree], TokenLosses],
        read: Callable[[PyTree], TokenLosses],
        params: PyTree,
        rng: jax.Array,
    ) -> TokenLosses:
        share = self._config.model.reading_share
        if share in (0, 1):  # one program to compile, not two
            return read(params) if share else write(params)
        return jax.lax.cond(jax.random.bernoulli(rng, share), read, write, params)


class LanguageModelObjective(DialogueObjective):
    """Predict the next token, given those before it; or read.

    The last half of the layers, from which a predictor starts, reads alone; and in a share of the
    writing steps the first half is left out, so that the last has met bare words there too.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        model = config.model
        if not 0 <= model.skip_share <= 1:
            raise ConfigError(f"model.skip_share: {model.skip_share} is not in 0 .. 1")
        if model.reading_share and config.data.text.context is None:
            raise ConfigError("data.text.context: None; what reads has to be told something")
        if model.told_tokens < 1:
            raise ConfigError(f"model.told_tokens: {model.told_tokens} is less than 1")
        self._model = LanguageModel(model)
        self._kept = model.predictor.num_layers - model.predictor.num_layers // 2
        half = dataclasses.replace(model.predictor, num_layers=self._kept)
        self._half = LanguageModel(dataclasses.replace(model, predictor=half))
        reader = dataclasses.replace(half, causal=False)
        self._reader = LanguageModel(dataclasses.replace(model, predictor=reader))

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        tokens = jnp.zeros((1, self._config.data.text.length), jnp.int32)
        return self._model.init(rng, tokens, jnp.ones(tokens.shape, bool))["params"], {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> TokenLosses:
        del extra
        reading_rng, skipping_rng, places_rng = jax.random.split(rng, 3)

        def whole(params: PyTree) -> TokenLosses:
            tokens, mask = arrays["tokens"], arrays["mask"]
            logits = self._model.apply({"params": params}, tokens, mask)
            return _next_token_losses(logits, tokens, mask)

        def last_half(params: PyTree) -> TokenLosses:
            tokens, mask = arrays["tokens"], arrays["mask"]
            logits = self._half.apply({"params": self._last_half(params)}, tokens, mask)
            return _next_token_losses(logits, tokens, mask)

        def write(params: PyTree) -> TokenLosses:
            if not self._config.model.skip_share:
                return whole(params)
            skipped = jax.random.bernoulli(skipping_rng, self._config.model.skip_share)
            return jax.lax.cond(skipped, last_half, whole, params)

        def read(params: PyTree) -> TokenLosses:
            half = {"params": self._last_half(params)}
            logits = self._reader.apply(half, arrays, places_rng, method="read")
            return answer_losses(logits, arrays)

        return self._write_or_read(write, read, params, reading_rng)

    def _last_half(self, params: PyTree) -> PyTree:
        predictor = params["predictor"]
        layers = jax.tree.map(lambda x: x[-self._kept :], predictor["layers"])
        return {**params, "predictor": {**predictor, "layers": layers}}


@struct.dataclass
class AnswersAndClauses:
    """Attributes: the answers' tokens; and, where clauses have weight, float32 unit vectors of the
    visual tokens [B, n, d] and of the clauses [B, c, d] told of each clip, else ``None``."""

    answers: TokenLosses
    visual: Array | None
    clauses: Array | None


class VLMObjective(DialogueObjective):
    """Predict the tokens of the answers, given the clip and what was said before; or read.

    Where clauses have weight, reading steps have a second loss: each clause of the clip's captions
    is to be found at a single visual token. Answers alone do not bind what moves to how it moves;
    tokens that all tell all of a clip answer most questions about it as well.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        model = config.model
        if model.clauses_weight < 0:
            raise ConfigError(f"model.clauses_weight: {model.clauses_weight} is less than 0")
        if model.clauses_weight and (model.reading_share < 1 or config.data.text.context is None):
            raise ConfigError(
                "model.clauses_weight: needs reading_share=1, as writing has no such loss, and "
                "data.text.context, which says what clauses are"
            )
        self._model = VLM(model)
        reader = dataclasses.replace(model.predictor, causal=False)
        self._reader = VLM(dataclasses.replace(model, predictor=reader))

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        video = self._config.data.video
        size = (1, video.frames, video.image_size, video.image_size, 3)
        example = {
            "video": jnp.zeros(size, jnp.uint8),
            "tokens": jnp.zeros((1, 1), jnp.int32),
            "mask": jnp.ones((1, 1), bool),
        }
        params = self._model.init(rng, example)["params"]
        if self._config.model.clauses_weight:
            params |= self._model.init(rng, method="clause_scale")["params"]
        return params, {}

    def represent(
        self, params: PyTree, extra: PyTree, arrays: Arrays, rng: jax.Array
    ) -> AnswersAndClauses:
        del extra
        visual = self._reader.apply({"params": params}, arrays, method="visual_tokens")
        arrays = {name: array for name, array in arrays.items() if name != "video"}
        arrays |= {"visual_tokens": visual}

        def write(params: PyTree) -> TokenLosses:
            logits = self._model.apply({"params": params}, arrays)
            return _next_token_losses(logits, arrays["tokens"], arrays["answer_mask"])

        def read(params: PyTree) -> TokenLosses:
            logits = self._reader.apply({"params": params}, arrays, method="read")
            return answer_losses(logits, arrays)

        answers = self._write_or_read(write, read, params, rng)
        if not self._config.model.clauses_weight:
            return AnswersAndClauses(answers, None, None)
        return AnswersAndClauses(
            answers, *self._reader.apply({"params": params}, arrays, method="clauses")
        )

    def loss(
        self,
        params: PyTree,
        representations: AnswersAndClauses,
        arrays: Arrays,
        rng: jax.Array,
        mesh: Mesh | None,
    ) -> tuple[Float[Array, ""], losses.Metrics]:
        loss, metrics = super().loss(params, representations.answers, arrays, rng, mesh)
        if representations.clauses is None:
            return loss, metrics
        there = jnp.any(arrays["told_mask"], axis=-1)
        clauses, more = losses.late_interaction(
            representations.visual,
            representations.clauses,
            there,
            arrays["told_id"],
            self._reader.apply({"params": params}, method="clause_scale"),
        )
        metrics |= more | {"clauses/loss": jax.lax.stop_gradient(clauses)}
        return loss + self._config.model.clauses_weight * clauses, metrics

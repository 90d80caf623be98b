"""Rows for models that write or compare text (``data.rows`` has the other kinds)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.data.records import Annotation
from vljepa_jax.data.rows import (
    Choose,
    QueryTargetRows,
    Row,
    Rows,
    Spec,
    TextRows,
    several,
    text_id,
)
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.tokenizers import Tokenizer


class TripletRows(Rows):
    """Text triplets: tokens int32 [3, L] and mask bool [3, L] of a text, its paraphrase and what is
    not its paraphrase; text_id int32 [3], equal where texts are."""

    name = "triplets"
    trainable = False

    def __init__(self, config: TrainConfig):
        self._length = config.data.text.length
        self._tokenizer = Tokenizer(config.data.text.tokenizer)
        self._tokenizer.check_fits(config.model.y_encoder.vocab_size)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        length = config.data.text.length
        return {
            "tokens": ((3, length), np.int32),
            "mask": ((3, length), np.bool_),
            "text_id": ((3,), np.int32),
        }

    def usable(self, annotation: Annotation) -> bool:
        return annotation.task == "triplet"

    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        del dataset
        annotation = choose(annotations, rng)
        return Row(annotation.id, (), annotation.texts)

    def arrays(self, contents: Sequence[tuple[str, str, str]]) -> dict[str, np.ndarray]:
        texts = [text for triplet in contents for text in triplet]
        tokens, mask = self._tokenizer.encode(texts, self._length)
        shape = (len(contents), 3, self._length)
        ids = np.array([text_id(text) for text in texts], np.int32)
        return {
            "tokens": tokens.reshape(shape),
            "mask": mask.reshape(shape),
            "text_id": ids.reshape(shape[:2]),
        }


# The captions of the context, and what is asked: (question, answer).
Dialogue = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


class DialogueRows(Rows):
    """Questions about a clip, each with its answer: as one text for causal steps, or one by one for
    mean-pooled bidirectional ones, or both (``model.bidirectional_probability``).

    One text: tokens int32 [L], mask bool [L], and answer_mask bool [L], True at the tokens of
    answers. With ``data.text.context`` the clip's captions stand before the questions, in the place
    of the clip. Captions that are asked for stand last: they would give answers away.

    One by one: query_tokens int32 [S, Q], query_mask bool [S, Q]; and target_tokens int32 [S, A],
    target_mask bool [S, A], without the token that begins a text. The masks are False where a clip
    has fewer than S questions. With ``data.text.context`` also context_tokens int32 [C, W] and
    context_mask bool [C, W], the clauses of the captions, likewise without the first token; those
    that are there come first. context_id int32 [C] is equal where clauses are.
    """

    def __init__(self, config: TrainConfig):
        self._bidirectional = config.model.bidirectional_probability
        self._dialogue = config.data.text
        if self._dialogue.per_clip < 1:
            raise ConfigError(f"data.text.per_clip: {self._dialogue.per_clip} is less than 1")
        self._tokenizer = Tokenizer(self._dialogue.tokenizer)
        self._tokenizer.check_fits(config.model.predictor.vocab_size)
        if self._dialogue.context is not None:
            self._clause_break = compile_clause_break(self._dialogue.context.clause_break)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        text, bidirectional = config.data.text, config.model.bidirectional_probability
        together = {
            "tokens": ((text.length,), np.int32),
            "mask": ((text.length,), np.bool_),
            "answer_mask": ((text.length,), np.bool_),
        }
        one_by_one = {
            "query_tokens": ((text.per_clip, text.query_length), np.int32),
            "query_mask": ((text.per_clip, text.query_length), np.bool_),
            "target_tokens": ((text.per_clip, text.answer_length), np.int32),
            "target_mask": ((text.per_clip, text.answer_length), np.bool_),
        }
        if text.context is not None:
            clauses = (text.context.clauses, text.context.clause_length)
            one_by_one |= {
                "context_tokens": (clauses, np.int32),
                "context_mask": (clauses, np.bool_),
                "context_id": (clauses[:1], np.int32),
            }
        return (together if bidirectional < 1 else {}) | (one_by_one if bidirectional > 0 else {})

    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        asked = several(annotations, choose, self._dialogue.per_clip, rng)
        asked = sorted(asked, key=lambda annotation: annotation.task == "caption")  # stable

        def answer(annotation: Annotation) -> str:
            texts = annotation.texts or dataset.answer(annotation)
            return texts[rng.integers(len(texts))]

        inputs = asked[0].inputs
        turns = [(annotation.query, answer(annotation)) for annotation in asked]
        context = []
        if self._dialogue.context is not None:
            captions = [a for a in annotations if a.inputs == inputs and a.task == "caption"]
            context = [answer(captions[place]) for place in rng.permutation(len(captions))]
        return Row(asked[0].id, inputs, (tuple(context), tuple(turns)))

    def arrays(self, contents: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        together = self._together(contents) if self._bidirectional < 1 else {}
        return together | (self._one_by_one(contents) if self._bidirectional > 0 else {})

    def _together(self, contents: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        texts, answers = [], []
        for context, turns in contents:
            text, spans = " ".join(context), []
            for query, answer in turns:
                text = f"{text} {query}".strip()
                start = len(text)
                text = f"{text} {answer}".strip()
                spans.append((start, len(text)))
            texts.append(text)
            answers.append(spans)
        length = self._dialogue.length
        tokens, mask, answer_mask = self._tokenizer.encode_spans(texts, answers, length)
        return {"tokens": tokens, "mask": mask, "answer_mask": answer_mask}

    def _one_by_one(self, contents: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        dialogue = self._dialogue
        shape = (len(contents), dialogue.per_clip)
        asked = np.array([np.arange(shape[1]) < len(turns) for _, turns in contents])[..., None]
        queries, answers = [], []
        for _, turns in contents:
            rest = [("", "")] * (dialogue.per_clip - len(turns))
            for query, answer in (*turns, *rest):
                queries.append(query)
                answers.append(answer)
        query_tokens, query_mask = self._tokenizer.encode(queries, dialogue.query_length)
        tokens, mask = self._tokenizer.encode(answers, 1 + dialogue.answer_length)
        return self._context(contents) | {
            "query_tokens": query_tokens.reshape(*shape, -1),
            "query_mask": query_mask.reshape(*shape, -1) & asked,
            "target_tokens": tokens[:, 1:].reshape(*shape, -1),
            "target_mask": mask[:, 1:].reshape(*shape, -1) & asked,
        }

    def _context(self, contents: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        context = self._dialogue.context
        if context is None:
            return {}
        texts = []
        for captions, _ in contents:
            clauses = split_clauses(captions, self._clause_break)[: context.clauses]
            texts += clauses + [""] * (context.clauses - len(clauses))
        tokens, mask = self._tokenizer.encode(texts, 1 + context.clause_length)
        shape = (len(contents), context.clauses, context.clause_length)
        return {
            "context_tokens": tokens[:, 1:].reshape(shape),
            "context_mask": mask[:, 1:].reshape(shape),
            "context_id": np.array([text_id(text) for text in texts], np.int32).reshape(shape[:2]),
        }


def split_clauses(captions: Sequence[str], clause_break: re.Pattern) -> list[str]:
    """The clauses of all captions, in order."""
    clauses = [clause.strip() for caption in captions for clause in clause_break.split(caption)]
    return [clause for clause in clauses if clause]


def compile_clause_break(pattern: str) -> re.Pattern:
    """The pattern between clauses, of ``data.text.context``.

    Raises:
        ConfigError: it is no pattern, matches nothing at all, or has groups.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.text.context.clause_break: '{pattern}': {error}") from None
    if compiled.groups or compiled.match("") is not None:
        raise ConfigError(
            f"data.text.context.clause_break: '{pattern}' matches nothing at all, or has groups to"
            " keep; write (?:...) for a group"
        )
    return compiled


class TokenTargetRows(QueryTargetRows):
    """A query and its target as one text: tokens int32 [Q + L], the target and its end token right
    behind the query; mask bool [Q + L], True up to the end token; and target_mask bool [Q + L],
    True at the target's tokens and its end token, which the loss is of."""

    def __init__(self, config: TrainConfig):
        self._text = config.data.text
        self._tokenizer = Tokenizer(self._text.tokenizer)
        self._tokenizer.check_fits(config.model.predictor.vocab_size)
        self._end_id = self._tokenizer.special_id(self._text.end_token)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        length = config.data.text.query_length + config.data.text.target_length
        return {
            "tokens": ((length,), np.int32),
            "mask": ((length,), np.bool_),
            "target_mask": ((length,), np.bool_),
        }

    def arrays(self, contents: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        queries, targets = ([content[side] for content in contents] for side in (0, 1))
        text = self._text
        query, query_mask = self._tokenizer.encode(queries, text.query_length)
        target, mask = self._tokenizer.encode_ended(targets, text.target_length, self._end_id)
        arrays = {
            "tokens": np.concatenate([query, target], axis=1),
            "mask": np.concatenate([query_mask, mask], axis=1),
            "target_mask": np.concatenate([np.zeros_like(query_mask), mask], axis=1),
        }
        order = np.argsort(~arrays["mask"], axis=1, kind="stable")  # padding moves to the end
        return {name: np.take_along_axis(a, order, axis=1) for name, a in arrays.items()}


class DecodedRows(TextRows):
    """The arrays of ``TextRows``, and the target as the decoder writes it.

    tokens int32 [L], and mask bool [L], True up to the end token.
    """

    def __init__(self, config: TrainConfig):
        super().__init__(config)
        decoded = config.data.text
        self._length = decoded.length
        self._tokenizer = Tokenizer(decoded.tokenizer)
        self._tokenizer.check_fits(config.model.y_decoder.vocab_size)
        self._end_id = self._tokenizer.special_id(decoded.end_token)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        length = config.data.text.length
        decoded = {"tokens": ((length,), np.int32), "mask": ((length,), np.bool_)}
        return TextRows.spec(config) | decoded

    def arrays(self, contents: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        targets = [target for _, target in contents]
        tokens, mask = self._tokenizer.encode_ended(targets, self._length, self._end_id)
        return super().arrays(contents) | {"tokens": tokens, "mask": mask}

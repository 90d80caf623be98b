"""Rows for models that write or compare text (``data.rows`` has the other kinds)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.data.records import Annotation
from vljepa_jax.data.rows import Choose, Row, Spec, TextRows, several, text_id
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.tokenizers import Tokenizer


class TripletRows:
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

    def check(self, dataset: Dataset, field: str) -> None:
        del dataset, field

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


class DialogueRows:
    """What is asked of a clip, each question with its answer, as one text.

    tokens int32 [L], mask bool [L], and answer_mask bool [L], True at the tokens of answers. With
    ``data.text.context`` the clip's captions stand before the questions, and tell a reader what
    the clip would show. Captions that are asked for stand last: they would tell, too.
    """

    name = ""
    trainable = True

    def __init__(self, config: TrainConfig):
        self._dialogue = config.data.text
        if self._dialogue.per_clip < 1:
            raise ConfigError(f"data.text.per_clip: {self._dialogue.per_clip} is less than 1")
        self._tokenizer = Tokenizer(self._dialogue.tokenizer)
        self._tokenizer.check_fits(config.model.predictor.vocab_size)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        length = config.data.text.length
        return {
            "tokens": ((length,), np.int32),
            "mask": ((length,), np.bool_),
            "answer_mask": ((length,), np.bool_),
        }

    def check(self, dataset: Dataset, field: str) -> None:
        del dataset, field

    def usable(self, annotation: Annotation) -> bool:
        del annotation
        return True

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
        if self._dialogue.context:
            captions = [a for a in annotations if a.inputs == inputs and a.task == "caption"]
            told = [answer(captions[place]) for place in rng.permutation(len(captions))]
            turns = [*((text, "") for text in told), *turns]
        return Row(asked[0].id, inputs, tuple(turns))

    def arrays(self, contents: Sequence[tuple[tuple[str, str], ...]]) -> dict[str, np.ndarray]:
        texts, answers = [], []
        for turns in contents:
            text, spans = "", []
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


class DecodedRows(TextRows):
    """What ``TextRows`` hold, and the target as the decoder writes it: tokens int32 [L] and mask
    bool [L], True up to the end token."""

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

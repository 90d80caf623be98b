"""Arrays of a training row beside its clip, one class an objective.

All of them are pure functions of the record and of the generator they are handed, which is that
of the row's global index.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vljepa_jax.config import ConfigError, TrainConfig, nearest
from vljepa_jax.data.masks import draw_mask, token_counts
from vljepa_jax.data.records import LABELS_PREFIX, Annotation
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.tokenizers import Tokenizer

# name -> (shape of one row, dtype)
Spec = dict[str, tuple[tuple[int, ...], Any]]
# Draws one of several annotations by the weights of their tasks.
Choose = Callable[[Sequence[Annotation], np.random.Generator], Annotation]


@dataclasses.dataclass(frozen=True)
class Row:
    """One row, as drawn.

    Attributes:
        id: of the annotation that it is named after.
        inputs: media of the record that form the clip.
        content: for ``Rows.arrays`` of the same class.
    """

    id: str
    inputs: tuple[int, ...]
    content: Any


class Rows(abc.ABC):
    """How an objective turns annotations into rows."""

    name = ""  # of the choice of annotations, for the cache of visual tokens; "" takes all
    trainable = True  # whether annotations must be training examples of media and text

    @staticmethod
    @abc.abstractmethod
    def spec(config: TrainConfig) -> Spec:
        """The arrays beside the clip."""

    def check(self, dataset: Dataset, field: str) -> None:  # noqa: B027 (most need nothing)
        """Raises ConfigError, naming ``field``, where a dataset does not have what is asked."""

    def usable(self, annotation: Annotation) -> bool:
        """Whether an annotation (one that is trainable, where that is asked) is of use."""
        del annotation
        return True

    @abc.abstractmethod
    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        """Draws a row from the usable annotations of a record."""

    @abc.abstractmethod
    def arrays(self, contents: Sequence[Any]) -> dict[str, np.ndarray]:
        """The arrays of some rows."""


# ---------------------------------------------------------------------------------------------
# VL-JEPA: a query and a target text
# ---------------------------------------------------------------------------------------------
class QueryTargetRows(Rows):
    """Rows of a clip, a query and a target text; their content is (query, target)."""

    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        annotation = choose(annotations, rng)
        texts = annotation.texts or dataset.answer(annotation)
        target = texts[rng.integers(len(texts))]
        return Row(annotation.id, annotation.inputs, (annotation.query, target))


class TextRows(QueryTargetRows):
    """query_tokens, target_tokens int32 [L] and their masks bool [L], True where there is a token;
    target_id int32, equal where the target texts are (and, by one chance in 2**32 a pair, where
    they are not)."""

    def __init__(self, config: TrainConfig):
        model, self._text = config.embedder
        self._query_tokenizer = Tokenizer(self._text.query_tokenizer)
        self._target_tokenizer = Tokenizer(self._text.target_tokenizer)
        self._query_tokenizer.check_fits(model.predictor.vocab_size)
        self._target_tokenizer.check_fits(model.y_encoder.vocab_size)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        _, text = config.embedder
        return {
            "query_tokens": ((text.query_length,), np.int32),
            "query_mask": ((text.query_length,), np.bool_),
            "target_tokens": ((text.target_length,), np.int32),
            "target_mask": ((text.target_length,), np.bool_),
            "target_id": ((), np.int32),
        }

    def arrays(self, contents: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        text = self._text
        queries, query_mask = self._query_tokenizer.encode(
            [query for query, _ in contents], text.query_length
        )
        targets, target_mask = self._target_tokenizer.encode(
            [text.target_prompt + target for _, target in contents], text.target_length
        )
        return {
            "query_tokens": queries,
            "query_mask": query_mask,
            "target_tokens": targets,
            "target_mask": target_mask,
            "target_id": np.array([text_id(target) for _, target in contents], np.int32),
        }


def text_id(text: str) -> int:
    """A number for a text: equal for equal texts, and by one chance in 2**32 for others."""
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)


def several(
    annotations: Sequence[Annotation], choose: Choose, count: int, rng: np.random.Generator
) -> tuple[Annotation, ...]:
    """Up to ``count`` different annotations of one clip (of the same media)."""
    asked = [choose(annotations, rng)]
    left = [a for a in annotations if a.inputs == asked[0].inputs and a is not asked[0]]
    while left and len(asked) < count:
        asked.append(choose(left, rng))
        left = [a for a in left if a is not asked[-1]]
    return tuple(asked)


# ---------------------------------------------------------------------------------------------
# Probe: several questions about one clip
# ---------------------------------------------------------------------------------------------
class QuestionRows(Rows):
    """Up to Q different questions about a clip whose answers are of the label sets asked for.

    question_mask bool [Q], False where a clip has fewer; label int32 [Q], index into the
    question's label set; label_set int32 [Q], place of that set among the sorted names; where the
    model is told the question, query_tokens int32 [Q, L] and query_mask bool [Q, L].
    """

    def __init__(self, config: TrainConfig):
        self._questions = config.data.text
        self._sizes = config.model.label_sets
        self._place = {name: place for place, name in enumerate(sorted(self._sizes))}
        self._tokenizer = None
        if vocab_size := _query_vocab_size(config):
            self._tokenizer = Tokenizer(self._questions.query_tokenizer)
            self._tokenizer.check_fits(vocab_size)

    @property
    def name(self) -> str:
        return "+".join(self._place)

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        questions = config.data.text
        count = questions.per_clip
        spec = {
            "question_mask": ((count,), np.bool_),
            "label": ((count,), np.int32),
            "label_set": ((count,), np.int32),
        }
        if _query_vocab_size(config):
            spec |= {
                "query_tokens": ((count, questions.query_length), np.int32),
                "query_mask": ((count, questions.query_length), np.bool_),
            }
        return spec

    def check(self, dataset: Dataset, field: str) -> None:
        found = {name: len(labels) for name, labels in dataset.labels.items()}
        for name, size in self._sizes.items():
            if name not in found:
                raise ConfigError(
                    f"model.label_sets: {field} ({dataset.directory}) has no label set "
                    f"'{name}'{nearest(name, found)}; it has {', '.join(found) or 'none'}"
                )
            if found[name] != size:
                raise ConfigError(
                    f"model.label_sets.{name}: {size}, but {field} ({dataset.directory}) has "
                    f"{found[name]} labels in this set"
                )

    def usable(self, annotation: Annotation) -> bool:
        return annotation.gold is not None and label_set(annotation) in self._sizes

    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        del dataset
        asked = several(annotations, choose, self._questions.per_clip, rng)
        return Row(asked[0].id, asked[0].inputs, asked)

    def arrays(self, contents: Sequence[tuple[Annotation, ...]]) -> dict[str, np.ndarray]:
        count = self._questions.per_clip
        gold, sets = np.zeros((2, len(contents), count), np.int32)
        question_mask = np.zeros((len(contents), count), bool)
        for row, asked in enumerate(contents):
            for column, annotation in enumerate(asked):
                question_mask[row, column] = True
                gold[row, column] = annotation.gold
                sets[row, column] = self._place[label_set(annotation)]
        arrays = {"question_mask": question_mask, "label": gold, "label_set": sets}
        if self._tokenizer is not None:
            texts = [
                asked[column].query if column < len(asked) else ""
                for asked in contents
                for column in range(count)
            ]
            tokens, mask = self._tokenizer.encode(texts, self._questions.query_length)
            shape = (len(contents), count, self._questions.query_length)
            arrays |= {"query_tokens": tokens.reshape(shape), "query_mask": mask.reshape(shape)}
        return arrays


def _query_vocab_size(config: TrainConfig) -> int:
    pooler = config.model.pooler
    return pooler.query_vocab_size if pooler is not None else 0


def label_set(annotation: Annotation) -> str | None:
    """The name of the label set that the candidates are, ``None`` where they are spelt out."""
    if not isinstance(annotation.candidates, str):
        return None
    return annotation.candidates.removeprefix(LABELS_PREFIX)


# ---------------------------------------------------------------------------------------------
# V-JEPA 2's pretraining: masks
# ---------------------------------------------------------------------------------------------
class MaskRows(Rows):
    """kept_i and predicted_i int32 [k_i], [p_i]: token positions, for each of the model's masks.

    The annotations only choose the clips.
    """

    def __init__(self, config: TrainConfig):
        self._masks = config.model.masks
        self._grid = config.token_grid

    @staticmethod
    def spec(config: TrainConfig) -> Spec:
        spec = {}
        for index, mask in enumerate(config.model.masks):
            kept, predicted = token_counts(mask, config.token_grid)
            spec[f"kept_{index}"] = (kept,), np.int32
            spec[f"predicted_{index}"] = (predicted,), np.int32
        return spec

    def draw(
        self,
        annotations: Sequence[Annotation],
        dataset: Dataset,
        choose: Choose,
        rng: np.random.Generator,
    ) -> Row:
        del dataset
        annotation = choose(annotations, rng)
        masks = tuple(draw_mask(mask, self._grid, rng) for mask in self._masks)
        return Row(annotation.id, annotation.inputs, masks)

    def arrays(self, contents: Sequence[Any]) -> dict[str, np.ndarray]:
        return {
            f"{name}_{index}": np.stack([masks[index][which] for masks in contents])
            for index in range(len(self._masks))
            for which, name in enumerate(("kept", "predicted"))
        }

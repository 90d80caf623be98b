"""The table of objectives: one row says all that differs from one to another."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
from typing import Literal

from vljepa_jax.config.losses import LossConfig
from vljepa_jax.config.models import (
    LanguageModelConfig,
    ModelConfig,
    PretrainingConfig,
    ProbeConfig,
    TextPairsConfig,
    VisualReaderConfig,
    VLMConfig,
    YDecoderConfig,
)
from vljepa_jax.config.texts import (
    DecodedTextConfig,
    DialogueConfig,
    PlainTextConfig,
    QuestionsConfig,
    TextConfig,
    TokenTargetConfig,
)


@dataclasses.dataclass(frozen=True)
class ObjectiveEntry:
    """A row of the table.

    ``rows`` and ``objective`` are written "module:class", as entry points of packages are: the
    table belongs to the config, on which data and objectives stand, and a loader's worker that
    looks up its rows must not import models. ``pkgutil.resolve_name`` imports them.

    Attributes:
        model: class of ``config.model``.
        text: class of ``config.data.text``.
        loss: class of ``config.loss``; that of ``None`` where the objective knows one loss alone.
        sees: what a row shows; "either" leaves it to ``config.data.video``.
        rows: a ``data.rows.Rows``.
        objective: an ``objectives.base.Objective``, which also has the words of the summary.
    """

    model: type
    text: type
    loss: type
    sees: Literal["video", "text", "either"]
    rows: str
    objective: str


OBJECTIVES = {
    "vljepa": ObjectiveEntry(
        model=ModelConfig,
        text=TextConfig,
        loss=LossConfig,
        sees="video",
        rows="vljepa_jax.data.rows:TextRows",
        objective="vljepa_jax.objectives.vljepa:VLJEPAObjective",
    ),
    "probe": ObjectiveEntry(
        model=ProbeConfig,
        text=QuestionsConfig,
        loss=types.NoneType,
        sees="video",
        rows="vljepa_jax.data.rows:QuestionRows",
        objective="vljepa_jax.objectives.probe:ProbeObjective",
    ),
    "vjepa2": ObjectiveEntry(
        model=PretrainingConfig,
        text=types.NoneType,
        loss=types.NoneType,
        sees="video",
        rows="vljepa_jax.data.rows:MaskRows",
        objective="vljepa_jax.objectives.vjepa2:VJEPA2Objective",
    ),
    "text_pairs": ObjectiveEntry(
        model=TextPairsConfig,
        text=PlainTextConfig,
        loss=types.NoneType,
        sees="text",
        rows="vljepa_jax.data.text_rows:TripletRows",
        objective="vljepa_jax.objectives.text_pairs:TextPairsObjective",
    ),
    "language_model": ObjectiveEntry(
        model=LanguageModelConfig,
        text=DialogueConfig,
        loss=types.NoneType,
        sees="text",
        rows="vljepa_jax.data.text_rows:DialogueRows",
        objective="vljepa_jax.objectives.language_model:LanguageModelObjective",
    ),
    "vlm": ObjectiveEntry(
        model=VLMConfig,
        text=TokenTargetConfig,
        loss=types.NoneType,
        sees="video",
        rows="vljepa_jax.data.text_rows:TokenTargetRows",
        objective="vljepa_jax.objectives.vlm:VLMObjective",
    ),
    "visual_reader": ObjectiveEntry(
        model=VisualReaderConfig,
        text=DialogueConfig,
        loss=types.NoneType,
        sees="video",
        rows="vljepa_jax.data.text_rows:DialogueRows",
        objective="vljepa_jax.objectives.visual_reader:VisualReaderObjective",
    ),
    "y_decoder": ObjectiveEntry(
        model=YDecoderConfig,
        text=DecodedTextConfig,
        loss=types.NoneType,
        sees="either",
        rows="vljepa_jax.data.text_rows:DecodedRows",
        objective="vljepa_jax.objectives.y_decoder:YDecoderObjective",
    ),
}

# The types of the fields that follow the objective.
ObjectiveName = Literal[*OBJECTIVES]
AnyModel = functools.reduce(operator.or_, (entry.model for entry in OBJECTIVES.values()))
AnyText = functools.reduce(operator.or_, (entry.text for entry in OBJECTIVES.values()))
AnyLoss = functools.reduce(operator.or_, (entry.loss for entry in OBJECTIVES.values()))

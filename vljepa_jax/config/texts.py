"""Settings of the texts that a run reads: ``data.text``, one class a kind of row."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Tokenizers (local tokenizer.json) and static lengths."""

    query_tokenizer: str
    target_tokenizer: str
    query_length: int  # tokens; longer queries are cut
    target_length: int
    target_prompt: str  # prefix of every target, e.g. EmbeddingGemma's own; "" for none


@dataclasses.dataclass(frozen=True)
class QuestionsConfig:
    """Questions whose answers are label sets of the dataset (objective "probe")."""

    per_clip: int  # drawn of a clip; all of them share its pass through the X-Encoder
    query_tokenizer: str  # read only where the pooler is told the question
    query_length: int  # tokens; longer queries are cut


@dataclasses.dataclass(frozen=True)
class PlainTextConfig:
    """Text alone (objective "text_pairs")."""

    tokenizer: str
    length: int  # tokens; longer texts are cut


@dataclasses.dataclass(frozen=True)
class DecodedTextConfig:
    """Texts that are embedded, and written again from their embeddings (objective "y_decoder")."""

    embedded: TextConfig  # as in the run whose embeddings are decoded
    tokenizer: str  # of the decoder
    length: int  # tokens, the end token included; longer texts are cut, and have no end
    end_token: str  # a special token of the decoder's tokenizer


@dataclasses.dataclass(frozen=True)
class TokenTargetConfig:
    """A query and the target that is written after it, token by token (objective "vlm")."""

    tokenizer: str
    query_length: int  # tokens; longer queries are cut
    target_length: int  # tokens, the end token included; longer targets are cut, and have no end
    end_token: str  # a special token of the tokenizer


@dataclasses.dataclass(frozen=True)
class ContextConfig:
    """The captions of a clip, in place of the clip: as text, or clause by clause."""

    clause_break: str  # regular expression; what it matches stands between clauses
    clauses: int  # of all captions, at most
    clause_length: int  # tokens of one clause


@dataclasses.dataclass(frozen=True)
class DialogueConfig:
    """Questions about a clip with answers (objectives "language_model" and "visual_reader")."""

    tokenizer: str
    per_clip: int  # questions drawn of a clip
    context: ContextConfig | None  # captions in the place of the clip; None: the clip itself
    length: int  # tokens of all questions and answers, as one text; longer texts are cut
    query_length: int  # tokens of one question, in bidirectional steps
    answer_length: int  # tokens of one answer

"""Tokenizers from local files (``data.tokenizer_files``), with static lengths."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from vljepa_jax.data.tokenizer_files import tokenizer_file
from vljepa_jax.places import place

WORLD_TOKENIZER = "@world"
_WORLD_PATH = pathlib.Path(__file__).parent / "world" / "assets" / "tokenizer.json"
# The names of the padding token in the families that this project loads.
_PAD_TOKENS = ("[PAD]", "<pad>", "<|finetune_right_pad_id|>", "<|endoftext|>")

# One text at a time is short work: threads would only stand in the way of loader workers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def named_tokenizers(text: Any) -> dict[str, str]:
    """The tokenizers that ``config.data.text`` names: field, dotted -> path."""
    return {} if text is None else dict(_named(dataclasses.asdict(text), ""))


def _named(settings: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{where}{name}.")
        elif name.endswith("tokenizer"):
            yield where + name, value


def with_tokenizers(text: Any, paths: Mapping[str, str]) -> Any:
    """``config.data.text`` with other paths for the fields that ``paths`` has."""
    for field, path in paths.items():
        outer, _, inner = field.partition(".")
        value = with_tokenizers(getattr(text, outer), {inner: path}) if inner else path
        text = dataclasses.replace(text, **{outer: value})
    return text


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names the file and the reason."""


class Tokenizer:
    """Texts -> token ids, padded on the right.

    Special tokens are those that the file's own post-processor adds; one that is spelt out in a
    text is ordinary text.

    Attributes:
        path: the file.
        pad_token: the padding token: [PAD], or <pad> in Gemma's file, <|finetune_right_pad_id|> in
            Llama's and <|endoftext|> in Qwen's.
        pad_id: its id.
        vocab_size: number of ids, added tokens included.
        sha256: of the file's content, in hexadecimal.
    """

    def __init__(self, path: str):
        """Loads a file.

        Args:
            path: a ``tokenizer.json`` on a disk or in a bucket, an older file in its place
                (``data.tokenizer_files``), or "@world" for the one of the bundled video world.

        Raises:
            TokenizerError: the file is missing, is no tokenizer, or has no padding token.
        """
        self.path = str(_WORLD_PATH) if path == WORLD_TOKENIZER else path
        if not place(self.path).is_file():
            raise TokenizerError(f"{self.path}: no such tokenizer file")
        try:
            content = self.read()
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
            self._tokenizer.encode("")  # looks up the tokens that it adds to every text
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # of Rust, as which the library's panics come
            raise TokenizerError(f"{self.path}: is no tokenizer.json ({error})") from error
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        known = (t for t in _PAD_TOKENS if self._tokenizer.token_to_id(t) is not None)
        pad_token = next(known, None)
        if pad_token is None:
            raise TokenizerError(f"{self.path}: has no padding token ({' or '.join(_PAD_TOKENS)})")
        self.pad_token = pad_token
        self.pad_id = self._tokenizer.token_to_id(pad_token)
        self.vocab_size = self._tokenizer.get_vocab_size()

    def read(self) -> bytes:
        """The file, in the form of tokenizer.json."""
        return tokenizer_file(place(self.path))

    def check_fits(self, table_size: int) -> None:
        """Compares with the embedding table that the ids look up.

        Special tokens that no text becomes may lie beyond it: Gemma's file has one for images,
        which its text models have no row for.

        Raises:
            TokenizerError: a text, or the padding, could have an id that the table has no row for.
        """
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        ids = set(self._tokenizer.get_vocab().values()) - special
        ids |= {self.pad_id, *self._tokenizer.encode("").ids}
        if max(ids) >= table_size:
            raise TokenizerError(
                f"{self.path}: has ids up to {max(ids)}, but the embedding table has {table_size} "
                "rows; take the tokenizer.json that was published with the weights"
            )

    def vocabulary(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return self._tokenizer.get_vocab()

    def special_id(self, token: str) -> int:
        """The id of a special token.

        Raises:
            TokenizerError: there is no such one.
        """
        special = [t.content for t in self._tokenizer.get_added_tokens_decoder().values()]
        if token not in special:
            raise TokenizerError(
                f"{self.path}: has no special token '{token}', only {', '.join(special)}"
            )
        return self._tokenizer.token_to_id(token)

    def encode_ended(
        self, texts: Sequence[str], length: int | None, end_id: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``encode``, with ``end_id`` after the last token in place of all special tokens.

        A text that is cut has no end. With ``length`` None none is: all are as long as the longest.
        """
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        if length is None:
            length = 1 + max((len(encoding.ids) for encoding in encodings), default=0)
        ids = np.full((len(texts), length), self.pad_id, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, encoding in enumerate(encodings):
            tokens = [*encoding.ids, end_id][:length]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; special tokens say nothing."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True).strip()

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes texts.

        Args:
            texts: n texts; "" gives the special tokens alone.
            length: tokens a text, special tokens included; longer texts are cut.

        Returns:
            ids int32 [n, length] and mask bool [n, length], True where there is a token.
        """
        ids = np.full((len(texts), length), self.pad_id, np.int32)
        mask = np.zeros((len(texts), length), bool)
        self._tokenizer.enable_truncation(length)
        self._tokenizer.encode_special_tokens = True  # here, as it is lost on the way to workers
        for row, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts))):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = True
        return ids, mask

    def encode_whole(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, int32, special ones included, neither cut nor padded."""
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        return [np.array(e.ids, np.int32) for e in self._tokenizer.encode_batch_fast(list(texts))]

    def encode_spans(
        self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]], length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokenizes texts and finds the tokens of some of their characters.

        Args:
            texts: n texts.
            spans: of each text, (first, past the last) character of what is to be found.
            length: tokens a text, special tokens included; longer texts are cut.

        Returns:
            ids and mask as ``encode``; bool [n, length], True at tokens with a character of a span.
        """
        ids, mask = self.encode(texts, length)
        inside = np.zeros_like(mask)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(texts))):
            for token, (start, end) in enumerate(encoding.offsets):
                # A token may begin with the space before its word.
                inside[row, token] = any(
                    max(start, first) < min(end, last) for first, last in spans[row]
                )
        return ids, mask, inside

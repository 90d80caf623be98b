"""Tokenizers from local ``tokenizer.json`` files, with static lengths."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tokenizers

WORLD_TOKENIZER = "@world"
_WORLD_PATH = pathlib.Path(__file__).parent / "world" / "assets" / "tokenizer.json"
# The names of the padding token in the families that this project loads.
_PAD_TOKENS = ("[PAD]", "<pad>", "<|finetune_right_pad_id|>")

# One text at a time is short work: threads would only stand in the way of loader workers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names the file and the reason."""


class Tokenizer:
    """Texts -> token ids, padded on the right.

    Special tokens are those that the file's own post-processor adds.

    Attributes:
        path: the file.
        pad_id: id of the padding token ([PAD], or <pad> in Gemma's file and
            <|finetune_right_pad_id|> in Llama's).
        vocab_size: number of ids, added tokens included.
    """

    def __init__(self, path: str):
        """Loads a file.

        Args:
            path: a ``tokenizer.json``, or "@world" for the one of the bundled video world.

        Raises:
            TokenizerError: the file is missing, is no tokenizer, or has no padding token.
        """
        self.path = str(_WORLD_PATH) if path == WORLD_TOKENIZER else path
        if not pathlib.Path(self.path).is_file():
            raise TokenizerError(f"{self.path}: no such tokenizer file")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(self.path)
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"{self.path}: is no tokenizer.json ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        ids = (self._tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        pad_id = next((token_id for token_id in ids if token_id is not None), None)
        if pad_id is None:
            raise TokenizerError(f"{self.path}: has no padding token ({' or '.join(_PAD_TOKENS)})")
        self.pad_id = pad_id
        self.vocab_size = self._tokenizer.get_vocab_size()

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
        for row, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts))):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = True
        return ids, mask

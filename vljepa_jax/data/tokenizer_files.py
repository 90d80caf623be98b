"""The files that tokenizers come in: tokenizer.json, and older ones that say the same.

Those are CLIP's pair of vocab.json and merges.txt, and BERT's vocab.txt with tokenizer_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from vljepa_jax.json_text import read_json
from vljepa_jax.places import AnyPath


def tokenizer_file(path: AnyPath) -> bytes:
    """A tokenizer.json; of an older file, with those beside it, what would be one.

    Raises:
        OSError: a file that it needs is missing; others where a file is damaged.
    """
    if path.name == "vocab.json":
        merges = path.parent / "merges.txt"
        return _clip_bpe(path.read_bytes().decode(), merges.read_bytes().decode())
    if path.name == "vocab.txt":
        settings = read_json(path.parent / "tokenizer_config.json", dict)
        return _word_piece(path.read_bytes().decode(), settings)
    return path.read_bytes()


def _word_piece(vocabulary: str, settings: Mapping[str, Any]) -> bytes:
    """BERT's WordPiece in the form of tokenizer.json.

    Source: transformers' models/bert/tokenization_bert.py.

    Args:
        vocabulary: a token a line; the number of the line is its id.
        settings: of tokenizer_config.json, which says what happens to letters.
    """
    tokens = vocabulary.split("\n")
    ids = {token.rstrip("\r"): index for index, token in enumerate(tokens) if token}
    made = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made.post_processor = processors.BertProcessing(
        ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
    )
    made.decoder = decoders.WordPiece()
    return made.to_str().encode()


def _clip_bpe(vocabulary: str, merges: str) -> bytes:
    """CLIP's byte-level BPE in the form of tokenizer.json.

    Source: transformers' models/clip/tokenization_clip.py.

    Args:
        vocabulary: JSON, token -> id.
        merges: two symbols a line, after a first line that says the version.
    """
    ids = json.loads(vocabulary)
    pairs = [tuple(line.split(" ")) for line in merges.split("\n")[1:] if line]
    start, end = "<|startoftext|>", "<|endoftext|>"
    found = tokenizers.Tokenizer(
        models.BPE(ids, pairs, unk_token=end, end_of_word_suffix="</w>", fuse_unk=False)
    )
    found.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    words = tokenizers.Regex(
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    )
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    found.add_special_tokens([start, end])
    found.post_processor = processors.RobertaProcessing(
        (end, ids[end]), (start, ids[start]), trim_offsets=False, add_prefix_space=False
    )
    found.decoder = decoders.ByteLevel()
    return found.to_str().encode()

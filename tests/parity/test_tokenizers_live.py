"""vocab.txt of BERT against transformers' BertTokenizer, on awkward texts."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from vljepa_jax.data.tokenizers import Tokenizer

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

STRINGS = json.loads((Path(__file__).parent / "awkward_strings.json").read_text())


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False},
    ],
)
def test_word_piece(tmp_path, settings):
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=settings["do_lower_case"])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    made.train_from_iterator(STRINGS[:20], trainer)  # of the others, some letters are unknown
    made.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"), **settings)
    found = Tokenizer(str(tmp_path / "vocab.txt")).encode_whole(STRINGS)
    for text, ids in zip(STRINGS, found, strict=True):
        assert ids.tolist() == theirs(text)["input_ids"], text

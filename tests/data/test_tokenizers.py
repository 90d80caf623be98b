import json
import pickle

import numpy as np
import pytest
import tokenizers

from tests.helpers.sample_tokenizer import write_tokenizer
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError


def test_right_padding_and_special_tokens(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path / "t.json"))
    ids, mask = tokenizer.encode(["the dog", "", "moves"], 5)
    np.testing.assert_array_equal(ids, [[2, 5, 6, 3, 0], [2, 3, 0, 0, 0], [2, 8, 3, 0, 0]])
    np.testing.assert_array_equal(mask, ids != 0)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (0, 12)


def test_long_texts_are_cut_and_keep_their_end_token(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path / "t.json"))
    ids, mask = tokenizer.encode(["the dog moves left", "a"], 4)
    np.testing.assert_array_equal(ids, [[2, 5, 6, 3], [2, 4, 3, 0]])
    np.testing.assert_array_equal(mask.sum(1), [4, 3])
    assert tokenizer.encode(["the dog moves left"], 8)[1].sum() == 6


def test_without_special_tokens_the_empty_text_has_none(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path / "t.json", bos=False))
    assert not tokenizer.encode([""], 3)[1].any()


def test_copies_in_workers_agree(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path / "t.json"))
    copy = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(copy.encode(["a cat"], 6)[0], tokenizer.encode(["a cat"], 6)[0])


@pytest.mark.parametrize("pad", ["<pad>", "<|finetune_right_pad_id|>", "<|endoftext|>"])
def test_padding_tokens_of_other_families(tmp_path, pad):
    assert Tokenizer(write_tokenizer(tmp_path / "t.json", pad=pad)).pad_id == 0


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(TokenizerError, match="none.json: no such tokenizer file"):
        Tokenizer(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(TokenizerError, match="bad.json: is no tokenizer.json"):
        Tokenizer(str(tmp_path / "bad.json"))
    path = write_tokenizer(tmp_path / "t.json", pad="[NOPE]")
    with pytest.raises(TokenizerError, match=r"t.json: has no padding token \(\[PAD\] or"):
        Tokenizer(path)


def with_added(path, *added):
    tokenizer = tokenizers.Tokenizer.from_file(write_tokenizer(path))
    for token in added:
        tokenizer.add_tokens([token])
    tokenizer.save(str(path))
    return Tokenizer(str(path))


def test_a_tokenizer_must_fit_the_embedding_table(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path / "t.json"))
    tokenizer.check_fits(12)
    with pytest.raises(TokenizerError, match=r"t.json: has ids up to 11.* table has 11 rows"):
        tokenizer.check_fits(11)
    with pytest.raises(TokenizerError, match="ids up to 12"):
        with_added(tmp_path / "added.json", "dogs").check_fits(12)


def test_special_tokens_spelt_out_in_a_text_are_text(tmp_path):
    """So one beyond the table, as Gemma's for images, is never looked up; in workers neither."""
    image = tokenizers.AddedToken("<image>", special=True)
    tokenizer = with_added(tmp_path / "t.json", image)
    tokenizer.check_fits(12)
    for one in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        ids, _ = one.encode(["the <image> dog"], 6)
        np.testing.assert_array_equal(ids, [[2, 5, 1, 6, 3, 0]])


def test_clips_vocabulary_and_merges(tmp_path):
    """Ids by hand: bytes, their ends of words, one merge, and the special tokens."""
    tokens = ["c", "a", "t", "s", "c</w>", "a</w>", "t</w>", "s</w>", "at</w>", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t</w>\nc at</w>\n")
    tokenizer = Tokenizer(str(tmp_path / "vocab.json"))
    ids, mask = tokenizer.encode(["  CAT\n cat", "cats's", ""], 8)
    np.testing.assert_array_equal(ids[0][mask[0]], [10, 9, 9, 11])
    # "cats" merges nothing, as its end of word is the s; 's is a word of its own, unknown here.
    np.testing.assert_array_equal(ids[1][mask[1]][:5], [10, 0, 1, 2, 7])
    np.testing.assert_array_equal(ids[2][mask[2]], [10, 11])
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (12, 11)
    # What is copied beside a run or an export is one tokenizer.json.
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read())
    copy = Tokenizer(str(tmp_path / "tokenizer.json"))
    np.testing.assert_array_equal(
        copy.encode(["cat sat"], 6)[0], tokenizer.encode(["cat sat"], 6)[0]
    )
    assert copy.sha256 == tokenizer.sha256
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match="vocab.json: is no tokenizer.json .*merges.txt"):
        Tokenizer(str(tmp_path / "vocab.json"))


def write_word_piece(directory, **settings):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "dog", "cat", "##s", "Cat"]
    words += ["\u4e2d", "\u00e9", "e", "!", "[", "]"]
    (directory / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(directory / "vocab.txt")


def test_vocab_txt_of_bert(tmp_path):
    """Ids by hand: lines count from 0; lower-cased, accents gone, pieces of words, a CJK word."""
    tokenizer = Tokenizer(write_word_piece(tmp_path, do_lower_case=True))
    found = tokenizer.encode_whole(["The Cats!", "a\u4e2d\u00e9 bird", "[SEP]", ""])
    expected = [[2, 6, 8, 9, 14, 3], [2, 5, 11, 13, 1, 3], [2, 15, 1, 16, 3], [2, 3]]
    assert [ids.tolist() for ids in found] == expected
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (0, 17)
    cased = Tokenizer(write_word_piece(tmp_path, do_lower_case=False))
    assert cased.encode_whole(["Cat \u00e9"])[0].tolist() == [2, 10, 12, 3]
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match=r"vocab.txt: .*tokenizer_config.json: cannot be read"):
        Tokenizer(str(tmp_path / "vocab.txt"))

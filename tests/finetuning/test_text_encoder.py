"""A published text encoder in the place of a model's own, with a tiny BERT."""

import dataclasses
import io
import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tests.helpers.published_twins import BERT_MODULES, BERT_POOLING, write_bert
from tests.helpers.random_run import random_params
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_train_config
from tests.helpers.twins import BERT_TWIN
from vljepa_jax import terminal
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.convert.text_encoders import text_encoder_config
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.finetuning.text_encoder import known_texts, with_text_encoder
from vljepa_jax.inference.model import Model
from vljepa_jax.training import head_init

QUIET = terminal.PlainConsole(file=io.StringIO())


@pytest.fixture
def directory(tmp_path):
    return write_bert(tmp_path / "bert")


def test_sizes_come_from_the_files(directory):
    assert text_encoder_config(directory) == BERT_TWIN
    cls = BERT_POOLING | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (directory / "1_Pooling/config.json").write_text(json.dumps(cls))
    (directory / "modules.json").write_text(json.dumps(BERT_MODULES[:2]))
    expected = dataclasses.replace(BERT_TWIN, pooling="cls", normalised=False)
    assert text_encoder_config(directory) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config.json: is missing"),
        ("config.json", '{"model_type": "xlm-roberta"}', "is 'xlm-roberta'; a Y-Encoder is a bert"),
        ("config.json", '{"model_type": "bert"}', r"config.json: .*vocab_size"),
        (
            "config.json",
            '{"model_type": "qwen3"}',
            r"compared with qwen3-embedding-0.6b: vocab_siz",
        ),
        (
            "1_Pooling/config.json",
            '{"pooling_mode": "weightedmean"}',
            "pools by 'weightedmean', an",
        ),
        ("1_Pooling/config.json", None, "is missing; it says how the model pools"),
        ("modules.json", None, "it says how the model pools"),
    ],
)
def test_what_is_no_y_encoder(directory, name, content, message):
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_text(content)
    with pytest.raises(ConversionError, match=message):
        text_encoder_config(directory)


def test_known_texts_are_those_of_whole_words(tmp_path):
    """Of the world's tokenizer, of which "ect" is a piece and no word."""
    found = known_texts(Tokenizer("@world"), ["a dog that spins", "a hound that spins", "red car"])
    assert {"dog", "red", "a dog that spins", "red car"} <= set(found)
    assert not {"ect", "a hound that spins", "to"} & set(found)
    assert len(found) == len(set(found)) > 200


@pytest.fixture
def changed(directory):
    """(config, parameters, the same with the BERT)."""
    write_tokenizer(directory / "tokenizer.json", "dog cat red car spins", bos=False)
    config = tiny_train_config()
    params = random_params(config)
    return config, params, with_text_encoder(config, params, directory, ["red car"], QUIET)


def test_the_new_head_puts_texts_where_the_old_one_did(changed):
    """scikit-learn's ridge regression from one Y-Encoder's embeddings to the other's, 1e-4."""
    config, params, (new, made) = changed
    texts = known_texts(Tokenizer(config.data.text.target_tokenizer), ["red car"])
    wanted = Model(config, params).embed_text(texts)  # unit vectors
    plain = {"kernel": np.eye(BERT_TWIN.hidden_size, dtype=np.float32)}
    alone = dataclasses.replace(new.model, embedding_size=BERT_TWIN.hidden_size)
    given = Model(dataclasses.replace(new, model=alone), {**made, "y_head": plain}).embed_text(
        texts
    )
    alpha = head_init._TRANSLATION_RIDGE * (given**2).sum() / given.shape[1]
    ridge = Ridge(alpha=alpha, fit_intercept=False).fit(given, wanted)
    np.testing.assert_allclose(made["y_head"]["kernel"], ridge.coef_.T, atol=1e-4)


def test_all_else_of_the_model_is_what_it_was(changed):
    config, params, (new, made) = changed
    same = set(params) - {"y_encoder", "y_head"}
    assert all(made[name] is params[name] for name in same)
    assert new.data.text.query_tokenizer == config.data.text.query_tokenizer
    assert new.data.text.target_tokenizer.endswith("bert/tokenizer.json")


def test_a_folder_without_weights_or_tokenizer(directory):
    config = tiny_train_config()
    params = random_params(config)

    def refused(message):
        with pytest.raises(ConversionError, match=message):
            with_text_encoder(config, params, directory, [], QUIET)

    (directory / "tokenizer.json").unlink(missing_ok=True)
    refused("holds neither tokenizer.json nor vocab.txt; fetch it with the weights")
    write_tokenizer(directory / "tokenizer.json", " ".join(map(str, range(10_000))))
    refused("has ids up to 10003, but the embedding table has")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused("pytorch_model.bin is pickled, see docs/weights.md")
    with pytest.raises(ConversionError, match="there is no such folder"):
        with_text_encoder(config, params, directory / "none", [], QUIET)

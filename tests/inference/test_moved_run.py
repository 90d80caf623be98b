"""A run is its directory: moved or exported, it opens and says the same."""

import dataclasses
import shutil

import numpy as np
import pytest

import vljepa_jax
from tests.helpers.random_run import random_params, save_run
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.data.tokenizers import with_tokenizers
from vljepa_jax.run_dir import check_config, load_config

CLIP = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def with_files(directory):
    """A config whose tokenizers are two files of one's own."""
    directory.mkdir()
    config = tiny_train_config()
    paths = {
        "query_tokenizer": write_tokenizer(directory / "query.json"),
        "target_tokenizer": write_tokenizer(directory / "target.json", "right left dog a"),
    }
    text = with_tokenizers(config.data.text, paths)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))


def test_a_run_is_moved_without_what_its_config_names(tmp_path):
    config = with_files(tmp_path / "tokenizers")
    save_run(tmp_path / "run", config, random_params(config))
    before = vljepa_jax.load(tmp_path / "run")
    said = before.embed_text("a dog"), before.embed_video(CLIP, "the cat moves")
    shutil.rmtree(tmp_path / "tokenizers")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    after = vljepa_jax.load(tmp_path / "elsewhere")
    np.testing.assert_array_equal(after.embed_text("a dog"), said[0])
    np.testing.assert_array_equal(after.embed_video(CLIP, "the cat moves"), said[1])
    assert after.fingerprint == before.fingerprint


def test_a_run_of_before_is_read_with_the_tokenizers_that_its_config_names(tmp_path):
    config = with_files(tmp_path / "tokenizers")
    save_run(tmp_path / "run", config, random_params(config))
    shutil.rmtree(tmp_path / "run" / "tokenizers")
    assert vljepa_jax.load(tmp_path / "run").config.data.text == config.data.text


def test_a_run_is_not_continued_with_another_tokenizer(tmp_path):
    config = with_files(tmp_path / "tokenizers")
    save_run(tmp_path / "run", config, random_params(config))
    check_config(tmp_path / "run", config)
    write_tokenizer(tmp_path / "tokenizers" / "query.json", "cat dog the a")
    with pytest.raises(ConfigError, match="data.text.query_tokenizer: .* this run began with"):
        check_config(tmp_path / "run", config)


def test_a_moved_run_is_continued_with_the_tokenizers_that_it_holds(tmp_path):
    config = with_files(tmp_path / "tokenizers")
    save_run(tmp_path / "run", config, random_params(config))
    shutil.rmtree(tmp_path / "tokenizers")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    check_config(tmp_path / "elsewhere", load_config(tmp_path / "elsewhere"))
    other = dataclasses.replace(load_config(tmp_path / "elsewhere"), seed=config.seed + 1)
    with pytest.raises(ConfigError, match=r"seed: \d+ -> \d+\nTake"):  # and nothing else
        check_config(tmp_path / "elsewhere", other)

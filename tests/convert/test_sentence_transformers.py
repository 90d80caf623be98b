"""A BERT of sentence-transformers: its own files say how it pools, and with which prompts."""

import dataclasses
import json

import chex
import pytest
from rich.console import Console

from tests.helpers.published_twins import (
    BERT_MODULES,
    BERT_POOLING,
    bert_config,
    golden_weights,
    write_bert,
)
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.twins import BERT_TWIN, parameters
from vljepa_jax import run_dir
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.convert.sentence_transformers import with_mode, with_switches

QUIET = Console(quiet=True)


@pytest.fixture
def config(tmp_path):
    return bert_config(tmp_path)


@pytest.fixture
def directory(tmp_path):
    return write_bert(tmp_path / "bert")


def changed(config, prompt=None, **changes):
    own = dataclasses.replace(config.model.y_encoder, **changes)
    text = config.data.text
    if prompt is not None:
        text = dataclasses.replace(text, target_prompt=prompt)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, y_encoder=own),
        data=dataclasses.replace(config.data, text=text),
    )


def refused(config, directory, tmp_path):
    with pytest.raises(ConversionError) as error:
        convert_checkpoint(config, {"y_encoder": directory}, tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()
    return str(error.value)


def test_there_and_back(config, directory, tmp_path):
    config = changed(config, prompt="the ")
    convert_checkpoint(config, {"y_encoder": directory}, tmp_path / "run", QUIET)
    _, params = run_dir.load_params(tmp_path / "run")
    chex.assert_trees_all_equal(params["y_encoder"], parameters(BERT_TWIN, golden_weights("bert")))
    export_checkpoint(tmp_path / "run", tmp_path / "out", QUIET)
    again = tmp_path / "out" / "y_encoder"
    prompts = json.loads((again / "config_sentence_transformers.json").read_text())
    assert prompts["prompts"][prompts["default_prompt_name"]] == "the "
    kinds = [
        module["type"].rpartition(".")[2]
        for module in json.loads((again / "modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    convert_checkpoint(config, {"y_encoder": again}, tmp_path / "again", QUIET)
    _, found = run_dir.load_params(tmp_path / "again")
    chex.assert_trees_all_equal(found["y_encoder"], params["y_encoder"])


@pytest.mark.parametrize(
    ("pooling", "told"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "is 'cls', where"),
        ({"pooling_mode_weightedmean_tokens": True}, "is ['mean', 'weightedmean'], where"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "is 'mean_sqrt_len_tokens', where"),
    ],
)
def test_pooling_that_the_recipe_has_not(config, directory, tmp_path, pooling, told):
    path = directory / "1_Pooling" / "config.json"
    path.write_text(json.dumps(BERT_POOLING | pooling))
    answer = refused(config, directory, tmp_path)
    mend = "set model.y_encoder.pooling, which may be mean, cls, lasttoken or max"
    assert f"{path}: pooling_mode: {told} 'mean' is expected; {mend}" in answer


def test_pooling_may_be_named_by_both_versions():
    new = {"embedding_dimension": 18, "pooling_mode": "cls", "include_prompt": True}
    assert with_mode(new) == new
    old = with_switches(new)
    assert old["pooling_mode_cls_token"] is True
    assert not any(old[key] for key in old if "pooling_mode" in key and "cls" not in key)
    assert with_mode(old) == new


def test_other_modules(config, directory, tmp_path):
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (directory / "modules.json").write_text(json.dumps([*BERT_MODULES[:2], dense]))
    answer = refused(config, directory, tmp_path)
    assert "modules.json: the modules are Transformer, Pooling in '1_Pooling', Dense in" in answer
    (directory / "modules.json").write_text(json.dumps(BERT_MODULES[:2]))
    assert "set model.y_encoder.normalised" in refused(config, directory, tmp_path)
    convert_checkpoint(
        changed(config, normalised=False), {"y_encoder": directory}, tmp_path / "r", QUIET
    )
    (directory / "modules.json").write_text('{"a": 1}')
    assert "modules.json: is JSON, but not a list" in refused(config, directory, tmp_path)
    (directory / "modules.json").write_text("[1]")
    assert "modules.json: is no list of modules" in refused(config, directory, tmp_path)


def test_files_that_are_missing(config, directory, tmp_path):
    for name in ("modules.json", "1_Pooling/config.json", "model.safetensors"):
        (directory / name).unlink()
    (directory / "pytorch_model.bin").write_bytes(b"anything")
    answer = refused(config, directory, tmp_path)
    for name in ("modules.json", "1_Pooling/config.json"):
        assert f"{directory / name}: is missing; it says how the model pools" in answer
    assert "pytorch_model.bin is pickled, see docs/weights.md" in answer
    (directory / "pytorch_model.bin").rename(directory / "weights.safetensors")
    answer = refused(config, directory, tmp_path)
    assert "if weights.safetensors is that file under another name, name it model.safe" in answer
    for text in (
        "version https://git-lfs.github.com/spec/v1\noid",
        "Access to model x is restricted",
    ):
        (directory / "model.safetensors").write_text(text)
        first = text.partition("\n")[0]
        answer = refused(config, directory, tmp_path)
        assert f"it begins '{first}': fetch it anew, with access to the repository" in answer
        (directory / "config.json").write_text(text)
        lines = refused(config, directory, tmp_path).splitlines()
        (settings,) = (line for line in lines if f"{directory}/config.json: is no JSON" in line)
        assert f"it begins '{first}': fetch it anew, with access to the repository" in settings


def test_a_tokenizer_of_another_vocabulary(config, directory, tmp_path):
    """Of no more ids than the table has rows: only the words differ."""
    write_tokenizer(tmp_path / "tokenizer.json", words="quite other words")
    answer = refused(config, directory, tmp_path)
    assert f"tokenizer.json: has another vocabulary than {directory}" in answer


def test_prompts(config, directory, tmp_path):
    path = directory / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "document": "passage: "}
    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "document"}))
    answer = refused(config, directory, tmp_path)
    assert (
        f"{path}: every text begins with 'passage: ', where data.text.target_prompt is ''" in answer
    )
    assert "another of its prompts: query 'query: ', document 'passage: '" in answer
    for prompt in prompts.values():
        run = tmp_path / prompt[:-2]
        convert_checkpoint(changed(config, prompt), {"y_encoder": directory}, run, QUIET)
    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": None}))
    console = Console(record=True, width=200)
    convert_checkpoint(config, {"y_encoder": directory}, tmp_path / "none", console)
    assert "its prompts, for data.text.target_prompt: query 'query: '" in console.export_text()
    path.write_text(json.dumps({"prompts": {}, "default_prompt_name": "query"}))
    assert "'default_prompt_name' is 'query', which 'prompts' has not" in refused(
        config, directory, tmp_path
    )
    path.write_text(json.dumps({"prompts": ["query: "]}))
    assert "'prompts' is no object of texts" in refused(config, directory, tmp_path)

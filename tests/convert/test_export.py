import dataclasses
import json
import shutil
from pathlib import Path

import chex
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

import vljepa_jax
from tests.helpers.published_twins import golden_weights, twin_config, write_all
from tests.helpers.tiny import tiny_train_config
from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    LLAMA_TWIN,
    QWEN3_TWIN,
    VJEPA2_TWIN,
    parameters,
    table_of,
)
from vljepa_jax import run_dir
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.exported import is_exported, load_exported
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError, export
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.run_dir import CheckpointError

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(config, directory of a run, directory of its export)."""
    path = tmp_path_factory.mktemp("export")
    config = twin_config(path)
    (path / "published").mkdir()
    convert_checkpoint(config, write_all(path / "published"), path / "run", CONSOLE)
    export_checkpoint(path / "run", path / "out", CONSOLE)
    return config, path / "run", path / "out"


@pytest.mark.parametrize(
    ("family", "twin"),
    [
        ("vjepa2", VJEPA2_TWIN),
        ("llama", LLAMA_TWIN),
        ("gemma", GEMMA_TWIN),
        ("qwen3", QWEN3_TWIN),
        ("bert", BERT_TWIN),
    ],
)
def test_export_is_the_inverse_of_conversion(family, twin):
    weights = golden_weights(family)
    found = dict(export(parameters(twin, weights), table_of(twin)))
    assert found.keys() == weights.keys()
    for key, array in weights.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_what_is_exported_converts_back(exported, tmp_path):
    config, run, out = exported
    predictor = dataclasses.replace(config.model.predictor, first_layer=0)  # layers are renumbered
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, predictor=predictor)
    )
    directories = {part: out / part for part in ("x_encoder", "predictor", "y_encoder")}
    convert_checkpoint(config, directories, tmp_path / "again", CONSOLE)
    (_, before), (_, after) = (
        run_dir.load_params(run),
        run_dir.load_params(tmp_path / "again"),
    )
    for part in ("x_encoder", "token_embedding", "predictor", "y_encoder"):
        chex.assert_trees_all_equal(before[part], after[part])


def test_an_exported_directory_opens_as_the_run_did(exported, tmp_path):
    _, run, out = exported
    moved = shutil.copytree(out, tmp_path / "moved")
    assert is_exported(moved)
    beside = shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run, beside / "y_decoder")  # where a Y-Decoder's run lies
    assert not is_exported(beside)
    assert not is_exported(tmp_path)
    config, params = load_exported(moved)
    chex.assert_trees_all_equal(params, run_dir.load_params(run)[1])
    models = [vljepa_jax.load(directory) for directory in (moved, run)]
    assert models[0].fingerprint == models[1].fingerprint
    assert models[0].card["name"] == "moved"
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), np.uint8)
    one, other = (m.embed_video(frames, "a dog") for m in models)
    np.testing.assert_array_equal(one, other)
    one, other = (m.embed_text("a dog") for m in models)
    np.testing.assert_array_equal(one, other)
    assert Path(config.data.text.query_tokenizer) == moved / "predictor/tokenizer.json"


def test_an_exported_directory_with_faults_names_them_all(exported, tmp_path):
    _, _, out = exported
    broken = shutil.copytree(out, tmp_path / "broken")
    (broken / "x_encoder/model.safetensors").unlink()
    rest = safetensors.numpy.load_file(out / "vljepa.safetensors")
    rest["y_head/kernel"] = rest["y_head/kernel"][:, :-1]
    rest["other"] = rest.pop("log_logit_scale")
    safetensors.numpy.save_file(rest, broken / "vljepa.safetensors")
    with pytest.raises(ConversionError) as raised:
        load_exported(broken)
    for fault in (
        "x_encoder: ",
        "vljepa.safetensors: y_head/kernel: float32[",
        "log_logit_scale: absent in the checkpoint",
        "other: float32[] in the checkpoint, absent here",
    ):
        assert fault in str(raised.value)
    (broken / "vljepa.safetensors").write_bytes(b"{")
    with pytest.raises(ConversionError, match="vljepa.safetensors: cannot be read"):
        load_exported(broken)
    with pytest.raises(CheckpointError, match="broken': checkpoint does not fit"):
        vljepa_jax.load(tmp_path / "broken")


def test_the_rest_is_one_file(exported):
    _, run, out = exported
    _, params = run_dir.load_params(run)
    rest = safetensors.numpy.load_file(out / "vljepa.safetensors")
    assert sorted(rest) == [
        "log_logit_scale",
        "predictor_head/kernel",
        "vision_projection/bias",
        "vision_projection/kernel",
        "y_head/kernel",
    ]
    np.testing.assert_array_equal(rest["y_head/kernel"], params["y_head"]["kernel"])
    np.testing.assert_array_equal(rest["log_logit_scale"], params["log_logit_scale"])


def test_config_json_is_that_of_the_slice(exported):
    _, _, out = exported
    settings = json.loads((out / "predictor/config.json").read_text())
    assert settings["num_hidden_layers"] == 2
    assert settings["is_causal"] is False
    assert settings["rope_parameters"]["rope_type"] == "llama3"


def test_sentence_transformers_finds_its_modules_and_the_tokenizer(exported):
    config, _, out = exported
    modules = json.loads((out / "y_encoder/modules.json").read_text())
    assert [(m["path"], m["type"].rsplit(".", 1)[1]) for m in modules] == [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Dense", "Dense"),
    ]
    pooling = json.loads((out / "y_encoder/1_Pooling/config.json").read_text())
    assert [key for key, on in pooling.items() if on is True] == [
        "include_prompt",
        "pooling_mode_mean_tokens",
    ]
    assert pooling["word_embedding_dimension"] == 18
    for part in ("predictor", "y_encoder"):
        assert Tokenizer(str(out / part / "tokenizer.json")).pad_token == "[PAD]"
        settings = json.loads((out / part / "tokenizer_config.json").read_text())
        assert settings["pad_token"] == "[PAD]"
    assert settings["model_max_length"] == config.data.text.target_length


def test_refusals(exported, tmp_path):
    _, run, out = exported
    with pytest.raises(ConversionError, match="out: is not empty"):
        export_checkpoint(run, out, CONSOLE)
    run_dir.save_params(tmp_path / "tiny", tiny_train_config(), {"a": np.ones(2)})
    with pytest.raises(ConversionError, match="x_encoder: rope is 'interleaved'"):
        export_checkpoint(tmp_path / "tiny", tmp_path / "none", CONSOLE)
    assert not (tmp_path / "none").exists()
    with pytest.raises(run_dir.CheckpointError, match="not a run directory"):
        export_checkpoint(tmp_path / "nothing", tmp_path / "none", CONSOLE)

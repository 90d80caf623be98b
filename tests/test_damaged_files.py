"""Readers of what the package and others wrote name the damaged file and the mend."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from tests.fuzz.targets import TARGETS
from tests.helpers.published_twins import twin_config, write_part
from tests.helpers.random_run import random_params, save_run
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_train_config
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError
from vljepa_jax.convert.published import read_backbone
from vljepa_jax.data.shards import DatasetError
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError
from vljepa_jax.evals.report import read_report
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
from vljepa_jax.run_dir import CheckpointError

DEEP = "[" * 100_000
NUMBER = "1" + "0" * 400
JSON = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "deep": lambda text: text.replace("{", '{"x": ' + DEEP, 1),
    "latin-1": lambda text: text.encode().replace(b'"', b"\xe9", 1),
    "another kind": lambda text: "3",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    config = tiny_train_config()
    save_run(folder / "run", config, random_params(config))
    for name in ("datasets", "indices"):
        TARGETS[name].prepare(folder)
    return folder


@pytest.fixture
def copied(sound, tmp_path):
    def copy(name):
        return shutil.copytree(sound / name, tmp_path / name)

    return copy


def damage(path, how):
    damaged = JSON[how](path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", JSON)
def test_the_config_of_a_run(copied, how):
    directory = copied("run")
    damage(directory / "config.json", how)
    with pytest.raises(ConfigError, match="run/config.json: .*copy it anew"):
        run_dir.load_config(directory)
    with pytest.raises(ConfigError, match="run/config.json: .*or take another --workdir"):
        run_dir.claim(directory, tiny_train_config())


@pytest.mark.parametrize("value", [NUMBER, "[[]]", '"x"', "null", "{}"])
@pytest.mark.parametrize("field", ["steps", "model", "data", "optimizer"])
def test_a_field_of_a_wrong_kind_in_the_config(copied, field, value):
    path = copied("run") / "config.json"
    content = json.loads(path.read_text()) | {field: "HERE"}
    path.write_text(json.dumps(content).replace('"HERE"', value))
    if field == "steps" and value == NUMBER:
        return  # as many as one likes
    with pytest.raises(ConfigError, match=f"(?s)run/config.json: .*{field}"):
        run_dir.load_config(path.parent)


@pytest.mark.parametrize("line", ["", "{", "[1]", '{"loss": 2}', DEEP, '{"step": "x"}'])
def test_a_bad_line_amid_the_metrics(copied, line):
    directory = copied("run")
    path = directory / "metrics.jsonl"
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, line, second, third]) + "\n")
    with pytest.raises(CheckpointError, match="metrics.jsonl, line 2: .*; delete the line"):
        run_dir.read_metrics(directory)
    path.write_text("\n".join([first, second, line]))  # a killed process left it
    assert len(run_dir.read_metrics(directory)) == 2


def test_the_summary_and_the_report_of_a_run(copied):
    directory = copied("run")
    (directory / "train.json").write_text("{")
    with pytest.raises(CheckpointError, match="train.json: is no JSON .*; remove it"):
        run_dir.read_summary(directory)
    (directory / "report.json").write_text("[]")
    with pytest.raises(ConfigError, match="report.json: is JSON, but not an object; remove it"):
        read_report(directory)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_every_file_of_a_checkpoint_cut_short(sound, tmp_path):
    """It is read all the same, where nothing needs what is gone, or refused by name."""
    files = [file for file in (sound / "run/checkpoints").rglob("*") if file.is_file()]
    messages = []
    for number, file in enumerate(files):
        directory = shutil.copytree(sound / "run", tmp_path / str(number))
        damaged = directory / file.relative_to(sound / "run")
        damaged.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        try:
            run_dir.load_teacher_params(directory)
        except CheckpointError as error:
            messages.append(str(error).replace(str(directory), "run"))
    assert len(messages) >= 4
    told = (
        r"'run/checkpoints/3[^\n]*' cannot be read \([^\n]+\): it is damaged. Copy it anew, or .*"
    )
    assert all(re.fullmatch(told, message) for message in messages), messages


# ---------------------------------------------------------------------------------------------
# Datasets and indices
# ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", JSON)
def test_the_metadata_of_a_dataset(copied, how):
    directory = copied("dataset")
    damage(directory / "dataset.json", how)
    with pytest.raises(DatasetError, match="dataset.json: .*copy the dataset or make it anew"):
        open_dataset(directory)


@pytest.mark.parametrize("field", ["splits", "labels", "name"])
def test_a_wrong_field_in_the_metadata(copied, field):
    path = copied("dataset") / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: {"train": [1]}}))
    with pytest.raises(DatasetError, match="dataset.json: is damaged .*make it anew"):
        open_dataset(path.parent)


@pytest.mark.parametrize("parts", [3, [3], ["x"], [{"media": 10**400}], [{"media": -1}]])
def test_wrong_parts_in_the_metadata(copied, parts):
    path = copied("dataset") / "dataset.json"
    content = json.loads(path.read_text())
    sound = content["splits"]["train"][0]
    if isinstance(parts, list) and isinstance(parts[0], dict):
        parts = [sound | parts[0]]
    content["splits"]["train"] = parts
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="dataset.json: is damaged .*make it anew"):
        open_dataset(path.parent)


def test_metadata_without_a_label_set(copied):
    path = copied("dataset") / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": {}}))
    dataset = open_dataset(path.parent)
    asked = [annotation for _, annotation in dataset.annotations("test") if annotation.candidates]
    for look_up in (dataset.candidates, dataset.answer):
        with pytest.raises(DatasetError, match="has no label set 'things'.*make it anew"):
            look_up(asked[0])


@pytest.mark.parametrize("kind", ["media.array_record", "annotations.array_record", "table.npy"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_short_files_of_a_split(copied, kind, keep):
    directory = copied("dataset")
    path = directory / f"train-00000.{kind}"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    dataset = open_dataset(directory)
    assert len(list(dataset.records("test"))) == 8
    with pytest.raises(DatasetError, match=f"train-00000.{kind}: .*damaged.*make it anew"):
        list(dataset.records("train"))


def test_a_table_of_another_kind(copied):
    directory = copied("dataset")
    np.save(directory / "train-00000.table.npy", np.zeros(24))
    with pytest.raises(DatasetError, match="it is no table of 24 annotations"):
        list(open_dataset(directory).records("train"))


@pytest.mark.parametrize("how", JSON)
@pytest.mark.parametrize("name", ["index.json", "000001.json"])
def test_the_texts_of_an_index(copied, name, how):
    directory = copied("index")
    damage(directory / name, how)
    with pytest.raises(SearchIndexError, match=rf"index/{name}: .*embed"):
        VideoIndex(directory)


@pytest.mark.parametrize("keep", [0, 30, 130, -1])
def test_embeddings_that_are_cut_short(copied, keep):
    directory = copied("index")
    path = directory / "000001.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SearchIndexError, match="000001.npy: cannot be read .*embed again"):
        VideoIndex(directory)


# ---------------------------------------------------------------------------------------------
# Published weights
# ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [NUMBER, DEEP, '"' + "x" * 3000 + '"', "[1, 2]"])
def test_a_wrong_value_in_published_settings(tmp_path, value):
    config = twin_config(tmp_path)
    directory = write_part(tmp_path / "llama", "predictor")
    path = directory / "config.json"
    settings = json.loads(path.read_text()) | {"hidden_size": "HERE"}
    path.write_text(json.dumps(settings).replace('"HERE"', value))
    _, faults = read_backbone(config, "predictor", directory, {})
    (fault,) = (fault for fault in faults if "config.json" in fault)
    assert len(fault) < 300
    assert "is nested deeper" in fault or "hidden_size: is " in fault


def test_a_number_larger_than_any_float_in_published_settings(tmp_path):
    config = twin_config(tmp_path)
    directory = write_part(tmp_path / "llama", "predictor")
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"rope_theta": 100.0', f'"rope_theta": {NUMBER}'))
    _, faults = read_backbone(config, "predictor", directory, {})
    assert any("rope_theta: is 1000" in fault and len(fault) < 300 for fault in faults)


def test_a_tokenizer_that_adds_tokens_that_it_lacks(tmp_path):
    path = write_tokenizer(tmp_path / "tokenizer.json")
    content = json.loads(pathlib.Path(path).read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[GONE]", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    }
    pathlib.Path(path).write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match="tokenizer.json: is no tokenizer.json"):
        Tokenizer(path)


@pytest.mark.parametrize("shard", [1, None, ["a"], {"b": "c"}, "x" * 300, "a\0b", "../a", ""])
def test_an_index_whose_shards_are_no_files(tmp_path, shard):
    config = twin_config(tmp_path)
    directory = write_part(tmp_path / "llama", "predictor", shards=2)
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = shard
    path.write_text(json.dumps(index))
    _, faults = read_backbone(config, "predictor", directory, {})
    assert any("index.json: " in fault for fault in faults)

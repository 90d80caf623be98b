"""A model as the Hugging Face Hub expects it: with a card from its report, and read back whole."""

import dataclasses
import json
import re

import pytest
import yaml
from rich.console import Console

import vljepa_jax
from tests.helpers.evaluated import evaluate_run
from tests.helpers.published_twins import twin_config, write_all
from tests.helpers.small_run import small_evaluation, write_clips
from vljepa_jax.config import SourceConfig
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.hub import Card
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(evaluation, directory of an evaluated run, card)."""
    path = tmp_path_factory.mktemp("hub")
    write_clips(path / "clips")
    config = twin_config(path)
    source = SourceConfig(str(path / "clips"), "train", weight=1.0, tasks={}, tags={})
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(source,)))
    (path / "published").mkdir()
    convert_checkpoint(config, write_all(path / "published"), path / "run", QUIET)
    evaluation = small_evaluation(config)
    evaluate_run(path / "run", evaluation, evaluation.benchmarks, path / "run")
    (path / "terms.txt").write_text("whatever the terms are")
    return evaluation, path / "run", Card("apache-2.0", path / "terms.txt")


def test_it_is_read_back_to_the_same_metrics(evaluated, tmp_path):
    evaluation, run, card = evaluated
    export_checkpoint(run, tmp_path / "model", QUIET, card=card)
    before = json.loads((run / "report.json").read_text())
    evaluate_run(tmp_path / "model", evaluation, evaluation.benchmarks, tmp_path / "again")
    after = json.loads((tmp_path / "again" / "report.json").read_text())
    assert after["metrics"] == before["metrics"]
    fingerprint = vljepa_jax.load(tmp_path / "model").fingerprint
    assert fingerprint == before["model"]["fingerprint"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"`{fingerprint}`" in card
    _, metadata, text = card.split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    assert metadata["license"] == "apache-2.0"
    (model,) = metadata["model-index"]
    assert model["name"] == "model"
    found = {m["type"]: m["value"] for result in model["results"] for m in result["metrics"]}
    assert found == {name: metric["value"] for name, metric in before["metrics"].items()}
    assert all(name in text for name in found)
    assert (tmp_path / "model" / "LICENSE").read_text() == "whatever the terms are"
    paths = re.findall(r"from `(.*)`, seed", text)
    assert paths == [evaluation.benchmarks[0].path]


def refused(run, card, tmp_path):
    with pytest.raises(ConversionError) as error:
        export_checkpoint(run, tmp_path / "none", QUIET, card=card)
    assert not (tmp_path / "none").exists()
    return str(error.value)


def test_a_card_needs_the_report_of_what_is_exported(evaluated, tmp_path):
    _, run, card = evaluated
    report = run / "report.json"
    whole = report.read_text()
    answer = refused(run, Card("mit", tmp_path / "no"), tmp_path)
    assert f"license_file: {tmp_path / 'no'}: no such file" in answer
    for damaged, told in (
        ("{", "report.json: is no JSON"),
        ("{}", "report.json: has no 'model' and 'metrics'"),
        (whole.replace('"step": 0', '"step": 7'), "is of step 7, the newest checkpoint of 0"),
    ):
        report.write_text(damaged)
        answer = refused(run, card, tmp_path)
        assert told in answer
        assert f"launch/eval.py --checkpoint={run} writes it" in answer
    report.unlink()
    assert "report.json: is missing" in refused(run, card, tmp_path)
    report.write_text(whole)

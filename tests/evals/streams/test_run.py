"""The benchmark "stream" from a run to its report, with a random model and one stream."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.evaluated import evaluate_run
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config, tiny_world_config
from vljepa_jax.config import ConfigError, EvalConfig, StreamSet, load_recipe, parse
from vljepa_jax.evals.benchmarks import benchmark_name, select

RECIPE = Path(__file__).parents[3] / "configs" / "eval" / "world.py"


@pytest.fixture(scope="module")
def config():
    recipe = parse(EvalConfig, load_recipe(RECIPE))
    stream = dataclasses.replace(
        recipe.stream,
        sets=(StreamSet("poisson", 0.4, 1),),
        ticks_per_second=1.0,
        rates=(1.0, 0.5, 0.1),
    )
    return dataclasses.replace(recipe, world=tiny_world_config(), stream=stream)


def test_the_study_reaches_the_report(config, tmp_path):
    train = tiny_train_config()
    save_run(tmp_path, train, random_params(train))
    evaluate_run(tmp_path, config, (), tmp_path, config.stream)
    report = json.loads((tmp_path / "report.json").read_text())
    for name in ("stream/decoding_reduction", "stream/online_decoding_reduction"):
        metric = report["metrics"][name]
        assert metric["unit"] == "ratio"
        assert metric["n"] > 50
        assert metric["interval"] is None  # of one stream
        assert metric.get("undefined") or "too few for an interval" in metric["caveat"]
        assert (metric["kind"], metric["density"]) == ("poisson", 0.4)
        assert metric["form"] == "clip"
        assert metric["decoder"].startswith("nearest of")  # this run has no Y-Decoder
    gain = report["metrics"]["stream/gain_at_half_rate"]
    assert (gain["unit"], gain["rate"], gain["chance"]) == ("cider", 0.5, 0.0)
    (part,) = report["streams"]["sets"]
    at_half = {name: part["curves"][f"{name}/clip"][1]["cider"] for name in ("uniform", "offline")}
    assert gain["value"] == pytest.approx(at_half["offline"] - at_half["uniform"], rel=0.05)
    assert [round(p["rate"], 1) for p in part["curves"]["offline/clip"]] == [1.0, 0.5, 0.1]
    for name in ("stream_curves.png", "stream_timeline.png"):
        assert Image.open(tmp_path / name).width > 300
    page = (tmp_path / "report.html").read_text()
    for title in ("Streams", "Selective decoding", "Timeline"):
        assert f"<h2>{title}</h2>" in page
    for reference in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert reference.startswith(("data:image/", "#"))


def test_stream_is_a_benchmark_among_the_others(config):
    everything, study = select(config, [])
    assert (len(everything), study) == (len(config.benchmarks), config.stream)
    assert select(config, ["stream"]) == ((), config.stream)
    (triplets,), study = select(config, ["world/triplets"])
    assert (benchmark_name(triplets), study) == ("world/triplets", None)
    (triplets,), study = select(config, ["stream", "world/triplets"])
    assert study == config.stream
    with pytest.raises(ConfigError, match="has no benchmark 'stream'"):
        select(dataclasses.replace(config, stream=None), ["stream"])
    with pytest.raises(ConfigError, match="did you mean 'world/motion'"):
        select(config, ["stream", "world/motoin"])

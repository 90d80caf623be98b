"""A model that is no run goes everywhere: evaluation, reports, indexes, live streams, the study."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
import rich.console

from tests.evals.test_evaluate import benchmark, dataset, image
from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import (
    ChooseConfig,
    ConfigError,
    EvalConfig,
    RetrieveConfig,
    StreamSet,
    StreamStudyConfig,
)
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.live_source import parse_source
from vljepa_jax.data.video import write_mp4
from vljepa_jax.evals.run import write_evaluation, write_sweep
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.search.collection import embed_collection
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
from vljepa_jax.inference.streams.live import LiveSettings, follow

__all__ = ["dataset"]  # a fixture

STUDY = StreamStudyConfig(
    sets=(StreamSet("poisson", 0.4, 1),),
    query="",
    window=1.0,
    ticks_per_second=1.0,
    rates=(1.0, 0.5, 0.1),
    change_window=4.0,
    change_delay=1.0,
    forms=("clip", "averaged"),
    bank_texts=20,
)


def quiet():
    return rich.console.Console(file=open(os.devnull, "w"))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(image(colour).data)
    return folder


@pytest.fixture
def config(dataset):
    benchmarks = (
        benchmark(dataset, "vqa", ChooseConfig(), "whole", task="vqa"),
        benchmark(dataset, "t2v", RetrieveConfig(), "whole", task="caption"),
    )
    return EvalConfig(0, 2, tiny_world_config(), 0, benchmarks, STUDY)


def test_an_interface_that_lacks_something_is_no_embedder():
    class Half(Embedder):
        def embed_text(self, texts):
            return np.zeros((len(texts), 3))

    with pytest.raises(TypeError, match="card.*encode_clips.*fingerprint.*predict_tokens"):
        Half()


def test_videos_texts_and_labels(pictures):
    model = ColourModel()
    paths = [pictures / f"{colour}.png" for colour in COLOURS]
    np.testing.assert_allclose(model.embed_video(paths), np.eye(3), atol=1e-5)
    assert model.classify(paths[1], list(COLOURS))[0].text == "green"
    assert model.answer(paths, "opposite", list(COLOURS))[0].text != "red"
    assert model.text_bank(list(COLOURS)).decode(model.embed_video(paths)) == list(COLOURS)
    with pytest.raises(ConfigError, match="has no Y-Decoder: train one"):
        model.caption(paths[0])


def test_it_is_evaluated_and_reported(config, tmp_path):
    write_evaluation(ColourModel(), config, config.benchmarks, tmp_path, config.stream)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["metrics"]["t2v_r1"]["value"] == 1
    assert report["metrics"]["t2v_r1"]["frames"] == ColourModel.video.frames
    assert "stream/decoding_reduction" in report["metrics"]
    assert (report["model"], report["train"]) == (ColourModel.card, {})
    assert report["config"]["train"] is None
    page = (tmp_path / "report.html").read_text()
    assert "<h1>Mean colour fake: stream</h1>" in page
    assert page.count("data:image/webp") > 5
    assert "<h2>Training</h2>" not in page
    assert "<summary>Model</summary>" in page
    assert "<summary>Training config</summary>" not in page


def test_a_report_keeps_metrics_of_the_same_model_alone(config, tmp_path):
    vqa, t2v = config.benchmarks

    def measured(model, benchmarks):
        write_evaluation(model, config, benchmarks, tmp_path)
        return json.loads((tmp_path / "report.json").read_text())["metrics"].keys()

    assert measured(ColourModel(), [vqa]) == {"vqa_top1"}
    assert measured(ColourModel(), [t2v]) == {"vqa_top1", "t2v_r1", "t2v_r5"}

    class Other(ColourModel):
        fingerprint = "others"
        card = ColourModel.card | {"fingerprint": "others"}

    assert measured(Other(), [vqa]) == {"vqa_top1"}
    # of a version whose reports had no card
    old = json.loads((tmp_path / "report.json").read_text())
    del old["model"]
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert measured(Other(), [t2v]) == {"t2v_r1", "t2v_r5"}


def test_it_is_swept(config, tmp_path):
    chosen = dataclasses.replace(config, benchmarks=config.benchmarks[:1])
    loaded = []
    settings = [((str(size),), dataclasses.replace(chosen, batch_size=size)) for size in (1, 2)]
    write_sweep(
        lambda config: loaded.append(config.batch_size) or ColourModel(),
        ["batch_size"],
        settings,
        tmp_path,
    )
    assert loaded == [1, 2]
    report = json.loads((tmp_path / "sweep_batch_size" / "report.json").read_text())
    assert [run["metrics"]["vqa_top1"]["value"] for run in report["sweep"]["runs"]] == [0.5, 0.5]


def test_it_makes_an_index_and_finds_in_it(pictures, tmp_path):
    model = ColourModel()
    items, faults = list_items([str(pictures)], None)
    summary = embed_collection(
        model,
        items,
        faults,
        tmp_path / "index",
        query="",
        window=0.0,
        stride=0.0,
        drop_missing=False,
        shard_rows=2,
        num_workers=0,
        console=quiet(),
    )
    assert (summary.embedded, summary.rows) == (3, 3)
    index = VideoIndex(tmp_path / "index")
    assert (index.settings.size, index.settings.model, index.checkpoint) == (3, "colours", "")
    found = model.retrieve(list(COLOURS), index, top=1)
    assert [hits[0].name for hits in found] == [str(pictures / f"{c}.png") for c in COLOURS]

    class Other(ColourModel):
        fingerprint = "others"

    with pytest.raises(SearchIndexError, match="made by another model .colours"):
        Other().retrieve("red", index)


def test_it_follows_a_stream(tmp_path):
    seconds = [
        np.full((8, 32, 32, 3), COLOURS[c], np.uint8) for c in ("red", "red", "blue", "blue")
    ]
    video, texts = tmp_path / "video.mp4", tmp_path / "texts.txt"
    video.write_bytes(write_mp4(np.concatenate(seconds), 8))
    texts.write_text("\n".join(COLOURS))
    settings = LiveSettings(
        texts=str(texts),
        fast=True,
        window=0.5,
        ticks_per_second=4.0,
        threshold=0.2,
        rate=None,
        change_window=1.0,
        change_delay=0.25,
        jsonl=str(tmp_path / "events.jsonl"),
    )
    summary = follow(ColourModel(), parse_source(str(video)), settings, console=quiet())
    lines = (tmp_path / "events.jsonl").read_text()
    said = re.findall(r'"text": "(\w+)"', lines)
    assert summary.windows == 15
    assert (said[0], said[-1]) == ("red", "blue")

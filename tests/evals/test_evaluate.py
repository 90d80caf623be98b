"""The way from files to metrics, with a model that sees nothing but the mean colour."""

import dataclasses
import io
import shutil

import pytest
from PIL import Image

from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import (
    BenchmarkConfig,
    ChooseConfig,
    ConfigError,
    RetrieveConfig,
)
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import divide, evaluate
from vljepa_jax.evals.examples import ClipRef, EvaluationError


def image(colour: str) -> Medium:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), COLOURS[colour]).save(buffer, "PNG")
    return Medium(data=buffer.getvalue())


def record(name: str, medium: Medium, colour: str) -> Record:
    gold = list(COLOURS).index(colour)

    def vqa(query: str) -> Annotation:
        return Annotation(f"{name}-{query}", "vqa", query, candidates="@labels/colours", gold=gold)

    caption = Annotation(f"{name}-caption", "caption", texts=(colour,), tags={"kind": "long"})
    return Record(name, (medium,), (vqa("colour"), vqa("opposite"), caption))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "colours"
    records = [record(colour, image(colour), colour) for colour in COLOURS]
    broken = record("broken", Medium(data=image("red").data[:60]), "red")
    labels = {"colours": [Label(colour, (colour,)) for colour in COLOURS]}
    write_dataset(
        directory,
        {"test": [broken, *records], "whole": records},
        name="colours",
        description="plain images",
        labels=labels,
    )
    return str(directory)


def benchmark(dataset, name, protocol, split="test", **selection):
    return BenchmarkConfig(name, "", protocol, dataset, split, selection, None, 0)


@pytest.fixture
def datasets():
    return Datasets(tiny_world_config(), num_workers=0)


def test_every_clip_is_decoded_and_encoded_once_and_scored(dataset, datasets):
    model = ColourModel()
    benchmarks = [
        benchmark(dataset, "vqa", ChooseConfig(), "whole", task="vqa"),
        benchmark(dataset, "t2v", RetrieveConfig(), "whole", task="caption", kind="long"),
    ]
    vqa, t2v = evaluate(model, benchmarks, datasets)
    # Three clips, each asked for its colour (right), its opposite (wrong) and its caption.
    assert model.encoded == 3
    assert vqa.metrics["vqa_top1"].value == 0.5
    assert vqa.metrics["vqa_top1"].n == 6
    assert [outcome.correct for outcome in vqa.outcomes] == [True, False] * 3
    assert t2v.metrics.keys() == {"t2v_r1", "t2v_r5"}
    assert t2v.metrics["t2v_r1"].value == 1
    assert not vqa.unreadable
    assert not t2v.unreadable


def test_an_unreadable_clip_is_named_and_counted_as_wrong(dataset, datasets):
    model = ColourModel()
    benchmarks = [
        benchmark(dataset, "vqa", ChooseConfig(), task="vqa"),
        benchmark(dataset, "t2v", RetrieveConfig(), task="caption"),
    ]
    vqa, t2v = evaluate(model, benchmarks, datasets)
    broken = ClipRef(dataset, "test", 0, (0,))
    assert "record 'broken'" in vqa.unreadable[broken]
    assert t2v.unreadable.keys() == {broken}
    assert vqa.metrics["vqa_top1"].n == 8
    assert vqa.metrics["vqa_top1"].value == 3 / 8
    # "red" is the caption of the broken clip and of a readable one: both count as right
    assert [outcome.correct for outcome in t2v.outcomes] == [True] * 4


def test_what_selects_nothing_is_an_error(dataset, datasets):
    with pytest.raises(ConfigError, match="'vqa': no annotation of .* has {'task': 'vqqa'}"):
        evaluate(ColourModel(), [benchmark(dataset, "vqa", ChooseConfig(), task="vqqa")], datasets)


def test_examples_are_chosen_without_reading_a_medium(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "d")
    for shard in (tmp_path / "d").glob("*.media.array_record"):
        shard.unlink()
    datasets, path = Datasets(None, num_workers=0), str(tmp_path / "d")
    benchmarks = [
        benchmark(path, "vqa", ChooseConfig(), task="vqa"),
        benchmark(path, "x", RetrieveConfig()),
    ]
    served, skipped = divide(benchmarks, datasets)
    assert (served, skipped) == (tuple(benchmarks), {})
    found = [(index, a.id) for index, a in datasets.annotations(path, "test")]
    kinds = ("colour", "opposite", "caption")
    names = ("broken", *COLOURS)
    assert found == [(i, f"{name}-{k}") for i, name in enumerate(names) for k in kinds]


class OneFrame(ColourModel):
    """A model of single images, as CLIP is."""

    video = dataclasses.replace(ColourModel.video, frames=1)


def test_media_that_cannot_share_the_frames_are_refused_before_any_is_read(tmp_path):
    gone = Medium(path=str(tmp_path / "gone.png"))
    pair = Annotation("pair", "vqa", "which", candidates=("a", "b"), gold=0, inputs=(0, 1))
    records = {"test": [Record("pair", (gone, gone), (pair,))]}
    write_dataset(tmp_path / "pairs", records, name="pairs", description="", labels={})
    pairs = benchmark(str(tmp_path / "pairs"), "pairs", ChooseConfig())
    message = "'pairs': the 2 media of an example cannot share the model's 1 frames"
    with pytest.raises(EvaluationError, match=message):
        evaluate(OneFrame(), [pairs], Datasets(None, num_workers=0))
    (result,) = evaluate(ColourModel(), [pairs], Datasets(None, num_workers=0))  # of two frames
    assert len(result.unreadable) == 1


def test_a_public_dataset_that_was_not_prepared_is_skipped_by_name(dataset):
    folder, name = dataset.rsplit("/", 1)
    data = Datasets(None, num_workers=0, data=folder)
    benchmarks = [
        benchmark(path, path.removeprefix("@data/"), ChooseConfig(), split, task="vqa")
        for path, split in ((f"@data/{name}", "whole"), (f"@data/{name}", "val"), ("@data/b", "x"))
    ]
    served, skipped = divide([benchmarks[0], benchmarks[2]], data)
    assert served == (benchmarks[0],)
    assert f"there is no {folder}/b: python launch/prepare.py --dataset=b" in skipped["b"]
    with pytest.raises(ConfigError, match="has no split 'val': python launch/prepare.py"):
        divide(benchmarks[1:], data)
    (result,) = evaluate(ColourModel(), served, data)
    assert result.metrics["colours_top1"].value == 0.5

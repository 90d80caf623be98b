"""The way from files to metrics, with a model that sees nothing but the mean colour."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import BenchmarkConfig, ConfigError, VideoInput, VJEPA2Config
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.evaluate import Datasets, evaluate
from vljepa_jax.evals.examples import Clip

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourModel:
    """Embeds a colour's name and a clip of that colour alike; "opposite" asks for its negative."""

    batch_size = 2
    video = VideoInput(2, 16, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)

    text_decoder = None

    def __init__(self):
        self.encoded = 0

    def embed_text(self, texts):
        return np.array([np.array(COLOURS[text]) / 255 for text in texts])

    def encode_clips(self, clips):
        assert len(clips) <= self.batch_size
        self.encoded += len(clips)
        return clips.mean(axis=(1, 2, 3)) / 255

    def predict_tokens(self, visual_tokens, rows, queries):
        sign = np.array([-1.0 if query == "opposite" else 1.0 for query in queries])
        vectors = visual_tokens[rows] * sign[:, None]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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
    return BenchmarkConfig(name, "", protocol, dataset, split, selection, None, "", 0, 0)


@pytest.fixture
def datasets():
    return Datasets(tiny_world_config(), num_workers=0)


def test_every_clip_is_decoded_and_encoded_once_and_scored(dataset, datasets):
    model = ColourModel()
    benchmarks = [
        benchmark(dataset, "vqa", "choose", "whole", task="vqa"),
        benchmark(dataset, "t2v", "retrieve", "whole", task="caption", kind="long"),
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
        benchmark(dataset, "vqa", "choose", task="vqa"),
        benchmark(dataset, "t2v", "retrieve", task="caption"),
    ]
    vqa, t2v = evaluate(model, benchmarks, datasets)
    broken = Clip(dataset, "test", 0, (0,))
    assert "record 'broken'" in vqa.unreadable[broken]
    assert t2v.unreadable.keys() == {broken}
    assert vqa.metrics["vqa_top1"].n == 8
    assert vqa.metrics["vqa_top1"].value == 3 / 8
    # "red" is the caption of the broken clip and of a readable one: both count as right
    assert [outcome.correct for outcome in t2v.outcomes] == [True] * 4


def test_what_selects_nothing_is_an_error(dataset, datasets):
    with pytest.raises(ConfigError, match="'vqa': no annotation of .* has {'task': 'vqqa'}"):
        evaluate(ColourModel(), [benchmark(dataset, "vqa", "choose", task="vqqa")], datasets)

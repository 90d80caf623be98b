"""Rows of questions: which annotations are asked, how often, and what becomes of them."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.sample_media import png
from tests.helpers.tiny import tiny_probe_config
from vljepa_jax.config import ConfigError, SourceConfig
from vljepa_jax.data.pipeline import TrainPipeline, array_spec, cached_clips
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.tokenizers import Tokenizer

MOTIONS = ("spin", "fall", "grow")
OBJECTS = ("dog", "cat", "cup", "car", "bus")


def record(index):
    """Brightness tells the record; record i has i questions about objects and one about motion."""

    def ask(name, kind, labels, gold, **fields):
        return Annotation(
            f"{index}-{name}", kind, f"how {name}", candidates=labels, gold=gold, **fields
        )

    return Record(
        str(index),
        tuple(Medium(data=png(np.full((16, 16, 3), index + 100 * m, np.uint8))) for m in range(2)),
        (
            ask("motion", "classification", "@labels/motions", index % 3),
            *(
                ask(f"object{n}", "vqa", "@labels/objects", n, tags={"n": "x"})
                for n in range(index)
            ),
            ask("other", "vqa", "@labels/colours", 0),  # a label set that is not asked for
            ask("spelt", "vqa", ("yes", "no"), 0),  # no label set
            ask("second", "vqa", "@labels/objects", 4, inputs=(1,), tags={"n": "x"}),
            Annotation(f"{index}-caption", "vqa", texts=("a caption",)),
        ),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "questions"
    labels = {"motions": MOTIONS, "objects": OBJECTS, "colours": ("red", "blue")}
    write_dataset(
        directory,
        {"train": [record(i) for i in range(6)]},
        name="questions",
        description="",
        labels={name: tuple(Label(t, (t,)) for t in texts) for name, texts in labels.items()},
    )
    return directory


def config_of(dataset, *, tags=None, **model):
    config = tiny_probe_config(steps=20)
    tasks = {"vqa": 1.0} if tags else {"vqa": 1.0, "classification": 1.0}
    source = SourceConfig(str(dataset), "train", 1.0, tasks, tags or {})
    data = dataclasses.replace(config.data, sources=(source,))
    return dataclasses.replace(config, data=data, model=dataclasses.replace(config.model, **model))


def test_rows_are_different_questions_about_one_clip(dataset):
    config = config_of(dataset)
    tokenizer = Tokenizer("@world")
    counts, named = {}, set()
    for batch in TrainPipeline(config).batches(0):
        arrays = batch.arrays
        found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        assert found == array_spec(config)
        for row, name in enumerate(batch.ids):
            asked = arrays["question_mask"][row]
            brightness = int(arrays["video"][row].min())
            assert arrays["video"][row].max() == brightness
            index, second = brightness % 100, brightness >= 100
            named.add(name.split("-")[1])
            pairs = [
                (int(s), int(g))
                for s, g in zip(
                    arrays["label_set"][row][asked], arrays["label"][row][asked], strict=True
                )
            ]
            assert len(set(pairs)) == len(pairs)
            possible = {(1, 4)} if second else {(0, index % 3)} | {(1, n) for n in range(index)}
            assert set(pairs) <= possible
            assert len(pairs) == min(4, len(possible))
            counts[second, index] = len(pairs)
            for (label_set, gold), tokens, mask in zip(
                pairs, arrays["query_tokens"][row], arrays["query_mask"][row], strict=False
            ):
                word = "motion" if label_set == 0 else "second" if second else f"object{gold}"
                ids, valid = tokenizer.encode([f"how {word}"], 6)
                np.testing.assert_array_equal(tokens, ids[0])
                np.testing.assert_array_equal(mask, valid[0])
    assert counts.keys() >= {(False, i) for i in range(6)}
    assert any(second for second, _ in counts)
    assert not named & {"other", "spelt", "caption"}


def test_tags_and_label_sets_choose_the_records(dataset):
    def asked(config):
        return {name for batch in TrainPipeline(config).batches(0) for name in batch.ids}

    assert asked(config_of(dataset, label_sets={"motions": 3})) == {
        f"{index}-motion" for index in range(6)
    }
    names = {name.split("-")[1] for name in asked(config_of(dataset, tags={"n": "x"}))}
    assert names == {*(f"object{n}" for n in range(5)), "second"}


def test_a_probe_that_is_not_told_the_question_gets_none(dataset):
    config = config_of(dataset, pooler=None)
    batch = next(TrainPipeline(config).batches(0))
    assert batch.arrays.keys() == {"video", "question_mask", "label", "label_set"}
    assert batch.arrays.keys() == array_spec(config).keys()


def test_other_label_sets_have_other_caches(dataset):
    video = {"sampling": "uniform", "crop": "centre"}

    def clips(**model):
        config = config_of(dataset, **model)
        video_config = dataclasses.replace(config.data.video, **video)
        data = dataclasses.replace(config.data, video=video_config)
        ((_, found, name),) = cached_clips(dataclasses.replace(config, data=data))
        return found, name

    both, name = clips()
    assert both == [(index, (m,)) for index in range(6) for m in range(2)]
    motions, other = clips(label_sets={"motions": 3})
    assert motions == [(index, (0,)) for index in range(6)]
    assert name != other


@pytest.mark.parametrize(
    ("label_sets", "message"),
    [
        ({"motion": 3}, r"sources\[0\].path .*no label set 'motion' .did you mean 'motions'"),
        ({"motions": 4}, r"model.label_sets.motions: 4, but .* has 3 labels"),
    ],
)
def test_wrong_label_sets_are_named(dataset, label_sets, message):
    with pytest.raises(ConfigError, match=message):
        TrainPipeline(config_of(dataset, label_sets=label_sets))

import collections
import dataclasses
import itertools
import shutil
import threading

import numpy as np
import pytest

from tests.helpers.sample_media import png
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_text_config, tiny_train_config
from vljepa_jax.config import ConfigError, SourceConfig, TextConfig, VideoConfig
from vljepa_jax.data import pipeline
from vljepa_jax.data.pipeline import DataError, TrainPipeline, array_spec, target_shares
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import DatasetError, write_dataset

COLOURS = (Label("red", ("red", "crimson")), Label("blue", ("blue",)))


def image(value):
    return Medium(data=png(np.full((16, 16, 3), value, np.uint8)))


def record(index, prefix="r", medium=None):
    """An image of brightness ``index`` with a caption in two wordings and a question."""
    name = f"{prefix}{index}"
    return Record(
        name,
        (medium or image(index),),
        (
            Annotation(f"{name}-caption", "caption", texts=(f"{name} one", f"{name} two")),
            Annotation(f"{name}-vqa", "vqa", "what", candidates="@labels/colours", gold=index % 2),
            Annotation(f"{name}-answer", "vqa", "which", candidates=("no", f"{name} yes"), gold=1),
            Annotation(f"{name}-stream", "stream", texts=("now",), times=(0.0,)),
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_tokenizer(folder / "t.json", "one two what red blue")
    captionless = Record("x", (image(0),), (Annotation("x", "triplet", texts=("a", "b", "c")),))
    for name, records in {
        "many": [record(i) for i in range(20)] + [captionless],
        "few": [record(i, "f") for i in range(5)],
        "broken": [
            record(i, "b", Medium(data=b"?" * 30) if i % 3 == 0 else None) for i in range(9)
        ],
        "rotten": [record(0, "z", Medium(data=b"?" * 30))],
    }.items():
        write_dataset(
            folder / name,
            {"train": records},
            name=name,
            description="",
            labels={"colours": COLOURS},
        )
    return folder


def make_config(folder, *sources, steps=4, batch_size=8, seed=0, workers=0, tasks=None):
    """Config of sources given as ("name", weight)."""
    base = tiny_train_config(steps=steps, batch_size=batch_size, seed=seed)
    data = dataclasses.replace(
        base.data,
        sources=tuple(
            SourceConfig(str(folder / name), "train", weight, tasks or {"caption": 1.0}, {})
            for name, weight in sources
        ),
        text=TextConfig(str(folder / "t.json"), str(folder / "t.json"), 6, 5, "<p> "),
        video=VideoConfig(2, 8, "jittered", "random", (0.5, 1.0)),
        num_workers=workers,
    )
    return dataclasses.replace(base, data=data)


def read(config, *args):
    return list(TrainPipeline(config).batches(*args or (0,)))


def assert_equal(batches, others):
    assert [batch.ids for batch in batches] == [other.ids for other in others]
    assert [batch.replaced for batch in batches] == [other.replaced for other in others]
    for batch, other in zip(batches, others, strict=True):
        assert batch.arrays.keys() == other.arrays.keys()
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])


def test_batches_are_as_specified(folder):
    config = make_config(folder, ("many", 1.0))
    batches = read(config)
    assert len(batches) == 4
    for batch in batches:
        found = {name: (array.shape, array.dtype) for name, array in batch.arrays.items()}
        assert found == array_spec(config)
        assert len(batch.ids) == 8


def test_rows_belong_together(folder):
    both = {"caption": 1.0, "vqa": 1.0}
    for batch in read(make_config(folder, ("many", 1.0), steps=10, tasks=both)):
        for row, name in enumerate(batch.ids):
            index, kind = name[1:].split("-")
            assert (batch.arrays["video"][row] == int(index)).all()
            query = batch.arrays["query_tokens"][row][batch.arrays["query_mask"][row]]
            assert len(query) == (2 if kind == "caption" else 3)  # [BOS], the question, [EOS]
    # "<p> " and the name are unknown words, then "one" or "two"
    captions = read(make_config(folder, ("many", 1.0)))[0].arrays["target_tokens"]
    assert {tuple(row) for row in captions} == {(2, 1, 1, 4, 3), (2, 1, 1, 5, 3)}


def test_every_record_is_seen_once_an_epoch_in_a_new_order(folder):
    batches = read(make_config(folder, ("many", 1.0), steps=10, batch_size=4))
    names = [name for batch in batches for name in batch.ids]
    assert sorted(names[:20]) == sorted(names[20:]) == sorted(f"r{i}-caption" for i in range(20))
    assert names[:20] != names[20:]


def test_answers_to_a_question_are_drawn_equally_often(folder):
    """Of 1,600 rows, each answer's share within five standard errors; captions stay as often.

    Of the 25 questions here 20 have one answer, 4 another and 1 a third; each record has one, and a
    caption.
    """
    answers = [0] * 20 + [1] * 4 + [2]
    labels = (*COLOURS, Label("green", ("green",)))
    records = [
        Record(
            f"q{i}",
            (image(i),),
            (
                Annotation(f"q{i}-caption", "caption", texts=(f"q{i}",)),
                Annotation(f"q{i}-{gold}", "vqa", "what", candidates="@labels/colours", gold=gold),
            ),
        )
        for i, gold in enumerate(answers)
    ]
    write_dataset(
        folder / "uneven",
        {"train": records},
        name="uneven",
        description="",
        labels={"colours": labels},
    )
    config = make_config(
        folder, ("uneven", 1.0), steps=50, batch_size=32, tasks={"vqa": 1.0, "caption": 1.0}
    )

    def shares(config):
        names = [name.split("-")[1] for batch in read(config) for name in batch.ids]
        return {name: count / len(names) for name, count in collections.Counter(names).items()}

    (source,) = config.data.sources

    def of(**changes):
        own = dataclasses.replace(source, **changes)
        return dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(own,)))

    def close(found, expected):
        for name, share in expected.items():
            assert found[name] == pytest.approx(share, abs=5 * (share * (1 - share) / 1600) ** 0.5)

    close(shares(config), {"caption": 1 / 2, "0": 2 / 5, "1": 2 / 25, "2": 1 / 50})
    close(shares(of(balanced=True)), {"caption": 1 / 2, "0": 1 / 6, "1": 1 / 6, "2": 1 / 6})
    told = target_shares(of(balanced=True))
    assert sum(told.values()) == pytest.approx(1)
    assert [sum(told[text] for text in labels[gold].texts) for gold in range(3)] == pytest.approx(
        [1 / 6] * 3
    )
    with pytest.raises(ConfigError, match="limit leaves 3; set one of the two"):
        read(of(balanced=True, limit=3))


def test_the_seed_draws_the_order_and_the_pictures(folder):
    first, again, other = (read(make_config(folder, ("many", 1.0), seed=s)) for s in (0, 0, 1))
    assert_equal(first, again)
    assert [batch.ids for batch in first] != [batch.ids for batch in other]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_hold_the_rows_of_one_global_batch(folder, count):
    config = make_config(folder, ("many", 2.0), ("broken", 1.0), tasks={"caption": 1.0, "vqa": 1.0})
    rows = np.arange(8).reshape(-1, count).T  # every count-th: a mesh may deal them out so
    whole = read(config)
    replaced = [[] for _ in whole]
    for held in rows:
        for step, share in enumerate(read(config, 0, held)):
            assert share.ids == tuple(whole[step].ids[row] for row in held)
            for name, array in whole[step].arrays.items():
                np.testing.assert_array_equal(array[held], share.arrays[name])
            replaced[step] += share.replaced
    assert list(map(sorted, replaced)) == [sorted(batch.replaced) for batch in whole]


def test_a_restart_goes_on(folder):
    config = make_config(folder, ("many", 2.0), ("few", 1.0), steps=6)
    assert_equal(read(config)[4:], read(config, 4))
    rows = np.array([1, 2, 7])
    assert_equal(read(config, 2, rows), read(config, 0, rows)[2:])


def test_workers_change_nothing(folder):
    sources = ("many", 2.0), ("broken", 1.0)
    assert_equal(
        read(make_config(folder, *sources)), read(make_config(folder, *sources, workers=2))
    )


def test_examples_in_a_bucket_are_read_together_and_are_the_same(folder, monkeypatch):
    config = make_config(folder, ("many", 1.0), ("few", 1.0))
    expected, calls, together = read(config), itertools.count(), threading.Barrier(2)
    monkeypatch.setattr(pipeline, "in_bucket", lambda path: True)
    see = pipeline._Reader._see

    def seen(*args):
        if next(calls) < 2:
            together.wait(60)  # for the other, which one thread would never come to
        return see(*args)

    monkeypatch.setattr(pipeline._Reader, "_see", seen)
    assert_equal(read(config), expected)


def test_mixture_and_task_weights_hold(folder):
    config = make_config(
        folder, ("many", 3.0), ("few", 1.0), steps=50, tasks={"caption": 1.0, "vqa": 3.0}
    )
    names = [name for batch in read(config) for name in batch.ids]
    assert sum(name.startswith("r") for name in names) == 300
    kinds = collections.Counter(name.split("-")[1] for name in names)
    assert abs(kinds["caption"] - 100) < 35
    assert abs(kinds["vqa"] - 150) < 40
    assert abs(kinds["answer"] - 150) < 40


def test_a_source_may_be_limited_in_records_and_in_epochs(folder):
    config = make_config(folder, ("many", 1.0), ("few", 1.0), steps=5)

    def limited(**limits):
        sources = (dataclasses.replace(config.data.sources[0], **limits), config.data.sources[1])
        data = dataclasses.replace(config.data, sources=sources)
        return dataclasses.replace(config, data=data)

    names = [name for batch in read(limited(limit=3)) for name in batch.ids]
    assert len({name for name in names if name.startswith("r")}) == 3
    pipeline = TrainPipeline(limited(limit=4, max_epochs=5.0))
    assert pipeline.seen(5) == [(20, 5.0), (20, 4.0)]
    shares = target_shares(limited(limit=3))
    drawn = {name.split("-")[0] for name in names if name.startswith("r")}
    assert {text.split()[0] for text in shares if text.startswith("r")} == drawn
    assert sum(share for text, share in shares.items() if text[0] == "r") == pytest.approx(0.5)
    with pytest.raises(ConfigError, match=r"sources\[0\].max_epochs: 4.9, but 5 epochs of .*many"):
        TrainPipeline(limited(limit=4, max_epochs=4.9))
    with pytest.raises(ConfigError, match=r"sources\[0\]: limit and max_epochs are at least 0"):
        TrainPipeline(limited(limit=-1))


def test_rows_of_several_sources_say_which_is_theirs(folder):
    config = make_config(folder, ("many", 3.0), ("few", 1.0))
    for batch in read(config):
        assert batch.arrays["source"].tolist() == [int(name.startswith("f")) for name in batch.ids]
    assert config.data.source_names == ("many", "few")
    assert make_config(folder, ("few", 1), ("few", 1)).data.source_names == ("few-0", "few-1")


def test_answers_come_from_the_right_candidate_in_all_its_wordings(folder):
    batches = read(make_config(folder, ("many", 1.0), steps=60, tasks={"vqa": 1.0}))
    found = collections.defaultdict(set)
    for batch in batches:
        for row, name in enumerate(batch.ids):
            index, kind = name[1:].split("-")
            if kind == "vqa":
                found[int(index) % 2].add(int(batch.arrays["target_tokens"][row][2]))
    assert found == {0: {7, 1}, 1: {8}}  # red or (unknown) crimson; blue


def test_equal_targets_have_equal_ids(folder):
    batches = read(make_config(folder, ("many", 1.0), steps=20, tasks={"vqa": 1.0}))
    ids = collections.defaultdict(set)
    for batch in batches:
        for row, name in enumerate(batch.ids):
            key = tuple(batch.arrays["target_tokens"][row])
            ids[name if name.endswith("answer") else key].add(int(batch.arrays["target_id"][row]))
    assert all(len(values) == 1 for values in ids.values())
    assert len(set.union(*ids.values())) == len(ids)


def test_unreadable_clips_are_replaced_and_counted(folder):
    batches = read(make_config(folder, ("broken", 1.0), steps=9))
    names = [name for batch in batches for name in batch.ids]
    assert not any(int(name[1:].split("-")[0]) % 3 == 0 for name in names)
    reasons = [reason for batch in batches for reason in batch.replaced]
    assert 24 <= len(reasons) < 60  # a third of 72 rows, and some of their replacements
    assert all("record 'b" in reason and "cannot be decoded" in reason for reason in reasons)


def test_a_source_that_cannot_be_read_at_all_stops(folder):
    with pytest.raises(DataError, match="16 records of .*rotten drawn in a row cannot be read"):
        read(make_config(folder, ("rotten", 1.0)))


def test_wrong_settings_are_named(folder):
    with pytest.raises(ConfigError, match=r"sources\[0\].tasks: .*'captoin' .did you mean 'capt"):
        read(make_config(folder, ("many", 1.0), tasks={"captoin": 1.0}))
    with pytest.raises(ConfigError, match="no training examples of task 'stream'"):
        read(make_config(folder, ("many", 1.0), tasks={"stream": 1.0}))
    with pytest.raises(ConfigError, match="at least one task with a weight above 0"):
        read(make_config(folder, ("many", 1.0), tasks={"caption": 0.0}))
    with pytest.raises(ConfigError, match="data.sources: name at least one source"):
        read(make_config(folder))
    with pytest.raises(ConfigError, match=r"sources\[1\].weight: must be above 0"):
        read(make_config(folder, ("many", 1.0), ("few", 0.0)))


def test_no_tasks_are_all_that_there_are_each_as_often(folder):
    config = make_config(folder, ("many", 1.0), steps=50)
    source = dataclasses.replace(config.data.sources[0], tasks={})
    data = dataclasses.replace(config.data, sources=(source,))
    batches = read(dataclasses.replace(config, data=data))
    kinds = collections.Counter(name.split("-")[1] for batch in batches for name in batch.ids)
    assert kinds.keys() == {"caption", "vqa", "answer"}  # neither streams nor triplets
    assert abs(kinds["caption"] - 200) < 40


def test_a_source_may_ask_for_tags(tmp_path, folder):
    def tagged(index):
        annotations = [
            Annotation(f"{index}-{kind}", "caption", texts=(kind,), tags={"kind": kind, "n": n})
            for kind, n in (("plain", "1"), ("odd", str(index % 2)))
        ]
        return Record(str(index), (image(index),), tuple(annotations))

    write_dataset(
        tmp_path / "d", {"train": map(tagged, range(6))}, name="d", description="", labels={}
    )

    def ids(**tags):
        config = make_config(folder, ("many", 1.0), steps=3)
        source = SourceConfig(str(tmp_path / "d"), "train", 1.0, {"caption": 1.0}, tags)
        data = dataclasses.replace(config.data, sources=(source,))
        batches = TrainPipeline(dataclasses.replace(config, data=data)).batches(0)
        return {name for batch in batches for name in batch.ids}

    assert ids(kind="odd", n="1") == {"1-odd", "3-odd", "5-odd"}
    assert ids(kind="plain") == {f"{index}-plain" for index in range(6)}
    with pytest.raises(ConfigError, match=r"sources\[0\].tags: no training example has"):
        ids(kind="even")


def without_media(dataset, directory):
    """A copy of a dataset of which no medium can be read."""
    shutil.copytree(dataset, directory)
    removed = list(directory.glob("*.media.array_record"))
    for shard in removed:
        shard.unlink()
    assert removed
    return directory


def test_training_on_text_alone_reads_no_medium(folder, tmp_path):
    base = tiny_text_config("language_model", steps=4, batch_size=8)

    def batches(dataset):
        source = SourceConfig(str(dataset), "train", 1.0, {"caption": 1.0}, {})
        data = dataclasses.replace(base.data, sources=(source,))
        return read(dataclasses.replace(base, data=data))

    assert_equal(batches(without_media(folder / "many", tmp_path / "d")), batches(folder / "many"))


def test_a_training_source_opens_without_reading_a_medium(folder, tmp_path):
    """Tasks, tags and the texts of the targets are known from the annotations."""
    without_media(folder / "many", tmp_path / "d")
    config = make_config(tmp_path, ("d", 1.0))
    text = TextConfig(str(folder / "t.json"), str(folder / "t.json"), 6, 5, "<p> ")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))
    pipeline = TrainPipeline(config)
    shares = target_shares(config)
    assert len(shares) == 40
    with pytest.raises(DatasetError, match="media.array_record: missing or damaged"):
        next(pipeline.batches(0))

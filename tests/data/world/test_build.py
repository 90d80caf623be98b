import dataclasses
import os
import re
from collections import Counter

import numpy as np
import pytest

from vljepa_jax.config import VideoInput, VJEPA2Config, WorldConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.video import load_clip
from vljepa_jax.data.world import build, pairs, phrases
from vljepa_jax.data.world.scene import COUNT_SHARES, draw_cast


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return WorldConfig(
        seed=1,
        cache_dir=str(tmp_path_factory.mktemp("worlds")),
        train_clips=48,
        train_triplets=0,
        test_clips=24,
        compositional_clips=24,
        streams=1,
        stream_kind="poisson",
        stream_density=0.4,
        image_size=32,
        frames=4,
        fps=2,
    )


@pytest.fixture(scope="module")
def world(config):
    return open_dataset(build.build_world(config))


def records(world, split):
    return list(world.records(split))


def test_splits_and_labels(world):
    assert world.splits == {"train": 60, "test": 36, "test_compositional": 36, "streams": 1}
    assert set(world.labels) == {"objects", "motions", "counts", "yes_no", "colours"}


def test_it_is_built_once(config, world, monkeypatch):
    monkeypatch.setattr(build, "write_dataset", None)
    assert build.build_world(config) == world.directory
    assert find_dataset("@world", config).directory == world.directory
    assert find_dataset(world.directory, None).directory == world.directory


def test_worlds_with_poisson_streams_lie_where_they_did(config):
    """The digest is that of the code from before there was another kind."""
    config = dataclasses.replace(config, cache_dir="")
    assert build.fingerprint(config) == "9de45a3fbe0d855b"
    procedural = dataclasses.replace(config, stream_kind="procedural")
    assert build.fingerprint(procedural) != build.fingerprint(config)


def test_a_world_has_streams_of_the_kind_asked_for(config):
    config = dataclasses.replace(config, stream_kind="procedural")
    (task,) = build.list_tasks(config, "streams")
    (annotation,) = build.make_record(config, task).annotations
    ends = np.array(annotation.times) + np.array(annotation.durations) / 2
    starts = np.array(annotation.times) - np.array(annotation.durations) / 2
    assert (starts[1:] >= ends[:-1] - 1e-9).all()  # one thing after another


def test_the_directory_depends_on_the_content_alone(config):
    moved = dataclasses.replace(config, cache_dir="/elsewhere")
    assert build.fingerprint(moved) == build.fingerprint(config)
    for field in dataclasses.fields(config):
        if field.name not in ("cache_dir", "stream_kind"):
            value = getattr(config, field.name) + 1
            other = dataclasses.replace(config, **{field.name: value})
            assert build.fingerprint(other) != build.fingerprint(config), field.name


def test_content_version_counts(config, monkeypatch):
    before = build.fingerprint(config)
    monkeypatch.setattr(build, "CONTENT_VERSION", build.CONTENT_VERSION + 1)
    assert build.fingerprint(config) != before


def test_a_world_of_another_format_is_not_opened_but_made_anew(config, monkeypatch):
    before = build.fingerprint(config)
    monkeypatch.setattr(build, "FORMAT", build.FORMAT + 1)
    assert build.fingerprint(config) != before


def test_training_and_test_pairs_are_separate(world):
    events = {
        split: [
            set(annotation.tags["meaning"].split("+"))
            for record in records(world, split)
            for annotation in record.annotations
            if "meaning" in annotation.tags
        ]
        for split in ("train", "test", "test_compositional")
    }
    held_out = {f"{name}:{motion}" for name, motion in pairs.held_out()}
    for clip in events["train"] + events["test"]:
        assert not clip & held_out
    for clip in events["test_compositional"]:
        assert clip <= held_out
    assert all(events.values())


def test_no_text_of_training_tells_a_held_out_pair_of_states(world):
    for record in records(world, "train"):
        for annotation in record.annotations:
            if annotation.task == "state":
                event = (annotation.tags["object"], annotation.tags["motion"])
                assert event not in pairs.held_out()
    unseen = [
        (annotation.tags["object"], annotation.tags["motion"])
        for record in records(world, "test_compositional")
        for annotation in record.annotations
        if annotation.task == "state"
    ]
    assert len(unseen) == 6
    assert set(unseen) <= pairs.held_out()


def test_training_never_hears_held_out_phrasings(world):
    held_out = [
        re.compile(rf"\b{re.escape(form)}\b")
        for wording in phrases.MOTIONS.values()
        for phrase in wording.held_out
        for form in (phrase.verb, phrase.gerund)
    ]
    openings = tuple(t.sentence.split("{")[0] for t in phrases.HELD_OUT_TEMPLATES)
    for record in records(world, "train"):
        for annotation in record.annotations:
            assert annotation.tags["phrasing"] == "seen"
            for text in (annotation.query, *annotation.texts):
                assert not any(phrase.search(text) for phrase in held_out), text
                assert not text.startswith(openings), text
    heard = Counter(
        any(phrase.search(text) for phrase in held_out)
        for record in records(world, "test")
        for annotation in record.annotations
        if annotation.tags["phrasing"] == "held_out"
        for text in annotation.texts
    )
    assert set(heard) == {True}


def test_no_clip_occurs_twice(world):
    media = [
        record.media[0].data
        for split in ("train", "test", "test_compositional")
        for record in records(world, split)
        if record.media
    ]
    assert len(set(media)) == len(media)


def test_annotation_ids_are_unique(world):
    ids = [a.id for split in world.splits for r in records(world, split) for a in r.annotations]
    assert len(set(ids)) == len(ids)


def test_every_medium_can_be_decoded(world):
    video = VideoInput(4, 32, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)
    media = world.media("test")
    clip, state = media[0], media[24]
    (question,) = world.annotations("test").of(24)
    assert np.ptp(load_clip(clip.media, video, None)) > 20
    assert len(state.media) == 6
    pair = load_clip(state.media[:2], video, None)
    gold = state.media[question.candidate_media[question.gold]]
    happened = load_clip([gold], video, None)
    assert np.abs(pair[0].astype(int) - happened[0]).mean() < 8
    assert np.abs(pair[-1].astype(int) - happened[-1]).mean() < 8
    stream = world.media("streams")[0]
    assert load_clip(stream.media, video, None).shape == (4, 32, 32, 3)


def test_processes_make_what_one_process_makes(config, world, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "_FEW", 0)
    monkeypatch.setattr(build, "_CHUNK", 7)
    monkeypatch.setattr(build, "available_cpus", lambda: 2)
    apart = dataclasses.replace(config, cache_dir=str(tmp_path))
    other = open_dataset(build.build_world(apart))
    for split in world.splits:
        assert records(other, split) == records(world, split)


def test_another_seed_gives_another_world(config):
    task = build.Task("train", "clip", 0)
    other = dataclasses.replace(config, seed=config.seed + 1)
    assert build.make_record(config, task) != build.make_record(other, task)


def test_splits_share_no_draws(config):
    """Equal indices of different splits and kinds must not give the same clip."""
    firsts = {
        build.task_rng(config, build.Task(split, kind, 0)).random()
        for split in ("train", "test", "test_compositional")
        for kind in ("clip", "state", "triplet")
    }
    assert len(firsts) == 9


def test_a_failed_build_leaves_no_world(config, monkeypatch, tmp_path):
    apart = dataclasses.replace(config, cache_dir=str(tmp_path))
    real = build.make_record

    def fail_late(settings, task):
        if task.split == "test":
            raise RuntimeError("killed")
        return real(settings, task)

    monkeypatch.setattr(build, "make_record", fail_late)
    with pytest.raises(RuntimeError, match="killed"):
        build.build_world(apart)
    assert not os.path.exists(tmp_path / build.fingerprint(apart))


def test_losing_a_race_keeps_the_winner(config, monkeypatch, tmp_path):
    apart = dataclasses.replace(config, cache_dir=str(tmp_path))
    winner = tmp_path / build.fingerprint(apart)

    def lose(directory, splits, **settings):
        winner.mkdir()
        raise FileExistsError("it exists")

    monkeypatch.setattr(build, "write_dataset", lose)
    assert build.build_world(apart) == str(winner)


def test_a_disk_error_is_not_mistaken_for_a_race(config, monkeypatch, tmp_path):
    def full(directory, splits, **settings):
        raise OSError("No space left on device")

    monkeypatch.setattr(build, "write_dataset", full)
    with pytest.raises(OSError, match="No space"):
        build.build_world(dataclasses.replace(config, cache_dir=str(tmp_path)))


def test_compositional_clips_have_five_hundred_meanings_and_the_usual_counts(config):
    large = dataclasses.replace(config, compositional_clips=800)
    meanings, counts = set(), Counter()
    for task in build.list_tasks(large, "test_compositional"):
        if task.kind == "clip":
            cast = draw_cast(build.task_rng(large, task), unseen=True)
            meanings.add(frozenset((thing.name, motion) for thing, motion in cast))
            counts[len(cast)] += 1
    assert len(meanings) >= 500
    for count, share in enumerate(COUNT_SHARES, 1):
        assert counts[count] / 800 == pytest.approx(share, abs=0.06)

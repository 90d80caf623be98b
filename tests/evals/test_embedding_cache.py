"""Embeddings on disk: the same vectors back, whoever wrote them; nothing is embedded twice."""

import dataclasses
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.helpers.colour_model import COLOURS, ColourModel
from vljepa_jax.config import BenchmarkConfig, ChooseConfig, ConfigError, EvalConfig
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embedding_cache import CacheError, EmbeddingCache, as_keys, vector_key
from vljepa_jax.evals.evaluate import evaluate_each
from vljepa_jax.evals.run import write_evaluation

KEYS = as_keys(vector_key("text", str(number)) for number in range(10))


def vectors(count):
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def test_vectors_come_back_bit_by_bit_from_memory_and_from_disk(tmp_path):
    rows = vectors(10)
    with EmbeddingCache(tmp_path, "model", 4, shard_bytes=3 * 16) as cache:
        for row in range(0, 10, 2):
            cache.add(KEYS[row : row + 2], rows[row : row + 2])
        # Full at three: what waits is written with the fourth, and none is kept in memory.
        assert len(list((tmp_path / "model").glob("*.keys.npy"))) == 2
        np.testing.assert_array_equal(cache.read(KEYS[::-1]), rows[::-1])
    again = EmbeddingCache(tmp_path, "model", 4)
    assert len(again) == 10
    np.testing.assert_array_equal(again.read(KEYS[[9, 0, 4]]), rows[[9, 0, 4]])
    assert again.has(as_keys([vector_key("text", "10"), KEYS[3]])).tolist() == [False, True]
    assert len(EmbeddingCache(tmp_path, "another", 4)) == 0


def test_names_that_end_in_zeros_are_whole(tmp_path):
    keys = as_keys([b"a" * 15 + b"\0", b"a" * 14 + b"\0\0", b"\0" * 16])
    with EmbeddingCache(tmp_path, "model", 4) as cache:
        cache.add(keys, vectors(3))
        np.testing.assert_array_equal(cache.read(keys), vectors(3))
    again = EmbeddingCache(tmp_path, "model", 4)
    np.testing.assert_array_equal(again.read(keys[::-1]), vectors(3)[::-1])
    assert len(again) == 3


def test_another_process_is_seen_when_it_has_written(tmp_path):
    one, two = (EmbeddingCache(tmp_path, "model", 4) for _ in range(2))
    one.add(KEYS[:1], vectors(1))
    two.add(KEYS[:2], vectors(2))  # the same key: both have the same vector
    one.flush(), two.flush()
    assert one.has(KEYS[:2]).tolist() == [True, False]
    one.refresh()
    np.testing.assert_array_equal(one.read(KEYS[:2]), vectors(2))


def test_what_was_not_completed_counts_for_nothing_and_is_swept_a_day_later(tmp_path):
    with EmbeddingCache(tmp_path, "model", 4) as cache:
        cache.add(KEYS[:1], vectors(1))
    names = ("a.keys.npy.tmp", "b.keys.npy.tmp", "c.vectors.npy")
    new, *old = (tmp_path / "model" / name for name in names)
    for path in (new, *old):
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (0, 0))
    assert len(EmbeddingCache(tmp_path, "model", 4)) == 1
    assert [path.exists() for path in (new, *old)] == [True, False, False]


def test_a_damaged_shard_is_named(tmp_path):
    with EmbeddingCache(tmp_path, "model", 4) as cache:
        cache.add(KEYS, vectors(10))
    with pytest.raises(
        CacheError, match=r"is float32 \[10, 4\], where float32 \[10, 5\] .* delete it"
    ):
        EmbeddingCache(tmp_path, "model", 5)
    (shard,) = (tmp_path / "model").glob("*.vectors.npy")
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(CacheError, match="keys.npy: cannot be read, or its vectors .* delete both"):
        EmbeddingCache(tmp_path, "model", 4)


class Counting(ColourModel):
    def __init__(self):
        super().__init__()
        self.texts = []

    def embed_text(self, texts):
        self.texts += texts
        return super().embed_text(texts)


@pytest.fixture
def pictures(tmp_path):
    """Three pictures as files, one of which cannot be read, and two questions about each."""
    records = []
    for colour in COLOURS:
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (20, 20), COLOURS[colour]).save(path)
        asked = [
            Annotation(f"{colour}-{query}", "vqa", query, candidates=tuple(COLOURS), gold=0)
            for query in ("colour", "opposite")
        ]
        records.append(Record(colour, (Medium(path=str(path)),), tuple(asked)))
    (tmp_path / "blue.png").write_bytes(b"no picture")
    write_dataset(tmp_path / "d", {"test": records}, name="d", description="", labels={})
    return tmp_path


def asked(folder, query=None):
    path = str(folder / "d")
    return BenchmarkConfig("vqa", "", ChooseConfig(), path, "test", {}, query, 0)


def measured(folder, *benchmarks, model=None):
    """The results, and what the model had to embed: clips, and texts."""
    model = model or Counting()
    with EmbeddingCache(folder / "kept", model.fingerprint, 3) as cache:
        datasets = Datasets(None, num_workers=0)
        results = dict(evaluate_each(model, benchmarks, datasets, cache))
    return results, model.encoded, sorted(model.texts)


def test_nothing_is_embedded_twice_and_unreadable_clips_are_tried_again(pictures):
    first, clips, texts = measured(pictures, asked(pictures))
    assert (clips, texts) == (2, sorted(COLOURS))
    again, clips, texts = measured(pictures, asked(pictures))
    assert (clips, texts) == (0, [])
    assert again[0].metrics == first[0].metrics
    assert [o.options for o in again[0].outcomes] == [o.options for o in first[0].outcomes]
    assert list(again[0].unreadable) == list(first[0].unreadable) != []
    # A new question about all clips; then the third file is mended, and another changes.
    assert measured(pictures, asked(pictures, "another"))[1:] == (2, [])
    Image.new("RGB", (20, 20), COLOURS["blue"]).save(pictures / "blue.png")
    mended, clips, _ = measured(pictures, asked(pictures))
    assert (clips, dict(mended[0].unreadable)) == (1, {})
    Image.new("RGB", (30, 30), COLOURS["blue"]).save(pictures / "red.png")
    changed, clips, _ = measured(pictures, asked(pictures))
    assert clips == 1
    assert [o.correct for o in changed[0].outcomes][:2] != [o.correct for o in first[0].outcomes][
        :2
    ]


def test_another_model_and_other_frames_share_nothing(pictures):
    assert measured(pictures, asked(pictures))[1] == 2
    other = Counting()
    other.fingerprint = "other"
    assert measured(pictures, asked(pictures), model=other)[1:] == (2, sorted(COLOURS))
    longer = Counting()
    longer.video = dataclasses.replace(Counting.video, frames=4)
    assert measured(pictures, asked(pictures), model=longer)[1:] == (2, [])


def test_benchmarks_share_what_is_embedded(pictures):
    twice = asked(pictures), asked(pictures)
    assert measured(pictures, *twice)[1] == 2


def test_a_benchmark_reads_clips_in_its_own_way(tmp_path):
    """Red before green; and a wide picture, red at its centre, of which two thirds are blue."""
    film = np.concatenate([np.full((6, 32, 32, 3), COLOURS[c], np.uint8) for c in ("red", "green")])
    wide = np.full((16, 48, 3), COLOURS["blue"], np.uint8)
    wide[:, 16:32] = COLOURS["red"]
    picture = io.BytesIO()
    Image.fromarray(wide).save(picture, "PNG")
    records = [
        Record(
            name,
            (Medium(data=data),),
            (Annotation(name, "vqa", inputs=(0,), candidates=tuple(COLOURS), gold=0),),
        )
        for name, data in (("film", write_mp4(film, 6)), ("picture", picture.getvalue()))
    ]
    write_dataset(tmp_path / "d", {"test": records}, name="d", description="", labels={})

    def answers(**how):
        benchmark = dataclasses.replace(asked(tmp_path), **how)
        results, clips, _ = measured(tmp_path, benchmark)
        return [outcome.options[0].item for outcome in results[0].outcomes], clips

    everything, clips = answers(frames=4)
    assert (everything[1], clips) == ("red", 2)
    assert answers(window=(0.0, 0.5)) == (["red", "red"], 2)
    assert answers(window=(0.5, 1.0)) == (["green", "red"], 2)
    assert answers(window=(0.5, 1.0), fit="squash") == (["green", "blue"], 2)
    # Each is kept by how it was read.
    assert answers(window=(0.5, 1.0), fit="squash") == (["green", "blue"], 0)
    assert answers(window=(0.5, 1.0), fit="short_side") == (["green", "red"], 0)  # the model's own
    assert answers(frames=2, window=(0.5, 1.0)) == (["green", "red"], 0)  # so is this
    assert answers(frames=4, window=(0.5, 1.0)) == (["green", "red"], 2)
    both, clips, _ = measured(tmp_path, asked(tmp_path), asked(tmp_path), model=Odd())
    assert (both[0].metrics, clips) == (both[1].metrics, 2)
    with pytest.raises(ConfigError, match="no clip of 3 frames"):
        measured(
            tmp_path, asked(tmp_path), dataclasses.replace(asked(tmp_path), frames=3), model=Odd()
        )


class Odd(Counting):
    """Takes an even number of frames."""

    fingerprint = "even"

    def require_frames(self, frames):
        if frames % 2:
            raise ConfigError(f"no clip of {frames} frames")


def test_frames_of_the_config_come_before_a_benchmarks(pictures):
    own = dataclasses.replace(asked(pictures), frames=6)
    for frames, expected in ((0, 6), (4, 4)):
        model = Counting()
        model.video = dataclasses.replace(Counting.video, frames=frames or 2)  # as load has it
        config = EvalConfig(frames, 2, None, 0, (own,), None)
        write_evaluation(model, config, config.benchmarks, pictures / f"of_{frames}")
        report = json.loads((pictures / f"of_{frames}" / "report.json").read_text())
        assert {metric["frames"] for metric in report["metrics"].values()} == {expected}


@pytest.mark.parametrize("wrong", [{"frames": -1}, {"window": (0.5, 0.5)}, {"window": (0.0, 1.5)}])
def test_ways_to_read_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="benchmark 'vqa': frames"):
        BenchmarkConfig("vqa", "", ChooseConfig(), "d", "test", {}, None, 0, **wrong)

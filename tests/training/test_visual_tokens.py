import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError, OptimizerRule, SourceConfig
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.records import Annotation, ClipError, Medium, Record
from vljepa_jax.data.storage import open_dataset, write_dataset
from vljepa_jax.data.token_cache import TokenCache, caches_of
from vljepa_jax.data.video import load_clip, write_mp4
from vljepa_jax.data.workers import decode_media
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_dir import read_metrics
from vljepa_jax.training.train_loop import train
from vljepa_jax.training.visual_tokens import cache_visual_tokens

BROKEN = 3


@pytest.fixture
def dataset(tmp_path):
    """Forty records of two clips each, more than a batch of the encoder; one cannot be read."""
    rng = np.random.default_rng(0)

    def record(index):
        media = [
            Medium(data=write_mp4(rng.integers(0, 256, (6, 32, 32, 3), np.uint8), 6))
            for _ in range(2)
        ]
        if index == BROKEN:
            media[1] = Medium(data=b"no video")
        annotations = [
            Annotation(
                f"{index}/{inputs}",
                "caption",
                texts=(f"number {index}",),
                inputs=inputs,
                tags={"media": str(len(inputs))},
            )
            for inputs in ((0,), (1,), (0, 1))
        ]
        return Record(f"clip-{index}", tuple(media), tuple(annotations))

    directory = tmp_path / "clips"
    write_dataset(
        directory, {"train": map(record, range(40))}, name="clips", description="", labels={}
    )
    return directory


@pytest.fixture
def config(dataset):
    config = tiny_train_config(steps=3)
    source = SourceConfig(str(dataset), "train", weight=1.0, tasks={"caption": 1.0}, tags={})
    video = dataclasses.replace(config.data.video, sampling="uniform", crop="centre")
    frozen = OptimizerRule(
        "^x_encoder/", frozen=True, lr_multiplier=1.0, weight_decay_multiplier=1.0
    )
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, sources=(source,), video=video, visual_tokens="cache"
        ),
        optimizer=dataclasses.replace(config.optimizer, rules=(frozen, *config.optimizer.rules)),
    )


def on_the_fly(config):
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, visual_tokens="compute")
    )


def cache_of(config, dataset, params):
    key = cache_visual_tokens(config, params, Console())
    (directory,) = (dataset / "visual_tokens" / "train").glob(f"*-{key}")
    return TokenCache(directory), key


def test_cached_tokens_equal_computed_ones(config, dataset):
    params, _ = make_objective(config).init(jax.random.key(1))
    cache, key = cache_of(config, dataset, params)
    source = open_dataset(dataset).media("train")
    for index in (0, 17, 39):
        for inputs in ((0,), (1,), (0, 1)):
            clip = load_clip([source[index].media[i] for i in inputs], config.video_input, None)
            expected = VLJEPA(config.model).apply(
                {"params": params}, clip[None], method="encode_video"
            )
            np.testing.assert_allclose(cache[index, inputs], expected[0], atol=1e-5)
    with pytest.raises(ClipError, match=f"clip-{BROKEN}"):
        cache[BROKEN, (1,)]
    batch = next(TrainPipeline(config, key).batches(0))
    shape, dtype = array_spec(config)["visual_tokens"]
    assert batch.arrays["visual_tokens"].shape == shape
    assert batch.arrays["visual_tokens"].dtype == dtype
    assert "video" not in batch.arrays


def test_a_run_on_cached_tokens_has_the_same_losses(config, dataset, tmp_path):
    train(config, tmp_path / "cached")
    train(on_the_fly(config), tmp_path / "computed")
    cached, computed = (read_metrics(tmp_path / name) for name in ("cached", "computed"))
    assert [row["data/replaced"] for row in cached] == [row["data/replaced"] for row in computed]
    np.testing.assert_allclose(
        [row["loss"] for row in cached], [row["loss"] for row in computed], rtol=1e-5
    )


def test_the_key_names_weights_and_frames(config, dataset):
    params, _ = make_objective(config).init(jax.random.key(1))
    key = cache_visual_tokens(config, params, Console())
    assert cache_visual_tokens(config, params, Console()) == key
    changed = jax.tree.map(np.array, params)
    changed["x_encoder"]["norm"]["bias"] += 1e-6
    assert cache_visual_tokens(config, changed, Console()) != key
    video = dataclasses.replace(config.data.video, frames=2)
    fewer = dataclasses.replace(config, data=dataclasses.replace(config.data, video=video))
    assert cache_visual_tokens(fewer, params, Console()) != key
    other_text = jax.tree.map(np.array, params)
    other_text["y_head"]["kernel"] += 1.0
    assert cache_visual_tokens(config, other_text, Console()) == key
    assert len(list((dataset / "visual_tokens" / "train").iterdir())) == 3


def test_what_an_earlier_run_computed_is_not_computed_again(config, dataset, monkeypatch):
    """But for what could not be read, which is tried again."""
    params, _ = make_objective(config).init(jax.random.key(1))
    asked = []

    def decode(source, clips, *args):
        asked.append(list(clips))
        return decode_media(source, clips, *args)

    monkeypatch.setattr("vljepa_jax.training.visual_tokens.decode_media", decode)
    single = dataclasses.replace(config.data.sources[0], tags={"media": "1"})
    data = dataclasses.replace(config.data, sources=(single,))
    key = cache_visual_tokens(dataclasses.replace(config, data=data), params, Console())
    assert cache_visual_tokens(config, params, Console()) == key
    assert asked[0] == [(index, (medium,)) for index in range(40) for medium in (0, 1)]
    assert sorted(asked[1]) == sorted([*((index, (0, 1)) for index in range(40)), (BROKEN, (1,))])
    few, all_of_them = caches_of(str(dataset), "train", key)
    if few.holds((0, (0, 1)), ""):
        few, all_of_them = all_of_them, few
    for clip in asked[0]:
        if clip == (BROKEN, (1,)):
            with pytest.raises(ClipError, match=f"clip-{BROKEN}"):
                all_of_them[clip]
        else:
            np.testing.assert_array_equal(all_of_them[clip], few[clip])
    for index in (0, 17, 39):
        source = open_dataset(dataset).media("train")
        clip = load_clip(source[index].media, config.video_input, None)
        expected = VLJEPA(config.model).apply({"params": params}, clip[None], method="encode_video")
        np.testing.assert_allclose(all_of_them[index, (0, 1)], expected[0], atol=1e-5)


@pytest.fixture
def files(tmp_path):
    """Three records of a file each, the last one damaged, and the dataset over them."""
    paths = [tmp_path / f"{index}.mp4" for index in range(3)]
    rng = np.random.default_rng(1)
    for path in paths[:2]:
        path.write_bytes(write_mp4(rng.integers(0, 256, (6, 32, 32, 3), np.uint8), 6))
    paths[2].write_bytes(b"no video")
    records = [
        Record(
            path.stem, (Medium(path=str(path)),), (Annotation(path.stem, "caption", texts=("x",)),)
        )
        for path in paths
    ]
    directory = tmp_path / "by_path"
    write_dataset(directory, {"train": records}, name="files", description="", labels={})
    return paths, directory


def test_files_that_changed_are_read_again(config, files, monkeypatch):
    paths, directory = files
    source = dataclasses.replace(config.data.sources[0], path=str(directory))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(source,)))
    params, _ = make_objective(config).init(jax.random.key(1))
    asked = []

    def decode(source, clips, *args):
        asked.append([record for record, _ in clips])
        return decode_media(source, clips, *args)

    monkeypatch.setattr("vljepa_jax.training.visual_tokens.decode_media", decode)

    def cached():
        """Which clips were decoded, and the tokens of each."""
        asked.clear()
        key = cache_visual_tokens(config, params, Console())
        (cache,) = caches_of(str(directory), "train", key)
        tokens = []
        for record in range(3):
            try:
                tokens.append(cache[record, (0,)])
            except ClipError as error:
                tokens.append(str(error))
        return list(asked), tokens

    def expected(index):
        clip = load_clip([Medium(path=str(paths[index]))], config.video_input, None)
        return VLJEPA(config.model).apply({"params": params}, clip[None], method="encode_video")[0]

    decoded, first = cached()
    assert decoded == [[0, 1, 2]]
    assert "2.mp4" in first[2]
    decoded, again = cached()
    assert decoded == [[2]]  # an error is not believed
    np.testing.assert_array_equal(again[:2], first[:2])

    rng = np.random.default_rng(2)
    for index in (1, 2):  # replaced, and repaired
        new = paths[index].with_suffix(".new")
        new.write_bytes(write_mp4(rng.integers(0, 256, (6, 32, 32, 3), np.uint8), 6))
        new.replace(paths[index])
    decoded, after = cached()
    assert decoded == [[1, 2]]
    np.testing.assert_array_equal(after[0], first[0])
    assert np.abs(after[1] - first[1]).max() > 1e-3
    for index in (1, 2):
        np.testing.assert_allclose(after[index], expected(index), atol=1e-5)
    assert cached()[0] == [[]]

    paths[0].unlink()
    decoded, without = cached()
    assert decoded == [[0]]
    assert "0.mp4" in without[0]


def test_random_sampling_is_refused(config):
    video = dataclasses.replace(config.data.video, crop="random")
    random = dataclasses.replace(config, data=dataclasses.replace(config.data, video=video))
    params, _ = make_objective(config).init(jax.random.key(1))
    with pytest.raises(ConfigError, match="needs video.sampling 'uniform' and video.crop 'centre'"):
        cache_visual_tokens(random, params, Console())


def test_a_full_disk_leaves_no_cache(config, dataset, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_2_0", full)
    params, _ = make_objective(config).init(jax.random.key(1))
    with pytest.raises(OSError, match="No space left"):
        cache_visual_tokens(config, params, Console())
    assert not (dataset / "visual_tokens" / "train").exists()

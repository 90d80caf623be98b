"""A family of video encoders that the package does not know: a config class, a module and a row."""

import dataclasses
import io

import chex
import einops
import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import OptimizerRule, Preprocessing, SourceConfig
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.token_cache import TokenCache
from vljepa_jax.inference.model import Model
from vljepa_jax.models import layers, video_encoder
from vljepa_jax.objectives import make_objective
from vljepa_jax.planning.summary import visual_token_count
from vljepa_jax.run_dir import newest, read_params
from vljepa_jax.training.run_log import read_metrics
from vljepa_jax.training.train_loop import train


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """Every frame on its own, a token for each quarter of it."""

    family: str = "toy"
    hidden_size: int = 12
    preprocessing = Preprocessing(
        mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), fit="squash", kernel="bicubic"
    )

    def token_grid(self, frames, height, width):
        del height, width
        return frames, 2, 2


class Toy(nn.Module):
    """The mean colours of a quarter, projected."""

    config: ToyConfig
    dtype: object
    remat: str
    unroll: bool

    @nn.compact
    def __call__(self, video):
        pixels = layers.normalise_pixels(video, self.config.preprocessing)
        colours = einops.reduce(pixels, "b t (r h) (c w) rgb -> b (t r c) rgb", "mean", r=2, c=2)
        return nn.Dense(self.config.hidden_size, dtype=self.dtype)(colours)


SIDE, FRAMES = 32, 4
QUARTERS = 4 * FRAMES  # tokens of a clip


@pytest.fixture(scope="module")
def pictures():
    """Upright and lying ones: no square, no size of the loader's."""
    rng = np.random.default_rng(0)
    sizes = [(40, 56), (70, 36)] * 5
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture
def config(tmp_path, pictures, monkeypatch):
    monkeypatch.setitem(video_encoder.VIDEO_ENCODERS, "toy", Toy)

    def record(index):
        file = io.BytesIO()
        Image.fromarray(pictures[index]).save(file, "PNG")
        annotation = Annotation(f"{index}", "caption", texts=(f"picture {index}",))
        return Record(str(index), (Medium(data=file.getvalue()),), (annotation,))

    records = map(record, range(len(pictures)))
    write_dataset(
        tmp_path / "pictures", {"train": records}, name="pictures", description="", labels={}
    )
    base = tiny_train_config(steps=2)
    source = SourceConfig(str(tmp_path / "pictures"), "train", 1.0, {"caption": 1.0}, {})
    video = dataclasses.replace(base.data.video, frames=FRAMES, sampling="uniform", crop="centre")
    data = dataclasses.replace(base.data, sources=(source,), video=video)
    return dataclasses.replace(
        base, model=dataclasses.replace(base.model, x_encoder=ToyConfig()), data=data
    )


def squashed(picture):
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def tokens_of(picture, dense):
    """[16, 12], by Pillow and numpy."""
    halves = [slice(0, SIDE // 2), slice(SIDE // 2, SIDE)]
    pixels = (squashed(picture) / 255 - [0.5, 0.4, 0.3]) / [0.5, 0.25, 0.2]
    quarters = np.array([pixels[r, c].mean((0, 1)) for r in halves for c in halves])
    return np.tile(quarters @ dense["kernel"] + dense["bias"], (FRAMES, 1))


def test_the_loader_follows_the_family(config, pictures):
    assert config.token_grid == (FRAMES, 2, 2)
    assert visual_token_count(config) == QUARTERS
    cached = dataclasses.replace(config.data, visual_tokens="cache")
    spec = array_spec(dataclasses.replace(config, data=cached))
    assert spec["visual_tokens"] == ((8, QUARTERS, 12), np.float32)
    batches = list(TrainPipeline(config).batches(0))
    assert len(batches) == 2
    for batch in batches:
        for name, clip in zip(batch.ids, batch.arrays["video"], strict=True):
            np.testing.assert_array_equal(clip, [squashed(pictures[int(name)])] * FRAMES)


def test_a_vljepa_trains_on_it(config, pictures, tmp_path):
    before = np.asarray(
        jax.jit(make_objective(config).init)(jax.random.key(0))[0]["x_encoder"]["Dense_0"]["kernel"]
    )
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2]
    chex.assert_tree_all_finite([row["loss"] for row in rows])
    params = read_params(newest(tmp_path / "run"))
    dense = params["x_encoder"]["Dense_0"]
    assert not np.array_equal(dense["kernel"], before)
    model = Model(config, params)
    clips = np.stack([squashed(picture)[None].repeat(FRAMES, 0) for picture in pictures[:2]])
    expected = [tokens_of(picture, dense) for picture in pictures[:2]]
    np.testing.assert_allclose(model.encode_clips(clips), expected, atol=1e-5)
    # Pictures as people hand them over are fitted in the same way.
    np.testing.assert_allclose(
        model.embed_video(pictures[:2]), model.predict(clips, ["", ""]), atol=1e-6
    )


def test_its_tokens_are_cached(config, pictures, tmp_path):
    rules = (OptimizerRule("^x_encoder/", True, 0.0, 0.0), *config.optimizer.rules)
    cached = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, rules=rules),
        data=dataclasses.replace(config.data, visual_tokens="cache"),
    )
    train(cached, tmp_path / "run")
    dense = read_params(newest(tmp_path / "run"))["x_encoder"]["Dense_0"]
    (directory,) = (tmp_path / "pictures" / "visual_tokens" / "train").iterdir()
    cache = TokenCache(directory)
    for index, picture in enumerate(pictures):
        np.testing.assert_allclose(cache[index, (0,)], tokens_of(picture, dense), atol=1e-5)

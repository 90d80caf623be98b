import dataclasses
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest

import vljepa_jax
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.data.records import ClipError, Medium
from vljepa_jax.data.video import load_clip, write_mp4
from vljepa_jax.inference.labels import mean_embedding
from vljepa_jax.inference.model import Model
from vljepa_jax.inference.videos import read_video
from vljepa_jax.run_dir import CheckpointError

TEXTS = ["a dog", "a red car that drives to the left", "", "two cats and a light bulb that spins"]


@pytest.fixture(scope="module")
def config():
    return tiny_train_config()


@pytest.fixture(scope="module")
def params(config):
    return random_params(config)


@pytest.fixture(scope="module")
def model(config, params):
    return Model(config, params, batch_size=4)


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(1).integers(0, 256, (7, 4, 32, 32, 3), dtype=np.uint8)


def assert_unit(embeddings, n, model):
    assert embeddings.shape == (n, model.config.model.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_text_does_not_depend_on_its_batch_or_padding(model, config, params):
    embeddings = model.embed_text(TEXTS)
    assert_unit(embeddings, len(TEXTS), model)
    alone = np.concatenate([model.embed_text(text) for text in TEXTS])
    np.testing.assert_allclose(embeddings, alone, atol=1e-5)
    other = Model(config, params, batch_size=3).embed_text(TEXTS)  # 3 is no power of two
    np.testing.assert_allclose(embeddings, other, atol=1e-5)
    assert np.abs(embeddings @ embeddings.T - np.eye(4)).max(initial=0) < 0.999  # they differ


def test_the_target_prompt_precedes_every_text(config, params, model):
    text = dataclasses.replace(config.data.text, target_prompt="a red ")
    prompted = dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))
    np.testing.assert_allclose(
        Model(prompted, params).embed_text("car"), model.embed_text("a red car"), atol=1e-5
    )


def test_a_prediction_does_not_depend_on_its_batch_or_padding(model, clips):
    queries = ["", "What is the action shown?", "Which object is this?"] * 2 + [""]
    together = model.predict(clips, queries)
    assert_unit(together, 7, model)
    alone = [model.predict(c[None], [q])[0] for c, q in zip(clips, queries, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(model.predict(clips[:1], ["x"]) - model.predict(clips[:1], ["y"])).max() > 1e-3


def test_several_questions_about_a_clip_share_its_visual_tokens(model, clips):
    rows = np.array([2, 0, 2, 1, 2])
    queries = ["What moves?", "", "How many objects are there?", "Where?", ""]
    pairs = model.predict_tokens(model.encode_clips(clips[:3]), rows, queries)
    np.testing.assert_allclose(pairs, model.predict(clips[rows], queries), atol=1e-5)


def test_every_form_of_video_gives_its_clip(model, tmp_path, clips):
    frames = np.random.default_rng(2).integers(0, 256, (10, 48, 64, 3), dtype=np.uint8)
    path = tmp_path / "clip.mp4"
    path.write_bytes(write_mp4(frames, fps=5))
    span = Medium(path=str(path), start=0.5, end=1.5)
    image = PIL.Image.fromarray(frames[0])
    embeddings = model.embed_video([path, str(path), span, frames, frames[0], image])
    assert_unit(embeddings, 6, model)
    clip = load_clip([Medium(path=str(path))], model.video, rng=None)
    np.testing.assert_allclose(embeddings[0], model.predict(clip[None], [""])[0], atol=1e-5)
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)
    np.testing.assert_allclose(embeddings[4], embeddings[5], atol=1e-5)
    assert np.abs(embeddings[2] - embeddings[0]).max() > 1e-3
    # one video gives one row; an array of five axes is a batch
    np.testing.assert_allclose(model.embed_video(frames), embeddings[3:4], atol=1e-5)
    queries = [f"query {i}" for i in range(7)]
    np.testing.assert_allclose(
        model.embed_video(clips, queries), model.predict(clips, queries), atol=1e-5
    )
    with pytest.raises(ValueError, match="2 queries for 7 videos"):
        model.embed_video(clips, ["a", "b"])
    with pytest.raises(ClipError, match="got float64"):
        model.embed_video(frames / 255)


@pytest.mark.parametrize("wrong", [7, [[PIL.Image.new("RGB", (8, 8))]]])
def test_what_is_no_video_is_told(model, wrong):
    with pytest.raises(TypeError, match="a video is a path, an array of frames"):
        model.embed_video(wrong)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_read_as_their_files(model, tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    rgba = np.random.default_rng(orientation).integers(0, 256, (36, 48, 4), np.uint8)
    deep = rgba[..., 0].astype(np.uint16) * 257
    for name, pixels in (("alpha.png", rgba), ("deep.png", deep)):
        path = tmp_path / name
        PIL.Image.fromarray(pixels).save(path, exif=exif)
        with PIL.Image.open(path) as image:
            clips = [read_video(video, model.video) for video in (path, image)]
        np.testing.assert_array_equal(*clips)
        turned = np.rot90(pixels, {3: 2, 6: 3, 8: 1}.get(orientation, 0))
        if orientation in (1, 3, 6, 8):
            turned = read_video(PIL.Image.fromarray(turned), model.video)
            np.testing.assert_array_equal(clips[0], turned)
    deep_clip = read_video(PIL.Image.fromarray(deep), model.video)
    grey_clip = read_video(np.repeat(rgba[..., :1], 3, -1), model.video)
    np.testing.assert_array_equal(deep_clip, grey_clip)


def test_frames_other_than_trained(config, params, clips):
    longer = Model(config, params, frames=8)
    assert longer.video.frames == 8
    assert_unit(longer.embed_video(clips), 7, longer)
    with pytest.raises(ConfigError, match="frames = 3: .* a multiple of 2"):
        Model(config, params, frames=3)


def test_classify_ranks_labels_by_cosine(model, clips):
    labels = ["a dog", ["spins", "turns around"], "moves left"]
    ranked = model.classify(clips[0], labels, query="What moves?")
    predicted = model.predict(clips[:1], ["What moves?"])[0]
    spins = mean_embedding(model.embed_text(labels[1]))
    expected = {
        "a dog": model.embed_text("a dog")[0] @ predicted,
        "spins": spins @ predicted,
        "moves left": model.embed_text("moves left")[0] @ predicted,
    }
    assert [text for text, _ in ranked] == sorted(expected, key=expected.get, reverse=True)
    for text, score in ranked:
        assert score == pytest.approx(expected[text], abs=1e-5)
    assert model.answer(clips[0], "What moves?", labels) == ranked[0]
    batch = model.classify(clips[:2], labels, query="What moves?")
    assert [text for text, _ in batch[0]] == [text for text, _ in ranked]
    assert len(model.answer(list(clips[:2]), "What moves?", labels)) == 2


def test_mean_embedding_is_normalised():
    np.testing.assert_allclose(mean_embedding([[1.0, 0.0], [0.0, 1.0]]), [0.5**0.5, 0.5**0.5])


def test_few_shapes_are_compiled(config, params):
    model = Model(config, params, batch_size=4)
    rng = np.random.default_rng(3)
    for n in range(1, 10):
        model.embed_text(["a word " * n] * n)
        # videos of any length and size, queries of any length
        frames = rng.integers(0, 256, (n, 3 * n + 8, 5 * n + 9, 3), dtype=np.uint8)
        videos = [frames, PIL.Image.fromarray(frames[0])] * n
        model.embed_video(videos[:n], ["what " * length for length in range(n)])
        model.classify(frames, ["a dog", "a cat"], "what is it? " * n)
    # batches of 1, 2 and 4; lengths up to 16 are one bucket
    assert model._encode_text._cache_size() == 3
    assert model._encode_video._cache_size() == 3
    assert model._predict._cache_size() == 3


def test_load_reads_a_run_directory(tmp_path, config, params, model):
    with pytest.raises(
        CheckpointError, match=r"holds no model .* looked for:\n  an exported model"
    ):
        vljepa_jax.load(tmp_path)
    (tmp_path / "config.json").write_text('{"objective":')
    with pytest.raises(CheckpointError, match="config.json: is no JSON"):
        vljepa_jax.load(tmp_path)
    (tmp_path / "config.json").unlink()
    save_run(tmp_path, config, params)
    loaded = vljepa_jax.load(tmp_path)
    assert isinstance(loaded, vljepa_jax.Model)
    card = loaded.card
    assert (card["kind"], card["step"], card["source"]) == ("VL-JEPA", 3, str(tmp_path))
    assert card["fingerprint"] == model.fingerprint
    assert card["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (loaded.history.config, loaded.history.summary["steps"]) == (config, 3)
    assert [row["step"] for row in loaded.history.curves] == [1, 2, 3]
    assert (model.card["source"], model.history.curves) == ("", [])
    assert vljepa_jax.load(tmp_path, step=3).card == card
    with pytest.raises(CheckpointError, match="no checkpoint of step 4, only of 3"):
        vljepa_jax.load(tmp_path, step=4)
    np.testing.assert_allclose(loaded.embed_text(TEXTS), model.embed_text(TEXTS), atol=1e-5)


def test_importing_the_package_is_light():
    check = "import sys, vljepa_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = vljepa_jax.lod

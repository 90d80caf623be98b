"""What a model cannot take is told by the argument's name, and not by a library far below."""

import warnings

import numpy as np
import pytest

import vljepa_jax
from tests.helpers.colour_model import ColourModel
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError
from vljepa_jax.data.records import ClipError
from vljepa_jax.inference.model import Model
from vljepa_jax.inference.text_decoder import TextBank

RED = np.full((2, 16, 16, 3), (255, 0, 0), np.uint8)


@pytest.mark.parametrize(
    ("labels", "kind", "reason"),
    [
        ("a dog", TypeError, r"^{} is one text, where a list is needed: \['a dog'\]$"),
        ([], ValueError, "^{} is empty: there is nothing to choose from$"),
        ([[]], ValueError, r"^{}\[0\] has no text$"),
        (["a", 3], TypeError, r"^{}\[1\] is no text, but int$"),
        (["a", ["b", None]], TypeError, r"^{}\[1\]\[1\] is no text, but NoneType$"),
        (["a \ud83d"], ValueError, r"^{}\[0\] holds '.ud83d', half a character$"),
    ],
)
def test_candidates(labels, kind, reason):
    model = ColourModel()
    with pytest.raises(kind, match=reason.format("labels")):
        model.classify(RED, labels)
    with pytest.raises(kind, match=reason.format("candidates")):
        model.answer(RED, "What?", labels)
    if labels != [[]] and labels[1:] != [["b", None]]:
        with pytest.raises(kind, match=reason.format("texts")):
            model.text_bank(labels)
    assert model.encoded == 0


def test_embeddings_to_decode():
    bank = TextBank(["a", "b"], np.eye(2, dtype=np.float32))
    assert bank.decode(np.eye(2)[::-1]) == ["b", "a"]
    with pytest.raises(TypeError, match=r"an array \[n, 2\], as embed_video .* not list"):
        bank.decode([[1.0, 0.0]])
    with pytest.raises(ValueError, match=r"embeddings: \[2\], where \[n, 2\] is expected"):
        bank.decode(np.ones(2))


@pytest.mark.parametrize("top", [0, -1])
def test_hits_asked_for(top, tmp_path):
    with pytest.raises(ValueError, match=f"top is {top}"):
        ColourModel().retrieve("red", tmp_path, top=top)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    config = tiny_train_config()
    save_run(directory, config, random_params(config))
    return directory


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"batch_size": 0}, "batch_size is 0, where a whole number from 1 on is needed"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"frames": -2}, "frames is -2, where a whole number from 0 on is needed"),
    ],
)
def test_settings_of_a_loaded_model(run, wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        vljepa_jax.load(run, **wrong)


def test_names_that_no_file_has(run):
    with pytest.raises(run_dir.CheckpointError):
        vljepa_jax.load("runs/\0")
    with pytest.raises(ClipError, match=r"a\\x00.mp4: cannot be opened \(embedded null byte\)"):
        ColourModel().embed_video("a\0.mp4")


def test_a_text_that_is_cut_is_warned_of_once(run):
    config, params = run_dir.load_params(run)
    model = Model(config, params)
    length = config.data.text.target_length
    whole = "dog " * (length - 2)  # the file's own tokens begin and end it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed_text([whole, "a dog"])
    with pytest.warns(UserWarning, match=f"cut after {length} tokens, data.text.target_length"):
        model.embed_text(["a dog", "dog " * (length + 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed_text("dog " * (length + 2))
    with pytest.raises(TypeError, match=r"texts\[1\] is no text, but int"):
        model.embed_text(["a", 1])


def test_a_list_of_frames_is_as_many_images():
    model, frames = ColourModel(), list(RED)
    with pytest.warns(UserWarning, match=r"a list of arrays \[H, W, 3\] is as many images"):
        assert len(model.embed_video(frames)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed_video(RED)
        model.embed_video([RED, RED[:1]])
        model.embed_video([RED[0], RED[0, :8]])
        model.embed_video(frames[:1])

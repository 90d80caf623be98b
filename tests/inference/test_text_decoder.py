"""The Y-Decoder on a loaded model, and the bank beside it."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

import vljepa_jax
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config, tiny_y_decoder_config
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.generate import greedy
from vljepa_jax.inference.text_decoder import TextBank, TextDecoder, load_text_decoder
from vljepa_jax.models.parts import Y_DECODER
from vljepa_jax.models.y_decoder import YDecoder
from vljepa_jax.objectives import make_objective


def decoder_params(config, vljepa):
    """Random, but for the Y-Encoder, which is the VL-JEPA's."""
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    rng = np.random.default_rng(7)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.4, x.shape), x.dtype), shapes)
    return params | {name: vljepa[name] for name in ("y_encoder", "y_head")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(directory, its VL-JEPA's parameters, its Y-Decoder's parameters)."""
    directory = tmp_path_factory.mktemp("runs") / "demo"
    vljepa, config = tiny_train_config(), tiny_y_decoder_config()
    params = random_params(vljepa)
    save_run(directory, vljepa, params)
    decoder = decoder_params(config, params)
    run_dir.save_params(directory / "y_decoder", config, decoder)
    return directory, params, decoder


@pytest.fixture(scope="module")
def model(runs):
    return vljepa_jax.load(runs[0], batch_size=4)  # found beside the run


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(1).integers(0, 256, (5, 4, 32, 32, 3), dtype=np.uint8)


def test_decode_writes_what_generation_gives_whatever_the_batch(model, runs):
    config = tiny_y_decoder_config()
    embeddings = model.embed_text(["a dog", "a red car", "two cats", "yes", "a lamp that spins"])
    texts = model.decode(embeddings)
    written = greedy(YDecoder(config.model), runs[2], embeddings, 20, 2)
    assert texts == [Tokenizer("@world").decode(row) for row in np.asarray(written.tokens)]
    assert [model.decode(row[None])[0] for row in embeddings] == texts
    assert len(set(texts)) > 1
    assert model.decode(embeddings[:0]) == []
    assert len(model.decode(embeddings, max_tokens=2)) == 5
    sampled = model.decode(embeddings, "top_p", seed=1, top_p=1.0)
    assert sampled == model.decode(embeddings, "top_p", seed=1, top_p=1.0)
    assert sampled != model.decode(embeddings, "top_p", seed=2, top_p=1.0)
    assert len(model.decode(embeddings, "beam", beams=2)) == 5


def test_caption_decodes_the_prediction(model, clips):
    query = "Describe this video in one sentence."
    expected = model.decode(model.embed_video(clips, query))
    assert model.caption(clips) == expected
    assert model.caption(clips[0]) == expected[0]
    asked = model.caption(clips, "What moves?")
    assert asked == model.decode(model.embed_video(clips, "What moves?"))


def test_what_cannot_be_decoded_is_told(model):
    embeddings = model.embed_text(["a dog", "a cat"])
    with pytest.raises(TypeError, match=r"an array \[n, 16\], as embed_video .* not list"):
        model.decode(list(embeddings))
    with pytest.raises(ValueError, match="max_tokens is -1, where a text has at least one token"):
        model.decode(embeddings, max_tokens=-1)


def test_the_bank_takes_the_nearest_text(model):
    texts = ["a dog", "a red car", "two cats"]
    bank = model.text_bank(texts)
    embeddings = model.embed_text(["two cats", "a dog", "a red car"])
    assert bank.decode(embeddings) == ["two cats", "a dog", "a red car"]
    plane = TextBank(["east", "north"], np.eye(2, dtype=np.float32))
    assert plane.decode(np.array([[0.6, 0.8], [0.8, -0.6], [0.7, 0.7]])) == [
        *("north", "east", "east")
    ]
    with pytest.raises(ValueError, match="0 texts"):
        TextBank([], np.zeros((0, 2)))


def test_what_does_not_belong_together_is_refused(runs, model, tmp_path):
    directory, params, decoder = runs
    vljepa, config = tiny_train_config(), tiny_y_decoder_config()
    alone = vljepa_jax.Model(vljepa, params)
    with pytest.raises(ConfigError, match="has no Y-Decoder: train one"):
        alone.caption(np.zeros((4, 32, 32, 3), np.uint8))
    alone.attach(directory / "y_decoder")
    assert alone.text_decoder is not None
    with pytest.raises(ConfigError, match="objective 'vljepa', and no Y-Decoder"):
        TextDecoder(vljepa, params)
    other = decoder | {"y_head": jax.tree.map(lambda leaf: leaf + 1e-3, decoder["y_head"])}
    run_dir.save_params(tmp_path / "other", config, other)
    with pytest.raises(ConfigError, match="trained for another Y-Encoder"):
        vljepa_jax.load(directory, y_decoder=tmp_path / "other")
    with pytest.raises(run_dir.CheckpointError, match="not a run directory"):
        vljepa_jax.load(directory, y_decoder=tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no VL-JEPA: load the VL-JEPA's run"):
        vljepa_jax.load(directory / "y_decoder")
    with pytest.raises(ValueError, match=r"\[2, 5\], where \[n, 16\] is expected"):
        model.decode(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="'greed' is not"):
        model.decode(np.zeros((2, 16), np.float32), "greed")
    with pytest.raises(ValueError, match="temperature above 0"):
        model.decode(np.zeros((2, 16), np.float32), "top_p", temperature=0.0)
    unended = dataclasses.replace(config.data.text, end_token="</s>")
    wrong = dataclasses.replace(config, data=dataclasses.replace(config.data, text=unended))
    with pytest.raises(ValueError, match="no special token '</s>'"):
        TextDecoder(wrong, decoder)


def test_the_y_decoder_beside_a_run_is_that_of_its_newest_checkpoint(runs, tmp_path):
    """An earlier checkpoint may have had another Y-Encoder; named, it is taken or refused."""
    directory = tmp_path / "run"
    shutil.copytree(runs[0], directory)
    (first,) = (directory / "checkpoints").iterdir()
    step = int(first.name)
    shutil.copytree(first, first.with_name(f"{step + 1}"))
    assert vljepa_jax.load(directory).text_decoder is not None
    assert vljepa_jax.load(directory, step=step + 1).text_decoder is not None
    assert vljepa_jax.load(directory, step=step).text_decoder is None
    named = vljepa_jax.load(directory, step=step, y_decoder=directory / "y_decoder")
    assert named.text_decoder is not None


def in_bfloat16(decoder):
    """As a run in bfloat16 leaves what it does not train."""
    kept = {name: tree for name, tree in decoder.items() if name in Y_DECODER}
    frozen = {name: tree for name, tree in decoder.items() if name not in Y_DECODER}
    return kept | jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), frozen)


def test_a_decoder_of_a_run_in_bfloat16_knows_its_y_encoder(runs, tmp_path):
    directory, params, decoder = runs
    run_dir.save_params(tmp_path / "own", tiny_y_decoder_config(), in_bfloat16(decoder))
    load_text_decoder(tmp_path / "own", params)
    other = jax.tree.map(lambda x: x + 0.1, params)
    with pytest.raises(ConfigError, match="another Y-Encoder than this model's"):
        load_text_decoder(tmp_path / "own", other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_exported_model_writes_with_the_decoder_that_lay_beside_it(runs, tmp_path, dtype):
    """One that learnt from predictions, whose copy of the VL-JEPA stays behind."""
    vljepa = dataclasses.replace(tiny_train_config(), objective="vljepa")
    x_encoder = dataclasses.replace(vljepa.model.x_encoder, rope="tiled")  # as can be exported
    vljepa = dataclasses.replace(
        vljepa, model=dataclasses.replace(vljepa.model, x_encoder=x_encoder)
    )
    config = tiny_y_decoder_config(predicted=True)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, vljepa=vljepa.model)
    )
    params = random_params(vljepa)
    save_run(tmp_path / "run", vljepa, params)
    decoder = {**params, **{name: runs[2][name] for name in Y_DECODER}}
    run_dir.save_params(tmp_path / "run" / "y_decoder", config, in_bfloat16(decoder))
    export_checkpoint(tmp_path / "run", tmp_path / "out", Console(quiet=True), dtype)
    kept = safetensors.numpy.load_file(tmp_path / "out/y_decoder/y_decoder.safetensors")
    assert {name.split("/")[0] for name in kept} == {"y_encoder", "y_head", "y_prefix"}
    whole, exported = (vljepa_jax.load(tmp_path / name) for name in ("run", "out"))
    embeddings = whole.embed_text(["a dog", "a red car", "two cats"])
    if dtype == "float32":
        assert exported.decode(embeddings) == whole.decode(embeddings)
    else:
        assert len(exported.decode(embeddings)) == 3  # with rounded weights

import dataclasses
import json
import weakref
from pathlib import Path

import chex
import jax
import ml_dtypes
import numpy as np
import pytest
from rich.console import Console

from tests.helpers.published_twins import (
    change,
    golden_weights,
    save,
    twin_config,
    write_all,
    write_part,
)
from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.twins import GEMMA_TWIN, VJEPA2_TWIN, parameters
from vljepa_jax import run_dir
from vljepa_jax.convert import published
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import with_tokenizers
from vljepa_jax.objectives import make_objective
from vljepa_jax.training import checkpoint

CONSOLE = Console(quiet=True)


@pytest.fixture
def config(tmp_path):
    return twin_config(tmp_path)


def convert(config, directories, tmp_path):
    convert_checkpoint(config, directories, tmp_path / "run", CONSOLE)
    return run_dir.load_params(tmp_path / "run")


def refused(config, directories, tmp_path):
    with pytest.raises(ConversionError) as error:
        convert(config, directories, tmp_path)
    assert not (tmp_path / "run").exists()
    return str(error.value)


@pytest.mark.parametrize("shards", [1, 3])
def test_three_directories_become_a_checkpoint(config, tmp_path, shards):
    saved, params = convert(config, write_all(tmp_path, shards=shards), tmp_path)
    kept = tmp_path / "run" / "tokenizers"  # a run holds the tokenizers that its config names
    fields = {f: str(kept / f"{f}.json") for f in ("query_tokenizer", "target_tokenizer")}
    for field, path in fields.items():
        named = getattr(config.data.text, field)
        assert Path(path).read_bytes() == Path(named).read_bytes()
    text = with_tokenizers(config.data.text, fields)
    assert saved == dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))
    predictor = parameters(config.model.predictor, golden_weights("llama"))
    expected = {
        "x_encoder": parameters(VJEPA2_TWIN, golden_weights("vjepa2")),
        "token_embedding": predictor.pop("token_embedding"),
        "predictor": predictor,
        "y_encoder": parameters(GEMMA_TWIN, golden_weights("gemma")),
    }
    for name, tree in expected.items():
        chex.assert_trees_all_equal(params[name], tree)
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    assert not run_dir.tree_differences(params, shapes)


def test_training_starts_from_it_and_says_that_it_cannot_be_continued(config, tmp_path):
    convert(config, write_all(tmp_path), tmp_path)
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    path = run_dir.newest(tmp_path / "run")
    params = run_dir.restore_params(path, shapes)
    assert np.asarray(params["x_encoder"]["norm"]["scale"]).any()
    with pytest.raises(run_dir.CheckpointError, match="parameters alone.*init_from"):
        checkpoint.restore(path, None)


def test_parts_that_are_not_given_are_random_and_named(config, tmp_path):
    console = Console(record=True, width=300, quiet=False)
    directory = write_part(tmp_path / "y", "y_encoder")
    convert_checkpoint(config, {"y_encoder": directory}, tmp_path / "run", console)
    _, params = run_dir.load_params(tmp_path / "run")
    fresh, _ = jax.jit(make_objective(config).init)(jax.random.key(config.seed))
    for name in ("x_encoder", "predictor", "token_embedding", "y_head", "log_logit_scale"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params[name], fresh[name]
        )
    shown = console.export_text()
    assert "random, from seed 0: log_logit_scale, predictor, predictor_head, token_emb" in shown
    assert "y_encoder: 56 tensors" in shown


def test_what_is_left_out_is_told_with_its_reason(config, tmp_path):
    console = Console(record=True, width=300)
    directory = write_part(tmp_path / "p", "predictor")
    change(directory / "model.safetensors", **{"lm_head.weight": np.ones((2, 2))})
    convert_checkpoint(config, {"predictor": directory}, tmp_path / "run", console)
    shown = console.export_text()
    assert "9 left out: the model holds layers 1 to 2" in shown
    assert "1 left out: here the token table predicts" in shown


def test_bfloat16_is_read(config, tmp_path):
    directory = write_part(tmp_path / "y", "y_encoder", dtype=ml_dtypes.bfloat16)
    _, params = convert(config, {"y_encoder": directory}, tmp_path)
    rounded = golden_weights("gemma")["norm.weight"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(params["y_encoder"]["norm"]["scale"], rounded)
    assert params["y_encoder"]["norm"]["scale"].dtype == np.float32


def test_one_tensor_of_the_source_is_held_at_a_time(config, tmp_path, monkeypatch):
    alive, most = [0], [0]

    def gone():
        alive[0] -= 1

    class Tracked(np.ndarray):
        """Counted while it is held."""

    class Folder(published.SafetensorsFolder):
        def __getitem__(self, key):
            array = super().__getitem__(key).view(Tracked)
            weakref.finalize(array, gone)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return array

    monkeypatch.setattr(published, "SafetensorsFolder", Folder)
    directory = write_part(tmp_path / "y", "y_encoder")
    convert(config, {"y_encoder": directory}, tmp_path)
    assert most[0] == 1
    assert alive[0] == 0


def test_nothing_is_overwritten(config, tmp_path):
    directories = write_all(tmp_path)
    convert(config, directories, tmp_path)
    with pytest.raises(run_dir.CheckpointError, match="holds a run already"):
        convert(config, directories, tmp_path)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("x_encoder", "hidden_size", 1408, "hidden_size: is 1408, where 20 is expected"),
        ("x_encoder", "model_type", "vit", "model_type: is 'vit', where 'vjepa2' is expected"),
        ("x_encoder", "crop_size", 384, "crop_size: is 384, where 12 is expected"),
        ("predictor", "num_hidden_layers", 2, "num_hidden_layers: is 2, where at least 3"),
        ("predictor", "rope_theta", None, "rope_theta: is None, where 100.0 is expected"),
        ("predictor", "rope_scaling", None, "rope_parameters.factor: is absent, where 4.0"),
        ("predictor", "mlp_bias", True, "mlp_bias: is True, where False is expected"),
        ("y_encoder", "use_bidirectional_attention", False, "is False, where True is expected"),
        ("y_encoder", "rope_local_base_freq", 1000.0, "rope_local_base_freq: is 1000.0, where 50"),
        ("y_encoder", "layer_types", ["full_attention"] * 4, "layer_types: is ['full_att"),
    ],
)
def test_a_wrong_architecture_names_file_key_and_expectation(
    config, tmp_path, part, key, value, message
):
    directory = write_part(tmp_path / "d", part)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    answer = refused(config, {part: directory}, tmp_path)
    assert f"{part}: {path}: " in answer
    assert message in answer


def test_interleaved_positions_have_no_published_weights_here(config, tmp_path):
    x_encoder = dataclasses.replace(VJEPA2_TWIN, rope="interleaved")
    changed = dataclasses.replace(
        config, model=dataclasses.replace(config.model, x_encoder=x_encoder)
    )
    directory = write_part(tmp_path / "x", "x_encoder")
    assert "rope is 'interleaved'" in refused(changed, {"x_encoder": directory}, tmp_path)


def test_truncated_file(config, tmp_path):
    directory = write_part(tmp_path / "x", "x_encoder")
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    for size in (5, 100, len(whole) - 7):
        path.write_bytes(whole[:size])
        answer = refused(config, {"x_encoder": directory}, tmp_path)
        assert f"{path}: {size} bytes are no whole safetensors file" in answer
        assert answer.count("\n") == 1, "its 51 missing keys are no faults of their own"


def test_shards_must_agree_with_their_index(config, tmp_path):
    directory = write_part(tmp_path / "x", "x_encoder", shards=3)
    (directory / "model-00002-of-00003.safetensors").unlink()
    first = directory / "model-00001-of-00003.safetensors"
    bias = "encoder.embeddings.patch_embeddings.proj.bias"
    change(first, **{"stray.weight": np.ones(2), bias: None})
    answer = refused(config, {"x_encoder": directory}, tmp_path)
    assert "names the shard model-00002-of-00003.safetensors, which is missing" in answer
    assert f"{first}: holds stray.weight" in answer
    assert f"{first}: has no {bias}" in answer


def test_pickled_weights_are_not_opened(config, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "vitl.pt").write_bytes(b"anything")
    answer = refused(config, {"x_encoder": tmp_path / "x"}, tmp_path)
    assert "vitl.pt is pickled, see docs/weights.md" in answer
    assert f"{tmp_path / 'x' / 'config.json'}: is missing" in answer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.weight": np.full(18, np.nan, np.float32)}, "norm.weight: holds 18 NaN"),
        ({"norm.weight": None, "norm.wait": np.ones(18)}, "norm.wait: unknown key"),
        ({"norm.weight": None}, "norm.weight: missing, norm/scale is not filled"),
        (
            {"layers.2.mlp.up_proj.weight": np.ones((18, 28))},
            "layers.2.mlp.up_proj.weight: has shape (18, 28), as a parameter (28, 18)",
        ),
        ({"norm.weight": np.ones(18, np.int32)}, "norm.weight: has type int32"),
    ],
)
def test_a_wrong_tensor_names_directory_and_key(config, tmp_path, changes, message):
    directory = write_part(tmp_path / "p", "predictor")
    change(directory / "model.safetensors", **changes)
    answer = refused(config, {"predictor": directory}, tmp_path)
    assert f"predictor: {directory}: {message}" in answer


def test_faults_of_all_directories_are_told_together(config, tmp_path):
    directories = write_all(tmp_path)
    (directories["x_encoder"] / "config.json").write_text("{")
    change(directories["predictor"] / "model.safetensors", **{"norm.weight": None})
    (directories["y_encoder"] / "2_Dense/model.safetensors").unlink()
    write_tokenizer(
        directories["y_encoder"] / "tokenizer.json", words=" ".join(map(str, range(30)))
    )
    answer = refused(config, directories, tmp_path)
    for message in (
        "config.json: is no JSON",
        "norm.weight: missing",
        "2_Dense: holds neither model.safetensors nor",
        "has ids up to 33, but the embedding table has 29 rows",
    ):
        assert message in answer
    assert answer.count("\n") == 4


def test_pooling_and_dense_layers_must_be_those_of_the_model(config, tmp_path):
    directory = write_part(tmp_path / "y", "y_encoder")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    sizes = {"in_features": 18, "out_features": 22, "bias": False}
    (directory / "2_Dense/config.json").write_text(json.dumps(activation | sizes))
    answer = refused(config, {"y_encoder": directory}, tmp_path)
    assert "1_Pooling/config.json: pooling_mode: is 'cls', where 'mean' is expected" in answer
    assert "2_Dense/config.json: activation_function: is 'torch.nn.modules.activation" in answer


def test_a_file_of_another_type_is_told(config, tmp_path):
    directory = write_part(tmp_path / "p", "predictor")
    save({"norm.weight": np.ones(18, np.complex64)}, directory / "model.safetensors")
    assert "type complex64" in refused(config, {"predictor": directory}, tmp_path)

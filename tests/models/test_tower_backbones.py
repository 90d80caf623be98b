"""PE-Core's image tower as X-Encoder, its text tower and SigLIP 2's as Y-Encoder, of a VL-JEPA."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest
from rich.console import Console

import vljepa_jax
from tests.helpers.published_towers import write_tower
from tests.helpers.published_twins import golden_weights
from tests.helpers.tiny import tiny_train_config
from tests.helpers.tower_twins import PE_CORE_TWIN, TWINS, parameters
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, parse
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.exported import load_exported
from vljepa_jax.convert.pe_core import OTHER_SIZES
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.models.image_towers import ImageTower
from vljepa_jax.models.text_towers import TextTower
from vljepa_jax.training.run_log import read_metrics
from vljepa_jax.training.train_loop import train

CONSOLE = Console(quiet=True)


def vljepa_config(text, **fields):
    """A VL-JEPA with PE-Core's image tower and the text tower of a family."""
    config = tiny_train_config(steps=2)
    tower = dataclasses.replace(TWINS[text].text, **fields)
    model = dataclasses.replace(config.model, x_encoder=PE_CORE_TWIN.image, y_encoder=tower)
    video = dataclasses.replace(config.data.video, frames=2, image_size=12)
    data = dataclasses.replace(config.data, video=video)
    return dataclasses.replace(config, model=model, data=data)


@pytest.mark.parametrize("text", ["siglip2", "pe_core"])
def test_a_vljepa_trains_saves_and_exports(text, tmp_path):
    vocabulary = Tokenizer("@world").vocab_size
    config = vljepa_config(text, vocab_size=vocabulary, max_length=16)
    assert parse(TrainConfig, as_dict(config)) == config
    assert config.token_grid == (2, 3, 3)
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2]
    chex.assert_tree_all_finite([row["loss"] for row in rows])
    export_checkpoint(tmp_path / "run", tmp_path / "out", CONSOLE)
    written = json.loads((tmp_path / "out/x_encoder/open_clip_config.json").read_text())
    assert written["model_cfg"]["vision_cfg"]["timm_model_name"] == OTHER_SIZES
    back, params = load_exported(tmp_path / "out")
    assert back.model == config.model
    chex.assert_trees_all_equal(params, run_dir.load_params(tmp_path / "run")[1])
    before, after = (vljepa_jax.load(tmp_path / name) for name in ("run", "out"))
    assert before.fingerprint == after.fingerprint
    assert np.isfinite(after.embed_text(["a dog", "a cat that spins"])).all()


def test_published_weights_go_in(tmp_path):
    """Each part takes its tower of the whole directory, and the embeddings are the tower's own."""
    config = vljepa_config("siglip2")
    tokenizer = write_tower(tmp_path / "siglip2", "siglip2") / "tokenizer.json"
    text = dataclasses.replace(config.data.text, target_tokenizer=str(tokenizer), target_length=9)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))
    pe_core = write_tower(tmp_path / "pe_core", "pe_core")
    # The sizes that timm's name tells of a published model.
    path = pe_core / "open_clip_config.json"
    settings = json.loads(path.read_text())
    image = PE_CORE_TWIN.image
    settings["model_cfg"]["vision_cfg"] |= {
        "timm_model_name": OTHER_SIZES,
        "patch_size": 4,
        "width": 16,
        "layers": 2,
        "head_width": 8,
        "mlp_ratio": 30 / 16,
    }
    path.write_text(json.dumps(settings))
    directories = {"x_encoder": pe_core, "y_encoder": tmp_path / "siglip2"}
    convert_checkpoint(config, directories, tmp_path / "run", CONSOLE)
    _, params = run_dir.load_params(tmp_path / "run")
    whole = parameters(PE_CORE_TWIN, golden_weights("pe_core"))
    chex.assert_trees_all_equal(params["x_encoder"], whole["image"])
    video = np.random.default_rng(0).integers(0, 256, (1, 2, 12, 12, 3), np.uint8)
    tokens = ImageTower(image).apply({"params": params["x_encoder"]}, video)
    assert tokens.shape == (1, 18, 16)
    of_text = parameters(TWINS["siglip2"], golden_weights("siglip2"))["text"]
    chex.assert_trees_all_equal(params["y_encoder"], of_text)

    settings["model_cfg"]["vision_cfg"]["head_width"] = 4
    path.write_text(json.dumps(settings))
    with pytest.raises(ConversionError, match=r"head_width: is 4, where 8 is expected"):
        convert_checkpoint(config, directories, tmp_path / "other", CONSOLE)


def test_sizes_that_do_not_fit_are_named():
    config = vljepa_config("pe_core")
    video = dataclasses.replace(config.data.video, image_size=32)
    wrong = dataclasses.replace(config, data=dataclasses.replace(config.data, video=video))
    with pytest.raises(ConfigError, match=r"32 x 32 pixels.* takes image_size = 12"):
        _ = wrong.token_grid


def test_a_text_tower_is_differentiable():
    """Also for texts without tokens, whose embedding is the zero vector."""
    config = TWINS["siglip2"].text
    params = parameters(TWINS["siglip2"], golden_weights("siglip2"))["text"]
    tokens, mask = np.ones((2, 4), np.int32), np.array([[True] * 4, [False] * 4])

    def loss(params):
        return (TextTower(config).apply({"params": params}, tokens, mask) ** 2).sum()

    chex.assert_tree_all_finite(jax.grad(loss)(params))

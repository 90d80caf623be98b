"""What is said of a config that cannot be: names in full, and the choices."""

import copy
import json
from pathlib import Path

import pytest

import vljepa_jax
from tests.helpers.tiny import tiny_text_config, tiny_train_config, tiny_visual_reader_config
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, parse
from vljepa_jax.config.saved import read_saved
from vljepa_jax.run_dir import check_config

RECIPES = sorted((Path(vljepa_jax.__file__).parent / "backbones").glob("*/recipe.json"))


def changed(field, value, config=None):
    """The plain config with one field set, or left out where the value is ``...``."""
    plain = copy.deepcopy(as_dict(config or tiny_train_config()))
    *where, last = field.split(".")
    inner = plain
    for name in where:
        inner = inner[name]
    inner[last] = value
    if value is ...:
        del inner[last]
    return plain


def test_a_config_comes_back_from_json():
    for config in (tiny_train_config(), tiny_text_config("text_pairs")):
        assert parse(TrainConfig, json.loads(json.dumps(as_dict(config)))) == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_recipes_of_the_bundled_backbones_are_read(path):
    read_saved(path)


def test_a_config_of_an_earlier_version_is_read(tmp_path):
    config = tiny_train_config()
    earlier = as_dict(config)
    for rule in earlier["optimizer"]["rules"]:
        rule["rate"] = rule.pop("lr_multiplier")
        rule["decay"] = rule.pop("weight_decay_multiplier")
    assert earlier["world"].pop("stream_kind") == "poisson"  # there was no other
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    assert read_saved(tmp_path / "config.json") == config
    check_config(tmp_path, config)  # it is the config of this run still


def with_earlier_fields(config, **earlier):
    """As it was saved: {name now: name then} of the model's fields."""
    plain = as_dict(config)
    for now, then in earlier.items():
        plain["model"][then] = plain["model"].pop(now)
    return plain


def test_pretraining_of_readers_is_read_under_its_earlier_names(tmp_path):
    reader = tiny_visual_reader_config()
    bidirectional = "reading_share"
    saved = with_earlier_fields(
        reader, maxsim_weight="clauses_weight", bidirectional_probability=bidirectional
    )
    (tmp_path / "config.json").write_text(json.dumps(saved | {"objective": "vlm"}))
    assert read_saved(tmp_path / "config.json") == reader
    check_config(tmp_path, reader)

    language = tiny_text_config("language_model")
    saved = with_earlier_fields(
        language,
        skip_probability="skip_share",
        bidirectional_probability=bidirectional,
        context_length="told_tokens",
    )
    (tmp_path / "recipe.json").write_text(json.dumps(saved))
    assert read_saved(tmp_path / "recipe.json") == language


def test_the_bundled_x_encoder_was_a_visual_reader():
    path = next(path for path in RECIPES if path.parent.name == "x_encoder")
    assert json.loads(path.read_text())["objective"] == "vlm"  # as it was called then
    assert read_saved(path).objective == "visual_reader"


def test_there_are_bundled_backbones():
    assert len(RECIPES) == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            *("loss.name", "infonce"),
            "'loss.name' is 'infonce', not one of info_nce, cosine, l1, l2, vic_reg, sig_reg "
            "(did you mean 'info_nce'?)",
        ),
        (
            *("objective", "vlpjea"),
            "'objective' is 'vlpjea', not one of vljepa, probe, vjepa2, text_pairs, "
            "language_model, vlm, visual_reader, y_decoder (did you mean 'vljepa'?)",
        ),
        # Inside a model, of which there are as many classes as objectives.
        ("model.pooling", "mean", "'model.pooling' is 'mean', not one of all, query"),
        ("model.predictor.num_layers", 1.5, "'model.predictor.num_layers' is 1.5, not a whole"),
        ("steps", True, "'steps' is True, not a whole number"),
        ("model.predictor.family", "gpt", "'model.predictor.family' is 'gpt', not 'llama'"),
        ("model.y_encoder.family", "mpnet", "is 'mpnet', not one of gemma, qwen3"),
        ("model", 3, "'model' is 3, not a ConfigDict"),
        ("model.embeding_size", 3, "unknown field 'model.embeding_size' (did you mean 'embed"),
        ("model.pooling", ..., "missing field 'model.pooling'"),
        ("data.sources", ({},), "missing field 'data.sources[0].path'"),
        ("data.video.crop_scale", (1.0,), "'data.video.crop_scale' is (1.0,), not a tuple of"),
        ("data.text.query_lenth", 3, "unknown field 'data.text.query_lenth' (did you mean"),
        (
            *("optimizer.schedule", "linear"),
            "'optimizer.schedule' is 'linear', not one of constant, cosine or a ConfigDict with "
            "decay_steps",
        ),
        ("optimizer.schedule", {"decay_stps": 3}, "unknown field 'optimizer.schedule.decay_stps'"),
        # Fields that follow the objective.
        (
            *("loss", None),
            "objective 'vljepa' takes as 'loss' a ConfigDict with name, mask_equal_targets, "
            "vic_reg, sig_reg, not None",
        ),
        (
            *("objective", "text_pairs"),
            "objective 'text_pairs' takes as 'model' a ConfigDict with y_encoder, initial_",
        ),
        ("data.video", None, "objective 'vljepa' sees video"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_configs(field, value, message):
    with pytest.raises(ConfigError) as refused:
        parse(TrainConfig, changed(field, value))
    assert message in str(refused.value)
    assert all(line.startswith("config: ") for line in str(refused.value).splitlines())
    for word in ("vljepa_jax", "Literal", "Config ", "Config,", "NoneType"):
        assert word not in str(refused.value)


def test_whole_numbers_are_numbers():
    assert parse(TrainConfig, changed("optimizer.learning_rate", 1)).optimizer.learning_rate == 1
    parse(TrainConfig, changed("optimizer.schedule", {"decay_steps": 3}))

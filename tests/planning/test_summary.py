"""The paper's recipe: its sizes, what is trained, and what each stage is fed."""

import dataclasses
import io
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh
from rich.console import Console

from tests.helpers.tiny import (
    tiny_maxsim_config,
    tiny_pretraining_config,
    tiny_probe_config,
    tiny_text_config,
    tiny_train_config,
    tiny_vlm_config,
    tiny_y_decoder_config,
)
from vljepa_jax.config import ConfigError, TrainConfig, load_recipe, parse
from vljepa_jax.data.pipeline import array_spec, check_paths
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import AXES, check_batch_size, state_shardings
from vljepa_jax.planning import summary
from vljepa_jax.training.optimizer import make_optimizer
from vljepa_jax.training.train_loop import train

CONFIGS = Path(__file__).parents[2] / "configs"


def recipe(*variant):
    return parse(TrainConfig, load_recipe(CONFIGS / "vljepa_1b.py", *variant))


@pytest.fixture(scope="module")
def counts():
    return summary.count_parameters(recipe())


@pytest.mark.parametrize(
    ("part", "trained", "frozen"),
    [
        ("X-Encoder", 0, 303.9),
        ("Predictor: token table", 0, 262.7),
        ("Predictor: layers, norm, projections", 491.8, 0),
        ("Y-Encoder, bare", 302.9, 0),
        ("Y-Encoder: dense layers", 4.72, 0),  # 768 x 3072 + 3072 x 768
        ("Y-Encoder: head", 1.18, 0),  # 768 x 1536
    ],
)
def test_parts_have_the_published_sizes(counts, part, trained, frozen):
    assert counts[part].trained / 1e6 == pytest.approx(trained, rel=0.005)
    assert counts[part].frozen / 1e6 == pytest.approx(frozen, rel=0.005)


def test_all_parts_are_counted_once(counts):
    params, _ = jax.eval_shape(make_objective(recipe()).init, jax.random.key(0))
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(count.total for count in counts.values()) == total
    assert total / 1e9 == pytest.approx(1.37, rel=0.005)


@pytest.mark.parametrize(
    ("variant", "visual_tokens", "query_length", "steps", "batch_size"),
    [
        ("image", 256, 16, 100_000, 24_576),
        ("video8", 1024, 16, 60_000, 12_288),
        ("video32", 4096, 16, 10_000, 12_288),
        ("sft", 2048, 512, 83_000, 3072),
    ],
)
def test_stages(variant, visual_tokens, query_length, steps, batch_size):
    config = recipe(variant)
    assert summary.visual_token_count(config) == visual_tokens
    assert config.data.text.query_length == query_length
    assert (config.steps, config.batch_size) == (steps, batch_size)


def test_the_image_stage_is_fed_each_picture_once():
    """4.8 GB of pixels a step; the encoder repeats them."""
    shape, dtype = array_spec(recipe())["video"]
    assert shape == (24_576, 1, 256, 256, 3)
    assert dtype == np.uint8
    assert recipe().model.x_encoder.num_frames == 2


def test_the_summary_says_what_stays_whole():
    """Of devices that are not there."""
    sharding = dataclasses.replace(recipe().sharding, fsdp=192)
    told = io.StringIO()
    config = dataclasses.replace(recipe(), sharding=sharding)
    summary.print_summary(config, Console(file=told, width=200))
    assert "Each of 192 devices (data 1 x fsdp 192 x tensor 1) holds 1.06B parameters." in (
        told.getvalue()
    )
    assert "sharding.fsdp = 192 does not divide 1024, 2048: 1056.4M parameters" in told.getvalue()
    config = dataclasses.replace(config, sharding=dataclasses.replace(sharding, fsdp=40))
    with pytest.raises(ConfigError, match="24576 is not a multiple of 40 .*; set 24560 or 24600"):
        summary.print_summary(config, Console(file=told))


def test_no_variant_is_the_image_stage():
    assert recipe() == recipe("image")
    with pytest.raises(ValueError, match="no variant 'images'"):
        recipe("images")


@pytest.mark.parametrize("devices", [1, 8, 64, 256])
def test_the_state_and_the_batches_divide_over_a_pod(devices):
    sharding = recipe().sharding
    assert (sharding.data, sharding.fsdp, sharding.tensor) == (1, -1, 1)
    mesh = AbstractMesh((1, devices, 1), AXES)
    for stage in ("image", "video8", "video32", "sft"):
        config = recipe(stage)
        check_batch_size(config.batch_size, config.micro_batch_size, mesh)
    params, _ = jax.eval_shape(make_objective(recipe()).init, jax.random.key(0))
    placed = state_shardings(params, params, sharding.rules, mesh)
    held = sum(
        math.prod(place.shard_shape(leaf.shape))
        for leaf, place in zip(jax.tree.leaves(params), jax.tree.leaves(placed), strict=True)
    )
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    # Norms and biases, which are small, are copied.
    assert total / devices <= held < total / devices + 1e6


def test_rates_of_the_parts():
    """x 0.05 for the Y-Encoder's parameters, the full rate for what starts at random."""

    config = recipe()
    tree = {
        "x_encoder": {"norm": {"scale": jnp.ones(2)}},
        "token_embedding": {"embedding": jnp.ones(2)},
        "y_encoder": {"norm": {"scale": jnp.ones(2)}, "dense_0": {"kernel": jnp.ones(2)}},
        "y_head": {"kernel": jnp.ones(2)},
        "log_logit_scale": jnp.ones(2),
    }
    optimizer = make_optimizer(config.optimizer, config.steps, tree)
    trained, frozen = optimizer.split(tree)
    assert set(frozen) == {"x_encoder", "token_embedding"}
    updates, _ = optimizer.transform.update(
        trained, optimizer.transform.init(trained), trained, step=0
    )
    full = updates["log_logit_scale"]  # no decay either
    assert optax.tree.norm(full) > 0
    assert updates["y_encoder"]["norm"]["scale"] / full == pytest.approx(0.05)
    assert updates["y_encoder"]["dense_0"]["kernel"] / full == pytest.approx(0.05 * 1.05, rel=1e-4)
    assert updates["y_head"]["kernel"] / full == pytest.approx(1.05, rel=1e-4)


def test_summary_names_the_difference_to_the_paper(capsys):

    summary.print_summary(recipe(), Console(width=120))
    shown = capsys.readouterr().out
    assert "1.37B" in shown
    assert "The paper's total of 1.6B is 232.9M more" in shown
    assert "256 visual and 16 query tokens" in shown


def test_missing_paths_are_named_together(tmp_path):
    config = recipe()
    with pytest.raises(ConfigError) as refused:
        train(config, tmp_path / "run")
    for name in ("datasets/datacomp", "datasets/yfcc100m", "llama-3.2-1b/tokenizer.json"):
        assert name in str(refused.value)
    assert not (tmp_path / "run").exists()
    check_paths(tiny_train_config())


def test_the_large_y_decoder_is_llama_3_2_1b_before_a_frozen_y_encoder():
    """Llama-3.2-1B has 1,235.8M parameters (its model card: 1.23B), 262.7M of them its table."""
    own = parse(TrainConfig, load_recipe(CONFIGS / "y_decoder_1b.py"))
    counts = summary.count_parameters(own)
    millions = {name: (c.trained / 1e6, c.frozen / 1e6) for name, c in counts.items()}
    assert millions == {
        "Y-Decoder: token table": (pytest.approx(262.7, abs=0.05), 0),
        "Y-Decoder: layers, norm": (pytest.approx(973.1, abs=0.1), 0),
        "Y-Decoder: prefix": (pytest.approx(25.2, abs=0.05), 0),  # 1536 x 8 x 2048, and the bias
        "The VL-JEPA that is decoded": (0, pytest.approx(308.8, abs=0.1)),
    }


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (tiny_y_decoder_config(), "20 tokens are seen of each of 8 rows"),
        (tiny_y_decoder_config(predicted=True), "20 tokens are written from 8 visual tokens"),
        (tiny_text_config("text_pairs"), "12 tokens are seen of each of 8 rows"),
        (tiny_text_config("language_model"), "12 tokens are seen of each of 8 rows"),
        (tiny_vlm_config(), "8 visual and 32 text tokens are seen of each of 8 rows"),
        (tiny_maxsim_config(), "8 visual and 48 text tokens are read of each of 8 rows"),
        (tiny_probe_config(), "4 questions are asked of 8 tokens of each of 8 rows"),
        (tiny_pretraining_config(), "The teacher sees 18 tokens"),
        (tiny_train_config(), "8 visual and 12 query tokens of each of 8 rows"),
    ],
)
def test_every_objective_has_a_summary(config, words):
    console = Console(record=True, width=120, file=io.StringIO())
    summary.print_summary(config, console)
    assert words in console.export_text()

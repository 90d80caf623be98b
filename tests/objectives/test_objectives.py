"""The table of objectives, and what ``config.loss`` makes of the VL-JEPA objective."""

import dataclasses
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import tiny_train_config
from vljepa_jax import losses
from vljepa_jax.config import OBJECTIVES, ConfigError
from vljepa_jax.data.rows import Rows
from vljepa_jax.objectives import Objective
from vljepa_jax.objectives.vljepa import Pairs, VLJEPAObjective

KEY = jax.random.key(3)


def make_objective(**loss):
    config = tiny_train_config()
    return VLJEPAObjective(
        dataclasses.replace(config, loss=dataclasses.replace(config.loss, **loss))
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_row_of_the_table_names_what_there_is(name):
    entry = OBJECTIVES[name]
    assert issubclass(pkgutil.resolve_name(entry.rows), Rows)
    objective = pkgutil.resolve_name(entry.objective)
    assert issubclass(objective, Objective)
    assert not objective.__abstractmethods__
    assert objective.parts


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(2, 8, 16))
    return Pairs(*jnp.float32(sides / np.linalg.norm(sides, axis=-1, keepdims=True)))


def loss_of(objective, pairs):
    params = {"log_logit_scale": jnp.log(jnp.float32(20.0))}
    arrays = {"target_id": jnp.array([0, 1, 2, 3, 4, 5, 6, 6])}
    return objective.loss(params, pairs, arrays, KEY, None)


@pytest.mark.parametrize("name", ["cosine", "l1", "l2"])
def test_distances(pairs, name):
    loss, metrics = loss_of(make_objective(name=name), pairs)
    assert loss == getattr(losses, name)(pairs.predicted, pairs.target)
    assert {"alignment", "rank/target", "uniformity/target", "similarity/target"} <= set(metrics)
    assert "temperature" not in metrics


def test_info_nce_knows_equal_targets(pairs):
    masked, metrics = loss_of(make_objective(mask_equal_targets=True), pairs)
    plain, _ = loss_of(make_objective(mask_equal_targets=False), pairs)
    assert plain == losses.info_nce(pairs.predicted, pairs.target, jnp.float32(20.0))[0]
    assert masked < plain
    assert metrics["log_batch_size"] == pytest.approx(np.log(8))


def test_vic_reg_takes_its_weights(pairs):
    objective = make_objective(name="vic_reg")
    loss, parts = loss_of(objective, pairs)
    expected = 25 * parts["loss/invariance"] + 25 * parts["loss/variance"]
    assert loss == pytest.approx(float(expected + parts["loss/covariance"]), rel=1e-6)


def test_sig_reg_draws_directions_at_every_step(pairs):
    objective = make_objective(name="sig_reg")
    loss, _ = loss_of(objective, pairs)
    directions = losses.draw_directions(KEY, 16, 32)
    assert loss == losses.sig_reg(pairs.predicted, pairs.target, 0.05, directions)[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, "loss") for name in ("info_nce", "cosine", "l1", "l2")),
        *((name, "loss/invariance") for name in ("vic_reg", "sig_reg")),
    ],
)
def test_sources_are_told_the_part_of_the_loss_that_their_rows_have(pairs, name, told):
    base = tiny_train_config()
    (source,) = base.data.sources
    sources = tuple(dataclasses.replace(source, path=f"x/{name}", weight=1.0) for name in "ab")
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, sources=sources),
        loss=dataclasses.replace(base.loss, name=name),
    )
    group = np.array([0, 1, 1, 0, 0, 0, 1, 0])
    params = {"log_logit_scale": jnp.log(jnp.float32(20.0))}
    arrays = {"target_id": jnp.arange(8), "source": jnp.array(group)}
    loss, metrics = VLJEPAObjective(config).loss(params, pairs, arrays, KEY, None)
    whole = loss if told == "loss" else metrics[told]
    parts = [metrics[f"{told}/{source}"] for source in "ab"]
    assert np.dot(parts, [5 / 8, 3 / 8]) == pytest.approx(float(whole), rel=1e-5)
    if name != "info_nce":
        predicted, target = (np.asarray(side, np.float64) for side in vars(pairs).values())
        rows = {
            "cosine": 1 - (predicted * target).sum(1),
            "l1": np.abs(predicted - target).sum(1),
        }.get(name, ((predicted - target) ** 2).sum(1))
        expected = [rows[group == number].mean() for number in range(2)]
        np.testing.assert_allclose(parts, expected, rtol=1e-5)


def test_impossible_settings_are_named():
    settings = dataclasses.replace(tiny_train_config().loss.sig_reg, weight=1.5)
    with pytest.raises(ConfigError, match="loss.sig_reg"):
        make_objective(name="sig_reg", sig_reg=settings)

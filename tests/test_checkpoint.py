import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny_train_config

from vljepa_jax import checkpoint
from vljepa_jax.checkpoint import CheckpointError, Checkpoints
from vljepa_jax.config import ConfigError
from vljepa_jax.train_step import TrainState


def make_state(step, width=3):
    params = {
        "head": {"kernel": jnp.arange(2.0 * width).reshape(2, width) + step},
        "temperature": jnp.float32(step),
    }
    opt_state = optax.adam(1e-3).init(params)
    return TrainState(jnp.int32(step), params, opt_state, {"teacher": params["head"]})


def abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


@pytest.fixture
def run(tmp_path):
    """A run directory with checkpoints of steps 1 to 3, the newest two of them kept."""
    checkpoint.claim(tmp_path / "run", tiny_train_config())
    with Checkpoints(tmp_path / "run", keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), {"step": step, "note": 0.1})
    return tmp_path / "run"


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_state_comes_back_as_it_was(run):
    path = checkpoint.newest(run)
    assert path.name == "3"
    state, progress = checkpoint.restore(path, abstract(make_state(0)))
    assert_same(state, make_state(3))
    assert progress == {"step": 3, "note": 0.1}
    assert sorted(p.name for p in path.parent.iterdir()) == ["2", "3"]


def test_params_are_read_alone(run):
    config, params = checkpoint.load_params(run)
    assert config == tiny_train_config()
    assert_same(params, jax.device_get(make_state(3).params))


def test_an_unfinished_save_is_no_checkpoint(run):
    # What a process killed inside a save leaves: nothing has the plain name of a step.
    (run / "checkpoints" / "3").rename(run / "checkpoints" / "3.orbax-checkpoint-tmp")
    assert checkpoint.newest(run).name == "2"
    with Checkpoints(run, keep=2) as checkpoints:
        checkpoints.save(make_state(3), {"step": 3})
    assert checkpoint.newest(run).name == "3"
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["2", "3"]


def test_what_does_not_fit_is_named(run):
    wide = abstract(make_state(0, width=4))
    with pytest.raises(CheckpointError) as refused:
        checkpoint.restore(checkpoint.newest(run), wide)
    assert "head/kernel: float32[2, 3] in the checkpoint, float32[2, 4] here" in str(refused.value)
    assert "temperature" not in str(refused.value)

    state = make_state(0)
    more = state.replace(params=state.params | {"new": jnp.zeros(1, jnp.bfloat16)})
    with pytest.raises(CheckpointError, match=r"new: absent in the checkpoint, bfloat16\[1\] here"):
        checkpoint.restore_params(checkpoint.newest(run), more.params)

    other = state.replace(extra={})
    with pytest.raises(CheckpointError, match=r"\(training\)") as refused:
        checkpoint.restore(checkpoint.newest(run), abstract(other))
    assert "extra/teacher/kernel: float32[2, 3] in the checkpoint, absent here" in str(
        refused.value
    )


def test_a_long_list_of_differences_is_cut():
    saved = {f"layer_{i}": np.zeros(1) for i in range(20)}
    assert len(checkpoint.tree_differences(saved, {})) == 20


@pytest.mark.parametrize("part", ["", ":params"])
def test_init_from_params_takes_the_teacher_and_keeps_the_rest_fresh(run, part):
    fresh, saved = make_state(0), make_state(3)
    state = checkpoint.initial_state(f"{run}{part}", lambda: fresh, not_called, abstract(fresh))
    assert_same(state.params, saved.params)
    assert_same(state.extra, saved.extra)
    rest = {"params": None, "extra": None}
    assert_same(state.replace(**rest), fresh.replace(**rest))


def test_init_from_params_makes_a_teacher_where_there_is_none(run):
    """Here it has another shape than the saved one."""
    fresh = make_state(0).replace(extra={"teacher": jnp.zeros(7)})
    state = checkpoint.initial_state(
        f"{run}:params", lambda: fresh, lambda params: {"made of": params}, abstract(fresh)
    )
    assert_same(state.extra, {"made of": make_state(3).params})


def not_called(*_):
    raise AssertionError("nothing is made that is there, or for a start that fails")


def test_extra_state_is_read_alone(run):
    assert_same(checkpoint.read_extra(run), make_state(3).extra)


def test_init_from_full_takes_everything(run):
    fresh = make_state(0)
    assert_same(
        checkpoint.initial_state(f"{run}:full", lambda: fresh, not_called, abstract(fresh)),
        make_state(3),
    )


def test_init_from_nothing():
    fresh = make_state(0)
    assert checkpoint.initial_state("", lambda: fresh, not_called, abstract(fresh)) is fresh


def test_init_from_names_what_is_wrong(run, tmp_path):
    shapes = abstract(make_state(0))
    with pytest.raises(
        ConfigError, match=r"not DIR\[:params\|:full\|:x_encoder\|.* \(did you mean 'params'\?\)"
    ):
        checkpoint.initial_state(f"{run}:param", not_called, not_called, shapes)
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        checkpoint.initial_state(str(tmp_path / "nowhere"), not_called, not_called, shapes)


def test_load_params_names_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="not a run directory"):
        checkpoint.load_params(tmp_path)
    checkpoint.claim(tmp_path, tiny_train_config())
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        checkpoint.load_params(tmp_path)


def test_claim_compares_and_writes_once(tmp_path):
    config = tiny_train_config()
    checkpoint.claim(tmp_path / "a" / "b", config)
    path = tmp_path / "a" / "b" / "config.json"
    written = path.stat().st_mtime_ns
    checkpoint.claim(tmp_path / "a" / "b", config)
    assert path.stat().st_mtime_ns == written
    assert json.loads(path.read_text())["steps"] == config.steps
    with pytest.raises(ConfigError, match=r"steps: 4 -> 5\n"):
        checkpoint.claim(tmp_path / "a" / "b", dataclasses.replace(config, steps=5))

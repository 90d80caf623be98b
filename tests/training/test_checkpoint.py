import dataclasses
import json
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers.subprocesses import PROGRAMS
from tests.helpers.tiny import tiny_train_config
from vljepa_jax import run_dir
from vljepa_jax.config import CheckpointConfig, ConfigError
from vljepa_jax.run_dir import CheckpointError
from vljepa_jax.training import checkpoint, checkpoint_writer
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.train_state import TrainState


def make_state(step, width=3):
    params = {
        "head": {"kernel": jnp.arange(2.0 * width).reshape(2, width) + step},
        "temperature": jnp.float32(step),
    }
    opt_state = optax.adam(1e-3).init(params)
    return TrainState(jnp.int32(step), params, opt_state, {"teacher": params["head"]})


def keep(newest, every=0, best=0, best_is="lowest"):
    return CheckpointConfig(
        every=1,
        keep=newest,
        keep_every=every,
        keep_best=best,
        best_metric="loss",
        best_is=best_is,
    )


def abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


@pytest.fixture
def run(tmp_path):
    """A run directory with checkpoints of steps 1 to 3, the newest two of them kept."""
    run_dir.claim(tmp_path / "run", tiny_train_config())
    with Checkpoints(tmp_path / "run", keep(2)) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), {"step": step, "note": 0.1}, 0.0)
    return tmp_path / "run"


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    chex.assert_trees_all_equal(one, other)


def test_state_comes_back_as_it_was(run):
    path = run_dir.newest(run)
    assert path.name == "3"
    state, progress = checkpoint.restore(path, abstract(make_state(0)))
    assert_same(state, make_state(3))
    assert progress == {"step": 3, "note": 0.1}
    assert sorted(p.name for p in path.parent.iterdir()) == ["2", "3"]


def test_params_are_read_alone(run):
    config, params = run_dir.load_params(run)
    assert config == tiny_train_config()
    assert_same(params, jax.device_get(make_state(3).params))


def test_params_of_any_kept_step_are_read(run):
    for step in (2, 3):
        _, params = run_dir.load_params(run, step=step)
        assert_same(params, jax.device_get(make_state(step).params))
        assert_same(run_dir.read_extra(run, step=step), make_state(step).extra)
    with pytest.raises(CheckpointError, match="no checkpoint of step 1, only of 2, 3"):
        run_dir.load_params(run, step=1)


READER = """
import sys
from vljepa_jax import run_dir

config, params = run_dir.load_params(sys.argv[1], step=2)
assert config.objective == "vljepa"
print(params["temperature"])
print(*sys.modules)
"""


def test_params_are_read_without_the_trainer(run):
    command = [sys.executable, "-c", READER, str(run)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    temperature, modules = output.splitlines()[-2:]
    assert float(temperature) == 2
    imported = [name for name in modules.split() if name.startswith("vljepa_jax.")]
    assert "vljepa_jax.run_dir" in imported
    assert "optax" not in modules.split()
    trainer = ("training", "objectives", "losses", "models")
    assert not [name for name in imported if name.split(".")[1] in trainer]


def test_an_unfinished_save_is_no_checkpoint(run):
    # What a process killed inside a save leaves: nothing has the plain name of a step.
    (run / "checkpoints" / "3").rename(run / "checkpoints" / "3.orbax-checkpoint-tmp")
    assert run_dir.newest(run).name == "2"
    with Checkpoints(run, keep(2)) as checkpoints:
        checkpoints.save(make_state(3), {"step": 3}, 0.0)
    assert run_dir.newest(run).name == "3"
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["2", "3"]


def test_what_does_not_fit_is_named(run):
    wide = abstract(make_state(0, width=4))
    with pytest.raises(CheckpointError) as refused:
        checkpoint.restore(run_dir.newest(run), wide)
    assert "head/kernel: float32[2, 3] in the checkpoint, float32[2, 4] here" in str(refused.value)
    assert "temperature" not in str(refused.value)

    state = make_state(0)
    more = state.replace(params=state.params | {"new": jnp.zeros(1, jnp.bfloat16)})
    with pytest.raises(CheckpointError, match=r"new: absent in the checkpoint, bfloat16\[1\] here"):
        run_dir.restore_params(run_dir.newest(run), more.params)

    other = state.replace(extra={})
    with pytest.raises(CheckpointError, match=r"\(training\)") as refused:
        checkpoint.restore(run_dir.newest(run), abstract(other))
    assert "extra/teacher/kernel: float32[2, 3] in the checkpoint, absent here" in str(
        refused.value
    )


def test_another_precision_is_converted(run):
    """Both ways; whole numbers are never taken for floating-point ones."""
    half = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf,
        make_state(3),
    )
    state, _ = checkpoint.restore(run_dir.newest(run), abstract(half))
    assert_same(state, half)
    assert state.params["head"]["kernel"].dtype == jnp.bfloat16
    with Checkpoints(run, keep(2)) as checkpoints:
        checkpoints.save(half.replace(step=jnp.int32(4)), {"step": 4}, 0.0)
    state, _ = checkpoint.restore(run_dir.newest(run), abstract(make_state(0)))
    assert state.params["head"]["kernel"].dtype == jnp.float32
    assert_same(state.params, make_state(3).params)  # small whole numbers: nothing was rounded

    whole = make_state(0).replace(step=jnp.float32(0))
    with pytest.raises(CheckpointError, match=r"step: int32\[\] in the checkpoint, float32"):
        checkpoint.restore(run_dir.newest(run), abstract(whole))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (keep(1), [7]),
        (keep(2, every=3), [3, 6, 7]),
        (keep(1, best=2), [2, 5, 7]),
        (keep(1, best=1, best_is="highest"), [4, 7]),
        (keep(1, every=5, best=1), [2, 5, 7]),
    ],
)
def test_policies_keep_what_they_say(tmp_path, policy, expected):
    """Also across a restart, which must find the values of the old checkpoints again."""
    values = {1: 0.5, 2: 0.1, 3: 0.6, 4: 0.9, 5: 0.2, 6: 0.4, 7: 0.8}
    for steps in ((1, 2, 3, 4), (5, 6, 7)):
        with Checkpoints(tmp_path, policy) as checkpoints:
            for step in steps:
                checkpoints.save(make_state(step), {"step": step}, values[step])
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == expected


def test_a_full_disk_is_reported_and_the_old_checkpoint_stays(run, monkeypatch):
    usage = shutil.disk_usage(run)._replace(free=100)
    with Checkpoints(run, keep(1)) as checkpoints:
        monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(CheckpointError, match=r"is full: a checkpoint takes 0.000 GB") as full:
            checkpoints.save(make_state(4), {"step": 4}, 0.0)
    assert f"'{run / 'checkpoints' / '3'}' is kept" in str(full.value)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["2", "3"]


def test_a_write_that_fails_is_reported_and_the_old_checkpoint_stays(run):
    """The space that was free is taken meanwhile: files cannot grow any more."""
    script = PROGRAMS / "full_disk.py"
    answer = subprocess.run([sys.executable, script, run], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "a checkpoint cannot be written to" in answer.stdout
    assert f"'{run / 'checkpoints' / '3'}' is kept" in answer.stdout
    assert run_dir.newest(run).name == "3"
    state, _ = checkpoint.restore(run_dir.newest(run), abstract(make_state(0)))
    assert_same(state, make_state(3))
    with Checkpoints(run, keep(1)) as checkpoints:  # there is space again
        checkpoints.save(make_state(4), {"step": 4}, 0.0)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["4"]


def test_a_long_list_of_differences_is_cut():
    saved = {f"layer_{i}": np.zeros(1) for i in range(20)}
    assert len(run_dir.tree_differences(saved, {})) == 20


@pytest.mark.parametrize("part", ["", ":params"])
def test_init_from_params_takes_the_teacher_and_keeps_the_rest_fresh(run, part):
    fresh, saved = make_state(0), make_state(3)

    def make_fresh(parts):
        assert not parts, "random parameters are made that the run's would take the place of"
        return fresh

    state = checkpoint.initial_state(f"{run}{part}", make_fresh, not_called, abstract(fresh))
    assert_same(state.params, saved.params)
    assert_same(state.extra, saved.extra)
    rest = {"params": None, "extra": None}
    assert_same(state.replace(**rest), fresh.replace(**rest))


def test_init_from_params_makes_a_teacher_where_there_is_none(run):
    """Here it has another shape than the saved one."""
    fresh = make_state(0).replace(extra={"teacher": jnp.zeros(7)})
    state = checkpoint.initial_state(
        f"{run}:params", lambda parts: fresh, lambda params: {"made of": params}, abstract(fresh)
    )
    assert_same(state.extra, {"made of": make_state(3).params})


def not_called(*_):
    raise AssertionError("nothing is made that is there, or for a start that fails")


def test_extra_state_is_read_alone(run):
    assert_same(run_dir.read_extra(run), make_state(3).extra)


def test_init_from_full_takes_everything(run):
    shapes = abstract(make_state(0))
    assert_same(
        checkpoint.initial_state(f"{run}:full", not_called, not_called, shapes),
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
        run_dir.load_params(tmp_path)
    run_dir.claim(tmp_path, tiny_train_config())
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        run_dir.load_params(tmp_path)


def test_claim_compares_and_writes_once(tmp_path):
    config = tiny_train_config()
    run_dir.claim(tmp_path / "a" / "b", config)
    path = tmp_path / "a" / "b" / "config.json"
    written = path.stat().st_mtime_ns
    run_dir.claim(tmp_path / "a" / "b", config)
    assert path.stat().st_mtime_ns == written
    assert json.loads(path.read_text())["steps"] == config.steps
    with pytest.raises(ConfigError, match=r"steps: 4 -> 5\n"):
        run_dir.claim(tmp_path / "a" / "b", dataclasses.replace(config, steps=5))


def test_what_changes_no_result_may_differ(tmp_path):
    config = tiny_train_config()
    run_dir.claim(tmp_path, config)
    other = dataclasses.replace(
        config,
        micro_batch_size=4,
        log_every=7,
        sharding=dataclasses.replace(config.sharding, fsdp=2),
        checkpoint=dataclasses.replace(config.checkpoint, every=5),
        data=dataclasses.replace(config.data, num_workers=3),
    )
    run_dir.check_config(tmp_path, other)
    with pytest.raises(ConfigError, match=r"batch_size: 8 -> 16\n"):
        run_dir.check_config(tmp_path, dataclasses.replace(other, batch_size=16))


def test_a_config_of_before_a_field_with_a_default_is_read(tmp_path):
    config = tiny_train_config()
    run_dir.claim(tmp_path, config)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields["checkpoint"]["minutes"]
    for source in fields["data"]["sources"]:
        del source["limit"], source["max_epochs"]
    path.write_text(json.dumps(fields))
    assert run_dir.load_config(tmp_path) == config
    run_dir.check_config(tmp_path, config)

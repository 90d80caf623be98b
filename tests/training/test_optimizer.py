import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vljepa_jax.config import ConfigError, ConstantThenDecay, OptimizerConfig, OptimizerRule
from vljepa_jax.training.optimizer import make_optimizer, make_schedule, merge

RULES = (
    OptimizerRule(
        pattern=r"^encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    ),
    OptimizerRule(pattern=r"bias$", frozen=False, lr_multiplier=1.0, weight_decay_multiplier=0.0),
    OptimizerRule(pattern=r"^text/", frozen=False, lr_multiplier=0.05, weight_decay_multiplier=1.0),
    OptimizerRule(pattern=r".*", frozen=False, lr_multiplier=1.0, weight_decay_multiplier=2.0),
)
CONFIG = OptimizerConfig(
    learning_rate=0.1,
    schedule="constant",
    warmup_steps=0,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.5,
    max_grad_norm=1e9,
    rules=RULES,
)


def make_params():
    return {
        "encoder": {"kernel": jnp.array([1.0, 2.0])},
        "text": {"kernel": jnp.array([4.0]), "bias": jnp.array([8.0])},
        "head": {"kernel": jnp.array([16.0])},
    }


def one_update(config, params, grads):
    optimizer = make_optimizer(config, 10, params)
    trained, frozen = optimizer.split(params)
    state = optimizer.transform.init(trained)
    updates, state = optimizer.transform.update(grads, state, trained, step=0)
    return merge(optax.apply_updates(trained, updates), frozen), state


def test_first_adamw_step_by_hand():
    """Bias correction makes the first Adam direction g / (|g| + eps), that is the sign."""
    params = make_params()
    grads = {
        "text": {"kernel": jnp.array([0.3]), "bias": jnp.array([-0.7])},
        "head": {"kernel": jnp.array([2.0])},
    }
    new, _ = one_update(CONFIG, params, grads)
    np.testing.assert_array_equal(new["encoder"]["kernel"], params["encoder"]["kernel"])
    assert new["text"]["kernel"] == pytest.approx(4.0 - 0.1 * 0.05 * (1.0 + 0.5 * 1.0 * 4.0))
    assert new["text"]["bias"] == pytest.approx(8.0 - 0.1 * 1.0 * (-1.0))
    assert new["head"]["kernel"] == pytest.approx(16.0 - 0.1 * (1.0 + 0.5 * 2.0 * 16.0))


def test_the_rate_is_that_of_the_step_and_not_of_a_count_of_updates():
    """A step whose update is left out counts too: the cosine ends where the run does."""
    params = make_params()
    optimizer = make_optimizer(dataclasses.replace(CONFIG, schedule="cosine"), 10, params)
    trained, _ = optimizer.split(params)
    state = optimizer.transform.init(trained)

    def moved(step):
        updates, _ = optimizer.transform.update(trained, state, trained, step=step)
        return updates["head"]["kernel"][0]

    assert moved(9) / moved(0) == pytest.approx((1 + np.cos(0.9 * np.pi)) / 2, rel=1e-4)


def test_the_state_is_that_of_older_checkpoints():
    """Of optax's own schedule at the end of the chain, count and all."""
    params = make_params()
    optimizer = make_optimizer(CONFIG, 10, params)
    state = optimizer.transform.init(optimizer.split(params)[0])
    assert isinstance(state[-1], optax.ScaleByScheduleState)
    _, state = one_update(CONFIG, params, optimizer.split(params)[0])
    assert state[-1].count == optax.tree.get(state[1], "count") == 1


def test_second_step_matches_adamw_of_optax():
    rules = (
        OptimizerRule(pattern=".*", frozen=False, lr_multiplier=1.0, weight_decay_multiplier=1.0),
    )
    config = dataclasses.replace(CONFIG, rules=rules)
    params = {"a": jnp.array([1.0, -3.0])}
    ours = make_optimizer(config, 10, params).transform
    theirs = optax.adamw(0.1, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.5)
    results = []
    for transform in (ours, theirs):
        current, state = params, transform.init(params)
        for grad in ([0.2, 0.1], [-0.5, 0.3]):
            updates, state = transform.update({"a": jnp.array(grad)}, state, current, step=0)
            current = optax.apply_updates(current, updates)
        results.append(current["a"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


def test_clips_by_the_norm_over_trained_gradients():
    config = dataclasses.replace(CONFIG, max_grad_norm=1.0)
    params = {"head": {"a": jnp.zeros(1), "b": jnp.zeros(1)}, "encoder": {"c": jnp.zeros(1)}}
    rules = (RULES[0], RULES[3])
    config = dataclasses.replace(config, rules=rules)
    grads = {"head": {"a": jnp.array([3.0]), "b": jnp.array([4.0])}}
    _, state = one_update(config, params, grads)
    moments = optax.tree.get(state, "mu")
    assert moments["head"]["a"] == pytest.approx(0.1 * 0.6)
    assert moments["head"]["b"] == pytest.approx(0.1 * 0.8)


def test_frozen_parameters_have_no_state():
    params = make_params()
    optimizer = make_optimizer(CONFIG, 10, params)
    trained, frozen = optimizer.split(params)
    assert set(trained) == {"text", "head"}
    assert set(frozen) == {"encoder"}
    state = optimizer.transform.init(trained)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert not [name for name in names if "encoder" in name]
    assert sum("head" in name for name in names) == 2  # the two Adam moments
    assert jax.tree.structure(merge(trained, frozen)) == jax.tree.structure(params)


def test_unmatched_parameter_is_named():
    config = dataclasses.replace(CONFIG, rules=RULES[:3])
    with pytest.raises(ConfigError, match="no rule matches 'head/kernel'"):
        make_optimizer(config, 10, make_params())


def test_rule_without_parameters_is_named():
    rules = (
        OptimizerRule(
            pattern="^x_encodr/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
        ),
        *RULES,
    )
    with pytest.raises(ConfigError, match=r"rules\[0\] \('\^x_encodr/'\) decides no parameter"):
        make_optimizer(dataclasses.replace(CONFIG, rules=rules), 10, make_params())


def test_broken_pattern_is_named():
    rules = (
        OptimizerRule(pattern="(", frozen=False, lr_multiplier=1.0, weight_decay_multiplier=0.0),
    )
    with pytest.raises(ConfigError, match=r"rules\[0\]"):
        make_optimizer(dataclasses.replace(CONFIG, rules=rules), 10, make_params())


def test_everything_frozen_is_refused():
    rules = (
        OptimizerRule(pattern=".*", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0),
    )
    with pytest.raises(ConfigError, match="nothing to train"):
        make_optimizer(dataclasses.replace(CONFIG, rules=rules), 10, make_params())


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant", 1, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant", 4, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]),
        (ConstantThenDecay(3), 2, [0.5, 1.0, 1.0, 1.0, 2 / 3, 1 / 3]),
        (ConstantThenDecay(4), 2, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (ConstantThenDecay(6), 0, [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("cosine", 2, [0.5, 1.0, 1.0, 0.5 + 0.5 * np.sqrt(0.5), 0.5, 0.5 - 0.5 * np.sqrt(0.5)]),
    ],
)
def test_schedule_by_hand(schedule, warmup, expected):
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup_steps=warmup, learning_rate=1.0)
    rate = make_schedule(config, 6)
    np.testing.assert_allclose([rate(step) for step in range(6)], expected, rtol=1e-6)


@pytest.mark.parametrize("decay_steps", [0, 5])
def test_the_decay_lies_after_the_warm_up(decay_steps):
    schedule = ConstantThenDecay(decay_steps)
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup_steps=2)
    with pytest.raises(
        ConfigError, match=f"decay_steps: {decay_steps} does not lie .* the 4 steps"
    ):
        make_schedule(config, 6)


def test_cosine_needs_steps_after_the_warm_up():
    config = dataclasses.replace(CONFIG, schedule="cosine", warmup_steps=6)
    with pytest.raises(ConfigError, match="warmup_steps: 6"):
        make_schedule(config, 6)

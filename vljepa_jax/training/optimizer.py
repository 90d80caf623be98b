"""AdamW with one ordered table that says, per parameter, what is frozen and what multiplied.

The table is ``OptimizerConfig.rules``; a rule's regex is searched in the parameter's path and the
first match counts, as in ``sharding.py``. Frozen parameters are taken out of the tree before
anything is differentiated: they have neither gradient nor optimiser state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax
from flax import traverse_util

from vljepa_jax.config import ConfigError, ConstantThenDecay, OptimizerConfig, OptimizerRule
from vljepa_jax.config.rules import first_match

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser as the training step uses it.

    Attributes:
        transform: over the tree of trained parameters alone; ``update`` also takes ``step``, the
            index at which the schedule is read.
        schedule: step, from 0, -> learning rate before a rule's multiplier.
        frozen: paths of the parameters that are not trained.
    """

    transform: optax.GradientTransformationExtraArgs
    schedule: optax.Schedule
    frozen: frozenset[tuple[str, ...]]

    def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """Divides nested dicts of parameters into (trained, frozen)."""
        flat = traverse_util.flatten_dict(params)
        return (
            traverse_util.unflatten_dict({k: v for k, v in flat.items() if k not in self.frozen}),
            traverse_util.unflatten_dict({k: v for k, v in flat.items() if k in self.frozen}),
        )


def merge(trained: PyTree, frozen: PyTree) -> PyTree:
    """The inverse of ``Optimizer.split``."""
    return traverse_util.unflatten_dict(
        traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
    )


def make_optimizer(config: OptimizerConfig, steps: int, params: PyTree) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019): with c the clipped gradient and r(s) the schedule,

        p <- p - r(s) * lr_multiplier * (adam(c) + weight_decay * weight_decay_multiplier * p)

    Args:
        config: rates and rules.
        steps: length of the run, which a cosine schedule needs.
        params: nested dicts of arrays or ``ShapeDtypeStruct``; only the paths are read.

    Raises:
        ConfigError: a parameter that no rule matches, a rule that no parameter reaches, nothing
            left to train, or a warm-up as long as the run.
    """
    rules = _match(config.rules, params)
    frozen = frozenset(path for path, rule in rules.items() if rule.frozen)
    trained = {path: rule for path, rule in rules.items() if not rule.frozen}
    if not trained:
        raise ConfigError("optimizer.rules: every parameter is frozen, there is nothing to train")
    rates = traverse_util.unflatten_dict(
        {path: rule.lr_multiplier for path, rule in trained.items()}
    )
    decays = traverse_util.unflatten_dict(
        {path: config.weight_decay * rule.weight_decay_multiplier for path, rule in trained.items()}
    )
    schedule = make_schedule(config, steps)
    transform = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.stateless(
            lambda updates, params: jax.tree.map(
                lambda update, param, decay: update + decay * param, updates, params, decays
            )
        ),
        optax.stateless(
            lambda updates, _: jax.tree.map(lambda update, rate: rate * update, updates, rates)
        ),
        _scale_by_schedule(schedule),
    )
    return Optimizer(transform, schedule, frozen)


def _scale_by_schedule(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the rate of the step that ``update`` is given.

    A count of its own would stand still at a step without an update (``on_non_finite``), and the
    schedule would end late. Its state is optax's, so that older checkpoints fit.
    """
    scale = optax.scale_by_learning_rate(schedule)

    def update(
        updates: PyTree,
        state: optax.ScaleByScheduleState,
        params: PyTree = None,
        *,
        step: jax.Array,
    ) -> tuple[PyTree, optax.ScaleByScheduleState]:
        return scale.update(updates, state._replace(count=step), params)

    return optax.GradientTransformationExtraArgs(scale.init, update)


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from ``learning_rate / warmup_steps``, then constant or down to zero.

    The index counts steps from 0, so that no step has rate 0: the warm-up reaches the full rate at
    its last step, and a decay would reach zero one step after the run's last.
    """
    warmup = config.warmup_steps
    if config.schedule == "constant":
        main = optax.constant_schedule(config.learning_rate)
    elif isinstance(config.schedule, ConstantThenDecay):
        decay = config.schedule.decay_steps
        constant = steps - warmup - decay
        if decay < 1 or constant < 0:
            raise ConfigError(
                f"optimizer.schedule.decay_steps: {decay} does not lie between 1 and the "
                f"{steps - warmup} steps after the warm-up"
            )
        main = optax.join_schedules(
            [
                optax.constant_schedule(config.learning_rate),
                optax.linear_schedule(config.learning_rate, 0.0, decay),
            ],
            [constant],
        )
    else:
        if warmup >= steps:
            raise ConfigError(
                f"optimizer.warmup_steps: {warmup} leaves nothing of {steps} steps for the cosine"
            )
        main = optax.cosine_decay_schedule(config.learning_rate, steps - warmup)
    if warmup == 0:
        return main
    rise = optax.linear_schedule(
        config.learning_rate / warmup, config.learning_rate, max(1, warmup - 1)
    )
    return optax.join_schedules([rise, main], [warmup])


def _match(rules: tuple[OptimizerRule, ...], params: PyTree) -> dict[tuple, OptimizerRule]:
    matched, unmatched, used = {}, [], set()
    for path in traverse_util.flatten_dict(params):
        name = "/".join(path)
        index = first_match(rules, name, "optimizer.rules")
        if index is None:
            unmatched.append(name)
        else:
            matched[path] = rules[index]
            used.add(index)
    if unmatched:
        raise ConfigError(f"optimizer.rules: no rule matches {', '.join(map(repr, unmatched))}")
    # A misspelt "frozen" rule would otherwise train what must not be trained, and nobody sees it.
    for index, rule in enumerate(rules):
        if index not in used:
            raise ConfigError(
                f"optimizer.rules[{index}] ('{rule.pattern}') decides no parameter: none matches, "
                "or earlier rules take them all"
            )
    return matched

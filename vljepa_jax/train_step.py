"""The training state and the one pure step, for every objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int

from vljepa_jax.config import TrainConfig
from vljepa_jax.losses import Metrics
from vljepa_jax.models.placement import on_mesh
from vljepa_jax.objectives import Arrays, Objective
from vljepa_jax.optimizer import Optimizer, make_optimizer, merge
from vljepa_jax.sharding import batch_sharding, state_shardings

PyTree = Any


@struct.dataclass
class TrainState:
    """Everything that a step changes. Random numbers are not among it: see ``step_rng``.

    Attributes:
        step: updates made so far.
        params: all parameters, frozen ones included.
        opt_state: of the trained parameters.
        extra: the objective's state without gradient.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    extra: PyTree


def step_rng(seed: int, step: Int[Array, ""]) -> jax.Array:
    """The key of a step: a function of the run's seed and the step alone."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_state_init(objective: Objective, optimizer: Optimizer) -> Callable[..., TrainState]:
    def init_state(rng: jax.Array) -> TrainState:
        params, extra = objective.init(rng)
        trained, _ = optimizer.split(params)
        return TrainState(jnp.int32(0), params, optimizer.transform.init(trained), extra)

    return init_state


def make_gradients(objective: Objective, optimizer: Optimizer, mesh: Mesh, seed: int) -> Callable:
    """Returns ``gradients(state, arrays) -> (loss, metrics, gradients of trained parameters)``.

    Frozen parameters are constants of the differentiated function. So nothing is differentiated
    through a frozen X-Encoder, and none of its activations are kept.
    """
    rows = batch_sharding(mesh)

    def gradients(state: TrainState, arrays: Arrays) -> tuple[Array, Metrics, PyTree]:
        trained, frozen = optimizer.split(state.params)

        def loss_of(trained):
            params = merge(trained, frozen)
            representations = objective.represent(
                params, state.extra, arrays, step_rng(seed, state.step)
            )
            representations = jax.lax.with_sharding_constraint(representations, rows)
            return objective.loss(params, representations, arrays)

        with on_mesh(mesh):
            (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
        return loss, metrics, grads

    return gradients


def make_train_step(objective: Objective, optimizer: Optimizer, mesh: Mesh, seed: int) -> Callable:
    """Returns the pure ``train_step(state, arrays) -> (state, metrics)``, to be compiled.

    Beside the objective's own metrics it gives loss, gradient_norm (before clipping) and
    learning_rate (before a rule's multiplier), scalars of this step.
    """
    gradients = make_gradients(objective, optimizer, mesh, seed)

    def train_step(state: TrainState, arrays: Arrays) -> tuple[TrainState, Metrics]:
        loss, metrics, grads = gradients(state, arrays)
        trained, frozen = optimizer.split(state.params)
        updates, opt_state = optimizer.transform.update(grads, state.opt_state, trained)
        params = merge(optax.apply_updates(trained, updates), frozen)
        metrics = metrics | {
            "loss": loss,
            "gradient_norm": optax.tree.norm(grads),
            "learning_rate": optimizer.schedule(state.step),
        }
        extra = objective.update_extra(state.extra, params)
        return TrainState(state.step + 1, params, opt_state, extra), metrics

    return train_step


class Trainer:
    """An objective's state layout and compiled functions on one mesh.

    Attributes:
        optimizer: with the rules matched against the objective's parameters.
        abstract_state: a ``TrainState`` of ``ShapeDtypeStruct`` with their shardings.
        devices: of the mesh.
    """

    def __init__(self, config: TrainConfig, objective: Objective, mesh: Mesh) -> None:
        rng = jax.random.key(config.seed)
        params, _ = jax.eval_shape(objective.init, rng)
        self.optimizer = make_optimizer(config.optimizer, config.steps, params)
        self._init = make_state_init(objective, self.optimizer)
        self._init_extra = objective.init_extra
        self._rng = rng
        self.devices = list(mesh.devices.flat)
        self._rows = batch_sharding(mesh)
        shapes = jax.eval_shape(self._init, rng)
        self._shardings = state_shardings(shapes, params, config.sharding.rules, mesh)
        self._step = make_train_step(objective, self.optimizer, mesh, config.seed)
        self.abstract_state = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self._shardings,
        )

    def init(self) -> TrainState:
        """Random parameters, made where they lie."""
        return jax.jit(self._init, out_shardings=self._shardings)(self._rng)

    def init_extra(self, params: PyTree) -> PyTree:
        """The objective's extra state for parameters from elsewhere."""
        return jax.jit(self._init_extra, out_shardings=self._shardings.extra)(params)

    def compile(self, array_spec: dict[str, tuple[tuple[int, ...], Any]]) -> Callable:
        """Compiles the step for arrays of the given shapes and dtypes; it consumes its state."""
        arrays = {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=self._rows)
            for name, (shape, dtype) in array_spec.items()
        }
        step = jax.jit(
            self._step,
            in_shardings=(self._shardings, self._rows),
            out_shardings=(self._shardings, None),
            donate_argnums=0,
        )
        return step.lower(self.abstract_state, arrays).compile()

    def put(self, arrays: dict[str, Any]) -> dict[str, jax.Array]:
        """Lays this process's rows of a batch onto the mesh."""
        return {
            name: jax.make_array_from_process_local_data(self._rows, array)
            for name, array in arrays.items()
        }

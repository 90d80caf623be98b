"""The one pure step, for every objective."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from vljepa_jax.config import TrainConfig
from vljepa_jax.losses import Metrics
from vljepa_jax.models.placement import on_mesh
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.objectives.base import Arrays, Objective
from vljepa_jax.parallel.sharding import (
    ROW_AXES,
    batch_sharding,
    local_rows,
    row_shards,
    state_shardings,
)
from vljepa_jax.training.optimizer import Optimizer, make_optimizer, merge
from vljepa_jax.training.train_state import TrainState

PyTree = Any


def step_rng(seed: int, step: Int[Array, ""]) -> jax.Array:
    """The key of a step: a function of the run's seed and the step alone."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_state_init(
    objective: Objective, optimizer: Optimizer, dtype: jnp.dtype
) -> Callable[..., TrainState]:
    """``dtype`` is that of the computation, in which frozen parameters are stored."""

    def init_state(rng: jax.Array) -> TrainState:
        params, extra = objective.init(rng)
        trained, frozen = optimizer.split(params)
        params = merge(trained, _as_computed(frozen, dtype))
        return TrainState(jnp.int32(0), params, optimizer.transform.init(trained), extra)

    return init_state


def _as_computed(frozen: PyTree, dtype: jnp.dtype) -> PyTree:
    """Kernels and embeddings in ``dtype``, which every use would convert them to.

    Norms and biases, which are small, stay in float32: norms are computed in it.
    """
    flat = traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(
        {
            path: leaf.astype(dtype) if path[-1] in ("kernel", "embedding") else leaf
            for path, leaf in flat.items()
        }
    )


def make_gradients(
    config: TrainConfig, objective: Objective, optimizer: Optimizer, mesh: Mesh
) -> Callable:
    """Returns ``gradients(state, arrays) -> (loss, metrics, gradients of trained parameters)``.

    Frozen parameters are constants of the differentiated function. So nothing is differentiated
    through a frozen X-Encoder, and none of its activations are kept.

    With ``config.micro_batch_size`` the gradient is the same, for the activations of so many rows
    (GradCache, Gao et al. 2021): the batch is represented in micro-batches without keeping
    activations; the loss of the whole is differentiated by the representations; then each
    micro-batch is represented again, and what came back to its representations goes on to the
    parameters. This costs one more forward pass of what is trained: the tokens of a frozen
    X-Encoder are kept for the second one, in about the room of the video's pixels. What an
    objective draws at random it draws for each micro-batch anew, the same in both passes.
    """
    rows = batch_sharding(mesh)

    def traced(state: TrainState, arrays: Arrays) -> tuple[Array, Metrics, PyTree]:
        trained, frozen = optimizer.split(state.params)
        rng = step_rng(config.seed, state.step)

        def represent(trained, arrays, rng):
            params = merge(trained, frozen)
            representations = objective.represent(params, state.extra, arrays, rng)
            return jax.lax.with_sharding_constraint(representations, rows)

        def loss_of(trained, representations):
            return objective.loss(merge(trained, frozen), representations, arrays, rng, mesh)

        def loss_at_once(trained):
            return loss_of(trained, represent(trained, arrays, rng))

        count = config.batch_size // (config.micro_batch_size or config.batch_size)
        if count == 1:
            (loss, metrics), grads = jax.value_and_grad(loss_at_once, has_aux=True)(trained)
            return loss, metrics, grads

        shardings = state_shardings(trained, trained, config.sharding.rules, mesh)
        rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(count))
        pieces = _micro_batches(arrays, count, mesh)

        def first(piece):
            arrays, rng = piece
            tokens = _frozen_tokens(config, trained, frozen, arrays)
            return represent(trained, _in_place_of_video(arrays, tokens), rng), tokens

        found, tokens = jax.lax.map(first, (pieces, rngs))
        pieces = _in_place_of_video(pieces, _by_rows(tokens, mesh))
        (loss, metrics), (grads, cotangents) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(
            trained, _whole_batch(found, mesh)
        )

        def add(grads, piece):
            *inputs, cotangent = piece
            _, pull_back = jax.vjp(lambda trained: represent(trained, *inputs), trained)
            grads = jax.tree.map(jnp.add, grads, *pull_back(cotangent))
            return jax.lax.with_sharding_constraint(grads, shardings), None

        pieces = (pieces, rngs, _micro_batches(cotangents, count, mesh))
        grads, _ = jax.lax.scan(add, grads, pieces)
        return loss, metrics, grads

    def gradients(state: TrainState, arrays: Arrays) -> tuple[Array, Metrics, PyTree]:
        with on_mesh(mesh):
            return traced(state, arrays)

    return gradients


def _frozen_tokens(
    config: TrainConfig, trained: PyTree, frozen: PyTree, arrays: Arrays
) -> dict[str, Array]:
    """The visual tokens of a batch from a frozen X-Encoder, for who needs them more than once.

    Every objective takes it in the video's place, with the same result.

    Returns:
        {"visual_tokens": [b, n, x]}; {} where there is no video or its encoder is trained.
    """
    if "video" not in arrays or "x_encoder" not in frozen or "x_encoder" in trained:
        return {}
    with jax.named_scope("x_encoder"):  # as it is called inside the models
        tokens = make_video_encoder(config.embedder[0]).apply(
            {"params": frozen["x_encoder"]}, arrays["video"]
        )
    return {"visual_tokens": tokens}


def _micro_batches(tree: PyTree, count: int, mesh: Mesh) -> PyTree:
    """[B, ...] -> [count, B / count, ...]: every device's own rows are divided, and none moves."""
    divide = functools.partial(
        rearrange,
        pattern="(shard piece row) ... -> piece (shard row) ...",
        shard=row_shards(mesh),
        piece=count,
    )
    return _by_rows(jax.tree.map(divide, tree), mesh)


def _by_rows(pieces: PyTree, mesh: Mesh) -> PyTree:
    """[count, b, ...] with every micro-batch's rows divided."""
    rows = NamedSharding(mesh, PartitionSpec(None, ROW_AXES))
    return jax.lax.with_sharding_constraint(pieces, rows)


def _in_place_of_video(arrays: Arrays, tokens: Arrays) -> Arrays:
    """A batch with the visual tokens, if there are any, instead of its video."""
    return {k: v for k, v in arrays.items() if k != "video"} | tokens if tokens else arrays


def _whole_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """The inverse of ``_micro_batches``."""
    join = functools.partial(
        rearrange,
        pattern="piece (shard row) ... -> (shard piece row) ...",
        shard=row_shards(mesh),
    )
    return jax.lax.with_sharding_constraint(jax.tree.map(join, tree), batch_sharding(mesh))


def make_train_step(
    config: TrainConfig, objective: Objective, optimizer: Optimizer, mesh: Mesh
) -> Callable:
    """Returns the pure ``train_step(state, arrays) -> (state, metrics)``, to be compiled.

    Beside the objective's own metrics it gives loss, gradient_norm (before clipping) and
    learning_rate (before a rule's multiplier), scalars of this step. Where the loss or the
    gradient is not finite and ``config.on_non_finite`` is "skip", nothing but ``step`` changes.
    """
    gradients = make_gradients(config, objective, optimizer, mesh)

    def train_step(state: TrainState, arrays: Arrays) -> tuple[TrainState, Metrics]:
        loss, metrics, grads = gradients(state, arrays)
        trained, frozen = optimizer.split(state.params)
        updates, opt_state = optimizer.transform.update(
            grads, state.opt_state, trained, step=state.step
        )
        params = merge(optax.apply_updates(trained, updates), frozen)
        metrics = metrics | {
            "loss": loss,
            "gradient_norm": optax.tree.norm(grads),
            "learning_rate": optimizer.schedule(state.step),
        }
        extra = objective.update_extra(state.extra, params)
        updated = TrainState(state.step + 1, params, opt_state, extra)
        chex.assert_trees_all_equal_shapes_and_dtypes(updated, state)  # the next step's input
        if config.on_non_finite == "skip":
            finite = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])
            updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
            updated = updated.replace(step=state.step + 1)
        return updated, metrics

    return train_step


class Trainer:
    """An objective's state layout and compiled functions on one mesh.

    Attributes:
        optimizer: with the rules matched against the objective's parameters.
        abstract_state: a ``TrainState`` of ``ShapeDtypeStruct`` with their shardings.
        mesh: where the state lies.
        devices: of the mesh.
        step_bytes: what the compiled step takes of a device, by its compiler; ``None`` before that,
            and where it does not tell.
    """

    step_bytes: int | None = None

    def __init__(self, config: TrainConfig, objective: Objective, mesh: Mesh) -> None:
        rng = jax.random.key(config.seed)
        params, _ = jax.eval_shape(objective.init, rng)
        self.optimizer = make_optimizer(config.optimizer, config.steps, params)
        self._init = make_state_init(objective, self.optimizer, jnp.dtype(config.model.dtype))
        self._init_extra = objective.init_extra
        self._rng = rng
        self.devices = list(mesh.devices.flat)
        self._rows = batch_sharding(mesh)
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._batch_size = config.batch_size
        self.mesh = mesh
        shapes = jax.eval_shape(self._init, rng)
        self._shardings = state_shardings(shapes, params, config.sharding.rules, mesh)
        self._step = make_train_step(config, objective, self.optimizer, mesh)
        self.abstract_state = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self._shardings,
        )

    @property
    def step(self) -> Callable:
        """The pure step, not compiled: (state, arrays) -> (state, metrics)."""
        return self._step

    @functools.cached_property  # a mesh of devices that are not here is compiled for as well
    def local_rows(self) -> np.ndarray:
        """Of a global batch, the rows that this process gives to ``put``: int64 [b], ascending."""
        return local_rows(self.mesh, self._batch_size)

    def init(self, parts: Collection[str] | None = None) -> TrainState:
        """Random parameters, made where they lie.

        Args:
            parts: of the parameters, those that are wanted; the same ones as with all others, which
                are not made, and no ``extra`` is. ``None``: all.
        """
        if parts is None:
            return jax.jit(self._init, out_shardings=self._shardings)(self._rng)

        def only(state: TrainState) -> TrainState:
            return state.replace(params={part: state.params[part] for part in parts}, extra=None)

        # Of the compiled function, only what is returned is computed and allocated.
        init = jax.jit(lambda rng: only(self._init(rng)), out_shardings=only(self._shardings))
        return init(self._rng)

    def init_extra(self, params: PyTree) -> PyTree:
        """The objective's extra state for parameters from elsewhere."""
        return jax.jit(self._init_extra, out_shardings=self._shardings.extra)(params)

    def compile(self, array_spec: dict[str, tuple[tuple[int, ...], Any]]) -> Callable:
        """Compiles the step for arrays of the given shapes and dtypes; it consumes its state."""
        compiled = self.trace(array_spec).lower().compile()
        if (analysis := compiled.memory_analysis()) is not None:
            held = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
            self.step_bytes = held + analysis.generated_code_size_in_bytes
        return compiled

    def trace(self, array_spec: dict[str, tuple[tuple[int, ...], Any]]) -> jax.stages.Traced:
        """The step that ``compile`` compiles, for who wants to read it as well."""
        arrays = {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=self._rows)
            for name, (shape, dtype) in array_spec.items()
        }
        step = jax.jit(
            self._step,
            in_shardings=(self._shardings, self._rows),
            out_shardings=(self._shardings, self._everywhere),
            donate_argnums=0,
        )
        return step.trace(self.abstract_state, arrays)

    def put(self, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Lays this process's rows of a batch, ``local_rows`` of it, onto the mesh."""

        def shard(array: np.ndarray) -> jax.Array:
            def shard(index: tuple[slice, ...]) -> np.ndarray:
                first, last, _ = index[0].indices(self._batch_size)
                start = int(np.searchsorted(self.local_rows, first))
                return array[start : start + last - first]

            shape = (self._batch_size, *array.shape[1:])
            return jax.make_array_from_callback(shape, self._rows, shard)

        return {name: shard(array) for name, array in arrays.items()}

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.subprocesses import run_on_devices
from tests.helpers.tiny import fake_arrays, tiny_train_config
from vljepa_jax.config import OptimizerRule
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh, path_name
from vljepa_jax.training import count
from vljepa_jax.training.train_step import Trainer, make_gradients, step_rng

MESHES = ("1x1x1", "8x1x1", "2x2x2+4")


def spec_of(arrays):
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def make_trainer(config, devices=1):
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    return Trainer(config, make_objective(config), mesh)


@pytest.fixture(scope="module")
def trained():
    """Three steps of the tiny model on one batch: (trainer, first state, last state, metrics)."""
    config = tiny_train_config()
    trainer = make_trainer(config)
    arrays = fake_arrays(config)
    step = trainer.compile(spec_of(arrays))
    first = jax.device_get(trainer.init())
    state, metrics = trainer.init(), []
    for _ in range(3):
        state, values = step(state, trainer.put(arrays))
        metrics.append(jax.device_get(values))
    return trainer, first, jax.device_get(state), metrics


def test_step_learns_one_batch(trained):
    _, _, state, metrics = trained
    assert state.step == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(metrics))
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert [values["learning_rate"] for values in metrics] == pytest.approx([5e-4, 1e-3, 1e-3])


def test_the_logged_learning_rate_is_the_applied_one(trained):
    """After steps without an update, which the optimiser's own count does not see."""
    trainer, first, _, metrics = trained
    arrays = fake_arrays(tiny_train_config())
    step = trainer.compile(spec_of(arrays))
    later, values = step(trainer.init().replace(step=jnp.int32(7)), trainer.put(arrays))
    once, _ = step(trainer.init(), trainer.put(arrays))
    assert values["learning_rate"] == pytest.approx(2 * metrics[0]["learning_rate"])
    head = [np.asarray(state.params["y_head"]["kernel"]) for state in (first, once, later)]
    np.testing.assert_allclose(head[2] - head[0], 2 * (head[1] - head[0]), atol=1e-6)
    assert later.step == 8


def test_parts_of_the_random_parameters_are_those_of_the_whole(trained):
    """And they alone are drawn; the rest of the state is there."""
    trainer, first, _, _ = trained
    some = jax.device_get(trainer.init(parts=("predictor", "y_head")))
    assert set(some.params) == {"predictor", "y_head"}
    assert some.extra is None
    for part, found in some.params.items():
        chex.assert_trees_all_equal(found, first.params[part])
    chex.assert_trees_all_equal(some.opt_state, first.opt_state)

    def draws(parts):  # random bits are made with exclusive or
        return "xor(" in jax.jit(lambda: trainer.init(parts)).lower().compile().as_text()

    assert draws(("y_head",))
    assert not draws(())


def test_frozen_parameters_stay_bitwise_and_all_others_move(trained):
    trainer, first, last, _ = trained
    _, frozen_before = trainer.optimizer.split(first.params)
    moved, frozen_after = trainer.optimizer.split(last.params)
    assert set(frozen_before) == {"token_embedding"}
    np.testing.assert_array_equal(
        frozen_before["token_embedding"]["embedding"], frozen_after["token_embedding"]["embedding"]
    )
    before, _ = trainer.optimizer.split(first.params)
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(moved), strict=True
    ):
        assert np.any(old != new), path_name(path)


def test_a_frozen_x_encoder_is_not_differentiated():
    """Its matrix products stand in the gradient's program as often as in the forward pass."""
    config = tiny_train_config()
    # Nothing else in the model has this width, so its products can be told by their shapes.
    x_encoder = dataclasses.replace(config.model.x_encoder, mlp_size=72)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, x_encoder=x_encoder)
    )
    frozen_rule = OptimizerRule(
        pattern="^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    optimizer = config.optimizer
    frozen = dataclasses.replace(
        config, optimizer=dataclasses.replace(optimizer, rules=(frozen_rule, *optimizer.rules))
    )

    def products(config, program):
        trainer = make_trainer(config)
        mesh = make_mesh(config.sharding, jax.devices()[:1])
        objective = make_objective(config)
        if program == "forward":

            def function(state, arrays):
                return objective.represent(state.params, {}, arrays, step_rng(0, state.step))
        else:
            function = make_gradients(config, objective, trainer.optimizer, mesh)
        text = str(jax.make_jaxpr(function)(trainer.abstract_state, fake_arrays(config)))
        return sum(
            "dot_general" in line and "72" in line.split("=")[0] for line in text.split("\n")
        )

    assert products(frozen, "forward") == products(frozen, "gradients") > 0
    assert products(config, "gradients") > products(config, "forward")


def test_frozen_parameters_are_stored_as_they_are_computed_with():
    """Half the bytes, and bitwise the representations of float32 ones, which are converted."""
    config = tiny_train_config()
    frozen_rule = OptimizerRule(
        pattern="^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    optimizer = dataclasses.replace(config.optimizer, rules=(frozen_rule, *config.optimizer.rules))
    model = dataclasses.replace(config.model, dtype="bfloat16")
    config = dataclasses.replace(config, model=model, optimizer=optimizer)
    trainer, objective = make_trainer(config), make_objective(config)
    stored = trainer.init().params
    trained, frozen = trainer.optimizer.split(stored)
    assert set(frozen) == {"x_encoder", "token_embedding"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained)} == {"float32"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(frozen):
        wide = path_name(path).endswith(("kernel", "embedding"))
        assert leaf.dtype == (jnp.bfloat16 if wide else jnp.float32), path_name(path)
    moments = jax.tree_util.tree_leaves_with_path(trainer.abstract_state.opt_state)
    assert not any("x_encoder" in path_name(path) for path, _ in moments)

    params, _ = jax.jit(objective.init)(jax.random.key(config.seed))
    represent = jax.jit(objective.represent)
    arrays, key = fake_arrays(config), jax.random.key(0)
    ours, theirs = represent(stored, {}, arrays, key), represent(params, {}, arrays, key)
    np.testing.assert_array_equal(ours.predicted, theirs.predicted)


def test_random_numbers_are_a_function_of_seed_and_step():
    draw = lambda seed, step: jax.random.bits(step_rng(seed, jnp.int32(step)))  # noqa: E731
    assert draw(1, 5) == draw(1, 5)
    assert len({int(draw(seed, step)) for seed in (0, 1) for step in (0, 1, 2)}) == 6


def run_sharded(directory, objective, meshes):
    """Losses, gradients and parameters of a step on several meshes of 8 devices."""
    run_on_devices("sharded_step.py", directory, objective, *meshes)
    return {mesh: dict(np.load(directory / f"{mesh}.npz")) for mesh in meshes}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return run_sharded(tmp_path_factory.mktemp("sharded"), "vljepa", MESHES)


def test_devices_that_divide_no_dimension_give_the_single_device_step(tmp_path):
    """Six and seven of them: what they do not divide lies whole on each."""
    meshes = ("1x1x1", "1x6x1", "1x7x1")
    found = run_sharded(tmp_path, "vljepa, 42 rows", meshes)
    for mesh in meshes[1:]:
        assert compare(found["1x1x1"], found[mesh]) > 50
    assert np.isfinite(found["1x7x1"]["step_losses"]).all()


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_meshes_and_micro_batches_give_the_single_device_loss_and_gradients(sharded, mesh):
    assert compare(sharded["1x1x1"], sharded[mesh]) > 50  # every trained parameter's gradient


def compare(single, several, tolerance=1e-5):
    np.testing.assert_allclose(several["loss"], single["loss"], rtol=1e-5)
    compared = single.keys() - {"bytes_per_device", "step_losses"}
    assert compared <= several.keys()
    for name in compared:
        scale = np.abs(single[name]).max()
        np.testing.assert_allclose(
            several[name],
            single[name],
            rtol=tolerance,
            atol=tolerance * scale + 1e-8,
            err_msg=name,
        )
    return len(compared)


# The gradient of L1 is a sum of signs, which cancel: rounding shows more than in the loss.
@pytest.mark.parametrize(
    ("objective", "tolerance", "gradients", "mesh"),
    [
        pytest.param("vljepa", 1e-5, 50, "1x1x1+2", marks=pytest.mark.slow),
        pytest.param("vljepa", 1e-5, 50, "2x2x2", marks=pytest.mark.slow),
        # Its tokens are kept between the passes.
        pytest.param("vljepa, frozen", 1e-5, 20, "2x2x2+4", marks=pytest.mark.slow),
        pytest.param("probe", 1e-5, 30, "2x2x2+4", marks=pytest.mark.slow),
        pytest.param("vlm", 1e-5, 30, "2x2x2+4", marks=pytest.mark.slow),
        pytest.param("visual_reader", 1e-5, 30, "2x2x2+4", marks=pytest.mark.slow),
        pytest.param("vjepa2", 3e-5, 30, "2x2x2+4", marks=pytest.mark.slow),
        # It draws noise, and for each micro-batch anew.
        pytest.param("y_decoder", 1e-5, 12, "2x2x2", marks=pytest.mark.slow),
    ],
)
def test_meshes_give_the_single_device_step_of_any_objective(
    objective, tolerance, gradients, mesh, tmp_path
):
    found = run_sharded(tmp_path, objective, ("1x1x1", mesh))
    assert compare(found["1x1x1"], found[mesh], tolerance) > gradients
    assert np.isfinite(found[mesh]["step_losses"]).all()


def test_a_compiled_step_on_a_mesh_is_the_single_device_step(sharded, trained):
    """From parameters drawn on the mesh itself, through the update, to the second loss."""
    _, _, _, metrics = trained
    expected = [values["loss"] for values in metrics[:2]]
    np.testing.assert_allclose(sharded[MESHES[-1]]["step_losses"], expected, rtol=1e-5)


def test_sharding_rules_divide_parameters_and_moments(sharded):
    whole, divided = sharded["1x1x1"], sharded["2x2x2+4"]
    assert divided["bytes_per_device"] < 0.5 * whole["bytes_per_device"]


def test_micro_batches_encode_video_once_where_the_x_encoder_is_frozen():
    """With the gradients of the whole batch, and as many products as the whole batch takes."""
    rule = OptimizerRule(
        pattern="^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    base = tiny_train_config()
    rules = (rule, *base.optimizer.rules)
    frozen = dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, rules=rules))
    arrays = fake_arrays(base)

    def step(config, micro_batch_size):
        config = dataclasses.replace(config, micro_batch_size=micro_batch_size)
        trainer, mesh = make_trainer(config), make_mesh(config.sharding, jax.devices()[:1])
        objective = make_objective(config)
        gradients = make_gradients(config, objective, trainer.optimizer, mesh)
        counted = count.operations(gradients, trainer.abstract_state, arrays)
        encoding = [op for op in counted if "x_encoder" in op.place]
        return jax.jit(gradients), trainer, count.total_flops(encoding, "product")

    at_once, trainer, once = step(frozen, 0)
    in_pieces, _, pieces = step(frozen, 2)
    assert pieces == once > 0
    assert step(base, 2)[2] > 1.3 * step(base, 0)[2]  # trained: forward, forward and backward
    state = trainer.init()
    (loss, _, grads), (wanted, _, right) = in_pieces(state, arrays), at_once(state, arrays)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
    for found, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(right), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


@pytest.mark.slow
def test_micro_batches_hold_the_activations_of_a_few_rows():
    """The paper's batch, compiled: neither B x B logits nor the activations of B rows."""

    def temporaries(batch_size, micro_batch_size):
        config = tiny_train_config(batch_size=batch_size, micro_batch_size=micro_batch_size)
        objective, mesh = make_objective(config), make_mesh(config.sharding, jax.devices()[:1])
        trainer = Trainer(config, objective, mesh)
        small = fake_arrays(tiny_train_config())
        arrays = {
            name: jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), array.dtype)
            for name, array in small.items()
        }
        gradients = jax.jit(make_gradients(config, objective, trainer.optimizer, mesh))
        compiled = gradients.lower(trainer.abstract_state, arrays).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    paper = 24_576
    whole, pieces = temporaries(paper, 0), temporaries(paper, 768)
    assert pieces < whole / 8
    assert pieces < paper**2 * 4 / 4  # a quarter of one float32 B x B
    print(f"{whole / 2**20:.0f} MiB, in micro-batches {pieces / 2**20:.0f} MiB")

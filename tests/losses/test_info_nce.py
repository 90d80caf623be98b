import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.subprocesses import run_on_devices
from vljepa_jax import losses


def unit_rows(rng, rows, size):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference_info_nce(predicted, target, scale, ids=None):
    """Row by row, in float64, straight from the definition."""
    rows = len(predicted)
    total = 0.0
    for i in range(rows):
        negatives = [j for j in range(rows) if j != i and (ids is None or ids[j] != ids[i])]
        positive = scale * predicted[i] @ target[i]
        to_target = [scale * predicted[i] @ target[j] for j in negatives]
        to_prediction = [scale * predicted[j] @ target[i] for j in negatives]
        for others in (to_target, to_prediction):
            total += np.log(np.sum(np.exp([positive, *others]))) - positive
    return total / (2 * rows)


def test_two_rows_by_hand():
    predicted = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    target = jnp.array([[1.0, 0.0], [0.6, 0.8]])
    # Logits at scale 2: [[2, 1.2], [0, 1.6]].
    to_target = (np.log(1 + np.exp(-0.8)) + np.log(1 + np.exp(-1.6))) / 2
    to_prediction = (np.log(1 + np.exp(-2.0)) + np.log(1 + np.exp(-0.4))) / 2
    loss, metrics = losses.info_nce(predicted, target, jnp.float32(2.0))
    assert loss == pytest.approx((to_target + to_prediction) / 2, rel=1e-6)
    assert metrics["accuracy/to_target"] == 1.0
    assert metrics["accuracy/to_prediction"] == 1.0
    assert metrics["temperature"] == 0.5
    assert metrics["log_batch_size"] == pytest.approx(np.log(2))


def test_accuracy_of_each_direction_by_hand():
    # Logits [[1, 0.8], [0.6, 0]], then [[1, -0.6], [0.6, 0]].
    predicted = jnp.array([[1.0, 0.0], [0.6, -0.8]])
    target = jnp.array([[1.0, 0.0], [0.8, 0.6]])
    _, metrics = losses.info_nce(predicted, target, jnp.float32(1.0))
    assert (metrics["accuracy/to_target"], metrics["accuracy/to_prediction"]) == (0.5, 0.5)
    target = jnp.array([[1.0, 0.0], [-0.6, -0.45]])
    _, metrics = losses.info_nce(predicted, target, jnp.float32(1.0))
    assert (metrics["accuracy/to_target"], metrics["accuracy/to_prediction"]) == (0.5, 1.0)


def test_equal_embeddings_give_ln_batch():
    same = jnp.tile(jnp.array([[0.6, 0.8]]), (16, 1))
    loss, _ = losses.info_nce(same, same, jnp.float32(10.0))
    assert loss == pytest.approx(np.log(16), rel=1e-6)


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 0, 4, 1, 0]])
def test_loss_and_gradients_match_reference(ids):
    rng = np.random.default_rng(0)
    predicted, target, scale = unit_rows(rng, 7, 5), unit_rows(rng, 7, 5), 8.0

    def loss(predicted, target, scale):
        target_id = None if ids is None else jnp.array(ids)
        return losses.info_nce(predicted, target, scale, target_id)[0]

    arguments = (jnp.float32(predicted), jnp.float32(target), jnp.float32(scale))
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(*arguments)
    assert value == pytest.approx(reference_info_nce(predicted, target, scale, ids), rel=1e-6)

    # Central differences of the float64 reference along random directions.
    for argument, gradient in enumerate(gradients):
        direction = rng.normal(size=np.shape(gradient))
        step = 1e-6

        def shifted(sign, argument=argument, direction=direction, step=step):
            moved = [predicted, target, scale]
            moved[argument] = moved[argument] + sign * step * direction
            return reference_info_nce(*moved, ids)

        expected = (shifted(1) - shifted(-1)) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_equal_targets_are_no_negatives():
    rng = np.random.default_rng(1)
    predicted, target = jnp.float32(unit_rows(rng, 4, 6)), jnp.float32(unit_rows(rng, 4, 6))
    scale = jnp.float32(5.0)
    ids = jnp.array([3, 3, 1, 2])
    plain, _ = losses.info_nce(predicted, target, scale)
    masked, _ = losses.info_nce(predicted, target, scale, ids)
    distinct, _ = losses.info_nce(predicted, target, scale, jnp.arange(4))
    assert masked < plain
    assert distinct == plain

    # With all targets equal there is nothing to tell apart.
    loss, _ = losses.info_nce(predicted, target, scale, jnp.zeros(4, jnp.int32))
    assert loss == 0.0


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_few_logits_at_a_time_change_nothing(at_once):
    """Of 23 rows: one at a time, four and a rest, all."""
    rng = np.random.default_rng(3)
    predicted, target, more = (jnp.float32(unit_rows(rng, n, 6)) for n in (23, 23, 2))
    ids, more_ids = jnp.array([0, 1] * 11 + [2]), jnp.array([5, 2])

    def loss(*embeddings, **options):
        predicted, target, more = embeddings
        return losses.info_nce(predicted, target, 9.0, ids, more, more_ids, **options)[0]

    found = jax.value_and_grad(loss, (0, 1, 2))(predicted, target, more, logits_at_once=at_once)
    expected = jax.value_and_grad(loss, (0, 1, 2))(predicted, target, more)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


# -------------------------------------------------------------------------------------------------
# Rows on 8 devices
# -------------------------------------------------------------------------------------------------
MESHES = ("8x1x1", "2x4x1", "2x2x2")
ROWS, EXTRA = 72, 24


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    ids = np.arange(ROWS, dtype=np.int32)
    ids[[3, 40, 71]] = 3  # on three devices
    negative_ids = np.arange(1000, 1000 + EXTRA, dtype=np.int32)
    negative_ids[5] = 60
    return {
        "x": rng.normal(size=(ROWS, 8)),
        "y": rng.normal(size=(ROWS, 8)),
        "n": rng.normal(size=(EXTRA, 8)),
        "wx": rng.normal(size=(8, 16)),
        "wy": rng.normal(size=(8, 16)),
        "scale": np.array(10.0),
        "ids": ids,
        "negative_ids": negative_ids,
    }


@pytest.fixture(scope="module")
def on_devices(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("info_nce")
    np.savez(directory / "data.npz", **data)
    run_on_devices("sharded_info_nce.py", directory, *MESHES)
    return directory


@pytest.fixture(scope="module")
def plain(data):
    """The formula as it is written, on one device, in float64."""

    def loss(inputs):
        def unit(x):
            return x / jnp.linalg.norm(x, axis=1, keepdims=True)

        predicted, target = unit(inputs["x"] @ inputs["wx"]), unit(inputs["y"] @ inputs["wy"])
        logits = inputs["scale"] * predicted @ target.T
        wrong = inputs["scale"] * predicted @ unit(inputs["n"] @ inputs["wy"]).T
        ids = data["ids"]
        logits = jnp.where((ids[:, None] == ids) & ~np.eye(ROWS, dtype=bool), -jnp.inf, logits)
        wrong = jnp.where(ids[:, None] == data["negative_ids"], -jnp.inf, wrong)
        choices = jax.nn.log_softmax(jnp.concatenate([logits, wrong], axis=1), axis=1)
        back = jax.nn.log_softmax(logits, axis=0)
        return -(jnp.mean(jnp.diagonal(choices)) + jnp.mean(jnp.diagonal(back))) / 2

    with jax.enable_x64(True):
        inputs = {name: jnp.asarray(data[name]) for name in ("x", "y", "n", "wx", "wy", "scale")}
        assert all(leaf.dtype == jnp.float64 for leaf in inputs.values())
        value, gradients = jax.value_and_grad(loss)(inputs)
        return jax.device_get({"loss": value, **gradients})


def gradient_errors(found, expected):
    return {
        name: np.abs(found[name] - gradient).max() / np.abs(gradient).max()
        for name, gradient in expected.items()
        if name != "loss"
    }


@pytest.mark.parametrize("mesh", [*MESHES, *(f"{mesh}-gloo" for mesh in MESHES)])
def test_rows_on_devices_have_the_plain_formulas_gradients(on_devices, plain, mesh):
    """Of every device's rows and of parameters that are divided among them: to 1e-5."""
    found = dict(np.load(on_devices / f"{mesh}.npz"))
    assert found["loss"] == pytest.approx(float(plain["loss"]), rel=1e-6)
    errors = gradient_errors(found, plain)
    assert len(errors) == 6
    assert max(errors.values()) < 1e-5, errors


def test_gradients_that_stay_on_their_device_would_be_seen(on_devices, plain):
    found = dict(np.load(on_devices / "dropped.npz"))
    assert found["loss"] == pytest.approx(float(plain["loss"]), rel=1e-6)
    errors = gradient_errors(found, plain)
    assert min(errors[name] for name in ("x", "y", "n", "wx", "wy")) > 1e-2, errors


def test_no_device_holds_the_logits_of_all_its_rows(on_devices):
    """9 rows a device, of which 3 are compared with 72 + 24 candidates, or 4 with 72."""
    program = (on_devices / "8x1x1.txt").read_text()
    for held in ("f32[3,96]", "f32[4,72]"):
        assert held in program
    for too_much in ("f32[72,72]", "f32[9,72]", "f32[9,96]", "f32[72,96]"):
        assert too_much not in program


@pytest.mark.parametrize("mesh", MESHES)
def test_processes_on_cpus_need_no_reduce_scatter(on_devices, mesh):
    """Gloo's waits for ever now and then, or gives wrong sums."""
    assert "reduce-scatter" in (on_devices / f"{mesh}.txt").read_text()
    assert "reduce-scatter" not in (on_devices / f"{mesh}-gloo.txt").read_text()


def test_the_loss_of_a_group_is_that_of_its_rows():
    rng = np.random.default_rng(3)
    predicted, target = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 6, 4))
    )
    group = jnp.array([0, 1, 0, 2, 1, 0])
    plain, _ = losses.info_nce(predicted, target, jnp.float32(5.0))
    loss, metrics = losses.info_nce(
        *(predicted, target, jnp.float32(5.0)), group=group, group_names={0: "a", 1: "b", 2: "c"}
    )
    assert loss == plain
    logits = 5.0 * predicted @ target.T
    nll = [
        (np.log(np.exp(side).sum(1)) - np.diag(side)) for side in (logits, logits.T)
    ]  # by row, to the target and back
    for number, name in enumerate("abc"):
        rows = np.asarray(group) == number
        assert metrics[f"loss/{name}"] == pytest.approx(np.mean(nll, axis=0)[rows].mean(), rel=1e-5)

"""Cross-entropy over a vocabulary by chunks, against its formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.subprocesses import run_on_devices
from vljepa_jax import losses

ROWS, PLACES, LOOKED_UP, WIDTH, VOCABULARY = 16, 7, 3, 8, 50


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return {
        "features": rng.normal(size=(ROWS, PLACES, WIDTH)),
        "table": rng.normal(size=(VOCABULARY, WIDTH)),
        "tokens": rng.integers(0, VOCABULARY, (ROWS, PLACES, LOOKED_UP)),
        "weights": rng.normal(size=(ROWS, PLACES, LOOKED_UP)),
    }


@pytest.fixture(scope="module")
def expected(data):
    """By hand, in numpy: nll, and the gradients of their weighted sum."""
    logits = data["features"] @ data["table"].T
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    hits = np.eye(VOCABULARY)[data["tokens"]]
    nll = -np.log((hits * shares[:, :, None]).sum(axis=-1))
    of_logits = ((shares[:, :, None] - hits) * data["weights"][..., None]).sum(axis=2)
    return {
        "nll": nll,
        "likeliest": logits.argmax(axis=-1),
        "features": of_logits @ data["table"],
        "table": np.einsum("btv,btd->vd", of_logits, data["features"]),
    }


def logits_of(table, features):
    return features @ table.T


def function(data, at_once):
    def loss(features, table):
        nll, likeliest = losses.token_cross_entropy(
            *(features, logits_of, table, jnp.asarray(data["tokens"])), logits_at_once=at_once
        )
        return jnp.sum(jnp.float32(data["weights"]) * nll), (nll, likeliest)

    inputs = jnp.float32(data["features"]), jnp.float32(data["table"])
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True)).lower(*inputs), inputs


def assert_close(found, expected):
    """Nats to 1e-6 and gradients to 1e-5, of the largest."""
    np.testing.assert_array_equal(found["likeliest"], expected["likeliest"])
    for name, allowed in (("nll", 1e-6), ("features", 1e-5), ("table", 1e-5)):
        error = np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
        assert error < allowed, name


@pytest.mark.parametrize("places", [0, 1, 2, 4, 7, 100])
def test_few_places_at_a_time_change_nothing(data, expected, places):
    """One at least; chunks that leave a rest; all."""
    lowered, inputs = function(data, places * ROWS * VOCABULARY)
    (_, (nll, likeliest)), (features, table) = lowered.compile()(*inputs)
    found = {"nll": nll, "likeliest": likeliest, "features": features, "table": table}
    assert_close(found, expected)


def shapes(rows, places, *chunked):
    return [f"f32[{rows},{places},{VOCABULARY}]", f"f32[{rows * places},{VOCABULARY}]", *chunked]


def test_the_logits_of_all_places_are_never_held(data):
    """Two of seven places are, and nothing else as large; nor are those of all chunks kept."""
    program = function(data, 2 * ROWS * VOCABULARY)[0].compile().as_text()
    assert any(shape in program for shape in shapes(ROWS, 2))
    kept = f"f32[3,{ROWS},2,{VOCABULARY}]"
    for shape in (*shapes(ROWS, 7), *shapes(ROWS, 6), kept):
        assert shape not in program
    whole = function(data, 7 * ROWS * VOCABULARY)[0].compile().as_text()
    assert any(shape in whole for shape in shapes(ROWS, 7))


MESHES = ("8x1x1", "2x4x1", "2x2x2")


@pytest.fixture(scope="module")
def on_devices(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    np.savez(directory / "data.npz", **data)
    at_once = 2 * (ROWS // 8) * VOCABULARY  # two places of a device's rows on the first mesh
    run_on_devices("sharded_vocabulary.py", directory, str(at_once), *MESHES)
    return directory


@pytest.mark.parametrize("mesh", MESHES)
def test_rows_on_devices_change_nothing(on_devices, expected, mesh):
    assert_close(dict(np.load(on_devices / f"{mesh}.npz")), expected)


def test_a_device_holds_the_logits_of_its_own_rows(on_devices):
    program = (on_devices / "8x1x1.txt").read_text()
    assert any(shape in program for shape in shapes(ROWS // 8, 2))
    for rows, places in ((ROWS // 8, 7), (ROWS // 8, 6), (ROWS, 2), (ROWS, 7)):
        assert not any(shape in program for shape in shapes(rows, places)), (rows, places)


def test_the_table_is_gathered_and_its_gradient_summed_once(on_devices):
    """And not for each chunk; its halves stay where the vocabulary is divided over "tensor"."""
    program = (on_devices / "2x2x2.txt").read_text().splitlines()
    half = f"f32[{VOCABULARY // 2},{WIDTH}]"
    assert any(f"f32[{ROWS // 4},1,3]" in line and "while/body" in line for line in program)
    for collective in ("all-gather(", "all-reduce("):
        moved = [line for line in program if f" {collective}" in line and half in line]
        assert len(moved) == 1, moved
        assert "while/body" not in moved[0]

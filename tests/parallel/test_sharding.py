import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from vljepa_jax.config import ConfigError, ShardingConfig, ShardingRule
from vljepa_jax.parallel.sharding import (
    AXES,
    check_batch_size,
    left_whole,
    make_mesh,
    state_shardings,
)

MESH = AbstractMesh((2, 2, 2), AXES)
PARAMS = {
    "layers": {"up": {"kernel": jax.ShapeDtypeStruct((3, 8, 16), jnp.float32)}},
    "norm": {"scale": jax.ShapeDtypeStruct((8,), jnp.float32)},
    "temperature": jax.ShapeDtypeStruct((), jnp.float32),
}
RULES = (
    ShardingRule(pattern=r"^layers/.*kernel$", spec=(None, "fsdp", "tensor")),
    ShardingRule(pattern=r"norm|^temperature$", spec=()),
)


def specs(tree, rules=RULES, params=PARAMS):
    return jax.tree.map(lambda sharding: sharding.spec, state_shardings(tree, params, rules, MESH))


def test_rules_lay_parameters_out():
    assert specs(PARAMS) == {
        "layers": {"up": {"kernel": PartitionSpec(None, "fsdp", "tensor")}},
        "norm": {"scale": PartitionSpec()},
        "temperature": PartitionSpec(),
    }


def test_optimizer_state_follows_its_parameter():
    state = jax.eval_shape(optax.adamw(1e-3).init, PARAMS)
    laid_out = specs(state)
    for moment in ("mu", "nu"):
        assert optax.tree.get(laid_out, moment) == specs(PARAMS)
    assert laid_out[0].count == PartitionSpec()


def test_first_match_counts():
    rules = (ShardingRule(pattern="up", spec=()), *RULES)
    assert specs(PARAMS, rules)["layers"]["up"]["kernel"] == PartitionSpec()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (RULES[:1], "no rule matches 'norm/scale'"),
        ((ShardingRule(".*", (None, None, None, "fsdp")),), "4 axes for 3 dimensions"),
        ((ShardingRule("kernel", ("model",)), RULES[1]), "unknown mesh axis 'model'"),
        ((ShardingRule("kernel", (None, "fsdp", "fsdp")), RULES[1]), "divides two dimensions"),
        ((ShardingRule("(", ()),), r"rules\[0\]"),
    ],
)
def test_unfit_rules_are_named(rules, message):
    with pytest.raises(ConfigError, match=message):
        specs(PARAMS, rules)


def test_what_an_axis_does_not_divide_stays_whole_on_it():
    mesh = AbstractMesh((1, 6, 4), AXES)
    rules = (ShardingRule("kernel", (None, "fsdp", "tensor")), ShardingRule("", ("fsdp",)))
    params = {
        "up": {"kernel": jax.ShapeDtypeStruct((3, 8, 16), jnp.float32)},
        "down": {"kernel": jax.ShapeDtypeStruct((3, 12, 18), jnp.float32)},
        "norm": {"scale": jax.ShapeDtypeStruct((10,), jnp.float32)},
    }
    laid_out = state_shardings(params, params, rules, mesh)
    assert jax.tree.map(lambda sharding: sharding.spec, laid_out) == {
        "up": {"kernel": PartitionSpec(None, None, "tensor")},
        "down": {"kernel": PartitionSpec(None, "fsdp", None)},
        "norm": {"scale": PartitionSpec(None)},
    }
    numbers = (3 * 8 * 16 + 10) / 1e6, 3 * 12 * 18 / 1e6
    assert left_whole(params, rules, mesh).splitlines() == [
        f"sharding.fsdp = 6 does not divide 8, 10: {numbers[0]:.1f}M parameters lie whole on this "
        "axis; 2 divides all of its dimensions",
        f"sharding.tensor = 4 does not divide 18: {numbers[1]:.1f}M parameters lie whole on this "
        "axis; 2 divides all of its dimensions",
    ]
    assert left_whole(PARAMS, RULES, MESH) == ""


def config(data, fsdp, tensor):
    return ShardingConfig(data=data, fsdp=fsdp, tensor=tensor, rules=RULES)


def test_mesh_fills_in_the_rest():
    assert dict(make_mesh(config(1, -1, 1), jax.devices()[:1]).shape) == {
        "data": 1,
        "fsdp": 1,
        "tensor": 1,
    }


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 1, 1), "data 2 x fsdp 1 x tensor 1 does not make 1 device"),
        ((-1, 2, 1), "does not make 1 device"),
        ((-1, -1, 1), "only one axis may be -1, not data and fsdp"),
        ((0, 1, 1), "sharding.data: 0"),
    ],
)
def test_impossible_meshes_are_named(sizes, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(config(*sizes), jax.devices()[:1])


def test_batch_must_divide():
    check_batch_size(8, 0, MESH)
    check_batch_size(8, 4, MESH)
    with pytest.raises(ConfigError, match="^batch_size: 6 is not a multiple of 4 .*; set 4 or 8"):
        check_batch_size(6, 0, MESH)
    with pytest.raises(ConfigError, match="micro_batch_size: 2 is not a multiple of 4"):
        check_batch_size(8, 2, MESH)
    with pytest.raises(ConfigError, match="micro_batch_size: 8 does not divide the batch_size, 12"):
        check_batch_size(12, 8, MESH)


def test_any_number_of_devices_traces():
    """The paper's 192 with its recipe as it stands, and others with the tiny model."""
    done = subprocess.run(
        [sys.executable, "tests/programs/traced_mesh.py"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"192", "6", "7", "12", "40"}
    predictor, y_encoder = found["192"]
    assert predictor == [[8, 2048, 8192], [8, 2048, 8192]]  # 192 = 64 x 3 does not divide 2048
    assert y_encoder == [[24, 768, 1152], [24, 768 // 192, 1152]]


@dataclasses.dataclass(frozen=True)
class TPU:
    """What meshes are made by of a TPU v5e: a slice of 4 x 4 chips, four on a host."""

    slice_index: int
    coords: tuple[int, int, int]
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0

    @property
    def id(self):
        return 16 * self.slice_index + 4 * self.coords[1] + self.coords[0]

    @property
    def process_index(self):
        return self.id // 4


@pytest.fixture(scope="module")
def two_slices():
    return [TPU(n, (x, y, 0)) for n, y, x in itertools.product(range(2), range(4), range(4))]


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((2, -1, 1), (2, 16, 1)), ((-1, 4, 2), (4, 4, 2)), ((-1, 1, 1), (32, 1, 1))],
)
def test_slices_lie_along_the_data_axis(two_slices, monkeypatch, sizes, shape):
    monkeypatch.setattr("vljepa_jax.parallel.sharding.Mesh", lambda devices, axes: (devices, axes))
    devices, axes = make_mesh(ShardingConfig(*sizes, rules=()), two_slices)
    assert (devices.shape, axes) == (shape, AXES)
    assert {device.id for device in devices.flat} == set(range(32))
    slices = np.vectorize(lambda device: device.slice_index)(devices)
    half = shape[0] // 2
    assert (slices[:half] == 0).all()
    assert (slices[half:] == 1).all()


@pytest.mark.parametrize("sizes", [(1, -1, 1), (1, 8, -1)])
def test_parameters_are_not_gathered_from_slice_to_slice(two_slices, sizes):
    with pytest.raises(ConfigError, match=r"sharding.data=2 and sharding.fsdp=-1"):
        make_mesh(ShardingConfig(*sizes, rules=()), two_slices)

"""The search for what fits, with a made-up device and plans that are worked out by hand."""

import dataclasses
import math
from types import SimpleNamespace

import pytest

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.parallel.chips import Chip
from vljepa_jax.planning import sweep as module
from vljepa_jax.planning.plan import Memory, Plan
from vljepa_jax.planning.sweep import advice, next_pieces, sweep

CHIP = Chip("made up", memory=100.0, flops=1.0, bandwidth=1.0, network=1.0)


def made_plan(
    mesh, *, state=10.0, temporaries=0.0, batch_size=48, micro_batch_size=0, fits=None
) -> Plan:
    memory = Memory(state, 0.0, 0.0, 0.0, temporaries, 0.0)
    return Plan(
        mesh=dict(zip(("data", "fsdp", "tensor"), mesh, strict=True)),
        devices=math.prod(mesh),
        chip=CHIP,
        memory=memory,
        fits=memory.total <= CHIP.memory if fits is None else fits,
        flops=1.0,
        model_flops=1.0,
        bytes=1.0,
        sent={},
        sent_between_hosts={},
        fused={},
        hosts=1,
        checkpoint=1.0,
        frames=8,
        roofline=None,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        steps=1,
    )


def test_the_next_micro_batch_is_what_the_temporaries_leave_room_for():
    # 12 rows a device. 10 + 200 do not fit; of 95, 85 are left for temporaries: 200 / 3 fits.
    assert next_pieces(made_plan((1, 4, 1), temporaries=200.0)) == 3
    # Taken in 3 it asks for 200 again: 200 * 3 / 85 is more than 7, and 12 rows divide by 12.
    assert next_pieces(made_plan((1, 4, 1), temporaries=200.0, micro_batch_size=16)) == 12
    # 5 devices' worth of rows cannot be divided by what 12 is not a multiple of: 4, 6, 12.
    assert next_pieces(made_plan((1, 4, 1), temporaries=400.0)) == 6


def test_one_row_a_device_is_the_end():
    assert next_pieces(made_plan((1, 4, 1), temporaries=1e9, micro_batch_size=4)) == 0
    assert next_pieces(made_plan((1, 4, 1), temporaries=1e9)) == 12


def test_without_a_word_of_the_compiler_the_next_is_tried():
    unknown = made_plan((1, 4, 1), temporaries=math.inf)
    assert next_pieces(unknown) == 2


class Devices:
    """What plans would be, by the mesh and the rows a device holds at a time."""

    def __init__(self, monkeypatch, row, state=64.0, tensor_helps=False):
        self.row, self.state, self.tensor_helps = row, state, tensor_helps
        self.asked = []
        monkeypatch.setattr(module, "_possible", self.possible)

    def sizes(self, config):
        sharding = config.sharding
        return 4 // (sharding.fsdp * sharding.tensor), sharding.fsdp, sharding.tensor

    def possible(self, config, devices):
        _, fsdp, tensor = self.sizes(config)
        return self.state / (fsdp * tensor) < CHIP.memory

    def plan(self, config, devices):
        data, fsdp, tensor = mesh = self.sizes(config)
        self.asked.append((mesh, config.micro_batch_size))
        held = (config.micro_batch_size or config.batch_size) // (data * fsdp)
        row = self.row / (tensor if self.tensor_helps else 1)
        return made_plan(
            mesh,
            state=self.state / (fsdp * tensor),
            temporaries=held * row,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
        )


def run(devices, **fields):
    config = dataclasses.replace(tiny_train_config(), batch_size=48, **fields)
    found = list(sweep(config, [SimpleNamespace(device_kind="made up")] * 4, devices.plan))
    return [(plan.micro_batch_size, plan.fits) for plan in found]


def test_all_rows_are_tried_first_and_meshes_start_where_the_last_one_fitted(monkeypatch):
    devices = Devices(monkeypatch, row=10.0)
    # fsdp 4: 12 rows of 10 and 16 of state are 136; in 2 they are 76.
    # fsdp 1: 60 + 64 do not fit, 31 are left of 95, and so in 4: 30 + 64.
    assert run(devices) == [(0, False), (24, True), (24, False), (12, True)]
    assert [mesh for mesh, _ in devices.asked] == [(1, 4, 1)] * 2 + [(4, 1, 1)] * 2


def test_what_fits_at_once_is_not_cut(monkeypatch):
    assert run(Devices(monkeypatch, row=1.0)) == [(0, True)] * 2


def test_tensor_is_divided_where_nothing_else_fits(monkeypatch):
    devices = Devices(monkeypatch, row=150.0, tensor_helps=True)
    run(devices)
    tried = [mesh for mesh, _ in devices.asked]
    assert (1, 2, 2) in tried  # one row of 150 is halved, beside a state of 16
    assert {tensor for _, _, tensor in tried} == {1, 2}  # and no more than is needed


def test_a_tensor_that_is_asked_for_stays(monkeypatch):
    devices = Devices(monkeypatch, row=1.0)
    sharding = dataclasses.replace(tiny_train_config().sharding, tensor=2)
    run(devices, sharding=sharding)
    assert {tensor for (_, _, tensor), _ in devices.asked} == {2}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (made_plan((1, 4, 1), temporaries=50.0), None),
        (made_plan((1, 4, 1), temporaries=200.0), "--config.micro_batch_size=16"),
        (made_plan((4, 1, 1), state=90.0, temporaries=20.0), "--config.sharding.fsdp=-1"),
        (made_plan((1, 4, 1), temporaries=999.0, micro_batch_size=4), "more devices"),
        (made_plan((1, 4, 1), temporaries=math.inf, fits=False), "--config.micro_batch_size=24"),
    ],
)
def test_what_to_change_is_said(plan, words):
    said = advice(plan)
    assert said is None if words is None else words in said

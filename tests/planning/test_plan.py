import dataclasses
import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from vljepa_jax.parallel.chips import GPUS, TOPOLOGIES, TPUS, TopologyError, topology_devices
from vljepa_jax.planning.plan import Memory, PlanError, Roofline, _network_seconds

ROOT = Path(__file__).parents[2]


def planned(path, *names):
    command = [sys.executable, "tests/programs/planned_step.py", str(path), *names]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("plan") / "steps.json", "one", "one, unrolled")


def test_flops_are_those_of_the_unrolled_compile(steps):
    assert steps["one"]["counted"] == pytest.approx(steps["one"]["xla"], rel=0.02)


def test_scanned_and_unrolled_plans_agree(steps):
    for name in ("counted", "model", "bytes"):
        assert steps["one, unrolled"][name] == pytest.approx(steps["one"][name], rel=0.02)


def test_the_state_and_the_batch_are_the_compilers_arguments(steps):
    """Summed from shapes and shardings here, by the compiler there."""
    assert steps["one"]["arguments"] == pytest.approx(steps["one"]["xla_arguments"], rel=0.01)


@pytest.mark.slow
def test_recomputation_and_sharding(steps, tmp_path):
    found = planned(tmp_path / "steps.json", "one, remat", "four")
    for step in found.values():
        assert step["counted"] == pytest.approx(step["xla"], rel=0.02)
    # Recomputation costs, but is not the model's.
    assert found["one, remat"]["counted"] > 1.1 * steps["one"]["counted"]
    assert found["one, remat"]["model"] == pytest.approx(steps["one"]["model"], rel=1e-6)
    assert found["four"]["arguments"] == pytest.approx(found["four"]["xla_arguments"], rel=0.01)
    # At least the gradients of what is copied along data, and the gathered parameters.
    assert not steps["one"]["sent"]
    assert sum(found["four"]["sent"].values()) > 0


def test_a_processor_has_no_roofline(steps):
    assert steps["one"]["roofline"] is None
    assert steps["one"]["fits"] is None


def test_faster_than_the_chip_is_an_error():
    with pytest.raises(PlanError, match="1.20 of the chip's peak"):
        Roofline(compute=1.0, memory=0.0, network=0.0, parts={}, share=1.2)


def test_the_longer_of_work_and_network_counts():
    line = Roofline(compute=1.0, memory=0.5, network=2.0, parts={}, share=0.4)
    assert (line.seconds, line.limit) == (2.0, "network")
    line = dataclasses.replace(line, network=1.0)
    assert (line.seconds, line.limit) == (1.5, "compute")


def test_memory_adds_up():
    assert Memory(1, 2, 3, 4, 5, 6).total == 21


@pytest.mark.parametrize(
    "name",
    ["v5e", "v3:2x2", "v5e:two", "cpu", "gpu:8", "h100", "h100:0", "h100:2x2x2"]
    + ["cpu:0", "cpu:³", "v5e:²"],
)
def test_unknown_topologies_are_named(name):
    with pytest.raises(TopologyError, match=name):
        topology_devices(name)


def launch(*arguments):
    command = [sys.executable, "launch/plan.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_lists_topologies():
    answer = launch("--topology=list")
    assert answer.returncode == 0, answer.stderr
    assert set(TOPOLOGIES) < set(answer.stdout.split())


def test_the_command_asks_for_what_it_needs():
    assert "--config must name a recipe" in launch("--topology=cpu:2").stderr
    unknown = launch("--config=configs/demo.py", "--topology=v9:2x2")
    assert unknown.stderr.splitlines()[-1].startswith("error: no topology 'v9:2x2'")
    assert "Traceback" not in unknown.stderr


def test_tpus_compile_where_libtpu_is_installed():
    pytest.importorskip("libtpu", reason="requirements-tpu.txt")
    devices = topology_devices("v5e:2x2")
    assert [device.device_kind for device in devices] == [TPUS["v5e"].kind] * 4
    # Two processes may plan at once: libtpu's lock is of TPUs, and none is taken.
    program = (
        "from vljepa_jax.parallel.chips import topology_devices; "
        "print(len(topology_devices('v5e:2x2')))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert other.stdout.strip() == "4", other.stderr[-2000:]
    # Of a TPU7x chip JAX sees two devices, which the table halves.
    assert len(topology_devices("tpu7x:2x2x1")) == 4 / TPUS["tpu7x"].chips


def test_the_command_starts_anew_with_stacks_of_any_depth():
    """Once, where the system allows it: threads of libtpu have those of the process's start."""
    program = """
import os, resource, runpy, sys
soft, hard = (int(limit) for limit in sys.argv[1:])
limits = []
resource.getrlimit = lambda which: (soft, hard)
resource.setrlimit = lambda which, pair: limits.append(pair)
os.execv = lambda *command: sys.exit(f"{limits} {command[1][1:] == sys.orig_argv[1:]}")
sys.argv = ["launch/plan.py", "--topology=list"]
runpy.run_path("launch/plan.py", run_name="__main__")
"""
    any_depth, usual = resource.RLIM_INFINITY, 8 << 20

    def started(soft, hard):
        command = [sys.executable, "-c", program, str(soft), str(hard)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert started(usual, any_depth).stderr.endswith(f"[({any_depth}, {any_depth})] True\n")
    for soft, hard in ((any_depth, any_depth), (usual, usual)):  # done already; not allowed
        answer = started(soft, hard)
        assert answer.returncode == 0, answer.stderr
        assert "v5e" in answer.stdout


def test_what_a_gpus_compiler_needs_is_named():
    if importlib.util.find_spec("jax_plugins") is not None:
        pytest.skip("a plugin is installed")
    answer = launch("--config=configs/demo.py", "--topology=h100:8")
    assert answer.stderr.splitlines()[-1].endswith("pip install -r requirements-gpu-plan.txt")
    assert "Traceback" not in answer.stderr


def test_the_network_takes_the_slower_of_both_ways():
    chip = GPUS["h100"]
    assert _network_seconds(chip, sent=450e9, between=0.0) == 1.0
    assert _network_seconds(chip, sent=450e9, between=100e9) == 2.0
    assert _network_seconds(TPUS["v5p"], sent=600e9, between=0.0) == 1.0


def test_gpus_compile_where_their_plugin_is_installed():
    """Two hosts of two GPUs: which attentions are fused, and what travels between the hosts."""
    pytest.importorskip("jax_plugins.xla_cuda12", reason="requirements-gpu-plan.txt")
    found = {}
    for hosts in ("1x4", "2x2"):
        answer = launch(
            *("--config=configs/vljepa_1b.py:image", f"--topology=h200:{hosts}", "--json"),
            *("--config.batch_size=16", "--config.sharding.data=2", "--config.sharding.fsdp=2"),
            *(f"--config.model.{part}.num_layers=1" for part in ("x_encoder", "predictor")),
            "--config.model.y_encoder.num_layers=1",
        )
        assert answer.returncode == 0, answer.stderr[-3000:]
        found[hosts] = json.loads(answer.stdout)
    one, two = found.values()
    assert (one["hosts"], two["hosts"]) == (1, 2)
    both = ["backward", "forward"]
    for plan in (one, two):
        assert plan["fits"]
        assert plan["chip"]["kind"] == "NVIDIA H200"
        assert plan["fused"] == {
            "128x128x256": both,
            "256x256x64": ["forward"],
            "272x272x64": both,
        }
    assert one["sent_between_hosts"] == {}
    # Gradients are summed over data, each half of them between the same places of both hosts.
    gradients = one["memory"]["trained"]
    assert 0.5 * gradients < sum(two["sent_between_hosts"].values()) < 2.5 * gradients
    assert sum(two["sent"].values()) > 2 * sum(two["sent_between_hosts"].values())

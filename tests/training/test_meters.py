import types

import jax
import pytest

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.parallel.chips import TPUS
from vljepa_jax.training import meters
from vljepa_jax.training.flops import model_flops


def device(kind="TPU v5 lite", most=3 * 2**30, process_index=0):
    stats = {"peak_bytes_in_use": most} if most else None
    return types.SimpleNamespace(
        device_kind=kind, process_index=process_index, memory_stats=lambda: stats
    )


def test_utilisation_is_the_models_arithmetic_over_the_peak():
    config = tiny_train_config()
    meter = meters.Meter(config, [device(), device(most=5 * 2**30), device(process_index=1)])
    found = meter.measure(steps=10, seconds=2.0)
    peak = 3 * TPUS["v5e"].flops
    assert found["mfu"] == pytest.approx(10 * model_flops(config) / 2.0 / peak)
    assert found["memory/device_gib"] == 5.0  # of this process's devices, the fullest


def test_a_processor_tells_its_own_memory_alone():
    found = meters.Meter(tiny_train_config(), jax.devices()).measure(1, 1.0)
    assert set(found) == {"memory/host_gib"}
    assert 0.05 < found["memory/host_gib"] < 1000


def test_ranges_of_steps():
    assert meters.parse_steps("") is None
    assert meters.parse_steps("100-105") == (100, 105)
    for wrong in ("100", "5-4", "0-3", "a-b"):
        with pytest.raises(ConfigError, match=wrong):
            meters.parse_steps(wrong)


def test_a_profile_holds_the_chosen_steps(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append(("start", path)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    with meters.Profile(tmp_path, (2, 3)) as profile:
        for step in range(1, 6):
            profile.before(step)
            calls.append(step)
            profile.after(step, lambda: calls.append("waited"))
    start = ("start", str(tmp_path / "profile"))
    assert calls == [1, start, 2, 3, "waited", "stop", 4, 5]


def test_a_run_that_ends_within_the_range_still_writes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    with meters.Profile(tmp_path, (1, 9)) as profile:
        profile.before(1)
    assert calls == ["start", "stop"]

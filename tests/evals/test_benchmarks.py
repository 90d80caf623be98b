import pytest

from vljepa_jax.config import BenchmarkConfig, ChooseConfig, ConfigError, RetrieveConfig
from vljepa_jax.evals.benchmarks import select_benchmarks


def test_benchmarks_are_selected_by_their_own_or_a_metrics_name():
    benchmarks = [
        BenchmarkConfig(name, suffix, protocol, "d", "test", {}, None, 0)
        for suffix in ("", "_unseen")
        for name, protocol in (("w/motion", ChooseConfig()), ("w/t2v", RetrieveConfig()))
    ]
    motion, t2v, motion_unseen, t2v_unseen = benchmarks
    assert select_benchmarks(benchmarks, ["w/t2v", "w/motion"]) == (motion, t2v)
    assert select_benchmarks(benchmarks, ["w/t2v_unseen"]) == (t2v_unseen,)
    assert select_benchmarks(benchmarks, ["w/t2v_r5_unseen", "w/t2v_r1_unseen"]) == (t2v_unseen,)
    assert select_benchmarks(benchmarks, ["w/motion_top1_unseen"]) == (motion_unseen,)
    with pytest.raises(ConfigError, match="unknown benchmark 'w/motoin' .did you mean 'w/motion'"):
        select_benchmarks(benchmarks, ["w/motoin"])
    assert select_benchmarks(benchmarks, []) == tuple(benchmarks)

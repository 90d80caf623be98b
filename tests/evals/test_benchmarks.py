import dataclasses

import pytest

from vljepa_jax.config import BenchmarkConfig, ChooseConfig, ConfigError, RetrieveConfig
from vljepa_jax.evals.benchmarks import missing_examples, select_benchmarks
from vljepa_jax.evals.page import above_chance, partial


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


def test_what_is_missing_is_counted_in_examples():
    """Where nobody says how many there should be, it is those of the dataset, here 3."""
    whole = BenchmarkConfig("t2v", "", RetrieveConfig(), "d", "test", {}, None, 0)
    found = [
        missing_examples(dataclasses.replace(whole, expected=expected), 2, 3)
        for expected in (0, 1, 2, 1_000)
    ]
    assert found == [1, -1, 0, 998]
    told = [
        partial({"expected": expected, "missing": missing})
        for expected, missing in zip((3, 1, 2, 1_000), found, strict=True)
    ]
    assert told == [
        "partial: 2 of 3 examples",
        "other than published: 2 examples, not 1",
        "",
        "partial: 2 of 1,000 examples",
    ]
    assert partial({}) == ""  # of reports of before


def test_which_side_of_chance_is_the_better_one():
    sides = [{"value": 1.5, "interval": (1, 2), "chance": chance} for chance in (0.5, 3)]
    assert [above_chance(metric) for metric in sides] == [True, False]
    for better, verdicts in {"lower": [False, True], "neither": [False, False]}.items():
        assert [above_chance(metric | {"better": better}) for metric in sides] == verdicts

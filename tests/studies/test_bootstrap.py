"""The paired bootstrap, against scipy's and cases worked out by hand."""

import numpy as np
import pytest
import scipy.stats

from vljepa_jax.studies.bootstrap import ExampleScores, estimate, resampled, value_of
from vljepa_jax.studies.comparison import ratio_of, samples_to_reach


def scores(*values, split="test", records=None):
    records = np.arange(len(values)) if records is None else np.array(records)
    return ExampleScores(split, records, np.array(values, float))


def test_a_figure_is_the_mean_over_metrics_and_seeds():
    figure = [[scores(1, 0), scores(1, 1)], [scores(0, 0, 1), scores(0, 0, 0)]]
    assert value_of(figure) == pytest.approx(np.mean([0.5, 1.0, 1 / 3, 0.0]))


def test_of_one_seed_and_metric_it_is_the_plain_bootstrap():
    """Both ends within 0.02 of scipy's percentile bootstrap, of 200 values between 0 and 1."""
    values = np.random.default_rng(3).uniform(size=200)
    (drawn,) = resampled({"": [[scores(*values)]]}).values()
    reference = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert estimate(0.0, drawn)["interval"] == pytest.approx(list(reference), abs=0.02)


def test_what_two_models_have_in_common_cancels():
    """One model is better by 0.1 on every clip, however hard: the difference is certain."""
    values = np.random.default_rng(3).uniform(size=50)
    drawn = resampled({"one": [[scores(*values)]], "other": [[scores(*(values - 0.1))]]})
    np.testing.assert_allclose(drawn["one"] - drawn["other"], 0.1, atol=1e-12)
    assert np.std(drawn["one"]) > 0.01


def test_examples_of_a_clip_stay_together():
    """Forty examples of one clip and one of another: half of the clips, and no more, are sure."""
    figure = [[scores(*([1.0] * 40), 0.0, records=[7] * 40 + [9])]]
    (drawn,) = resampled({"": figure}).values()
    assert set(np.round(np.unique(drawn), 6)) == {0.0, round(40 / 41, 6), 1.0}
    assert np.mean(drawn == 0.0) == pytest.approx(0.25, abs=0.03)  # the other clip twice


def test_seeds_are_drawn_too():
    """Two seeds, one always right and one always wrong: a quarter of the draws has each twice."""
    (drawn,) = resampled({"": [[scores(1, 1), scores(0, 0)]]}).values()
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / len(drawn) == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def test_splits_are_drawn_apart():
    """Clips of two splits with the same numbers are different clips."""
    figure = [[scores(0, 1)], [scores(0, 1, split="other")]]
    (drawn,) = resampled({"": figure}).values()
    assert set(np.unique(drawn)) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_models_of_other_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match=r"\[1, 2\] seeds"):
        resampled({"one": [[scores(1)]], "other": [[scores(1), scores(0)]]})


def test_a_level_that_is_never_reached_is_no_number():
    found = estimate(None, np.array([1.0] * 50 + [np.inf] * 50), "why")
    assert found == {"value": None, "interval": [1.0, None], "reason": "why"}


@pytest.mark.parametrize(
    ("level", "samples"),
    [(5, 100), (10, 100), (20, 200), (15, 100 * 2**0.5), (30, 400), (31, float("inf"))],
)
def test_samples_to_a_level_are_log_linear(level, samples):
    assert samples_to_reach([100, 200, 400], [10, 20, 30], level) == pytest.approx(samples)


def test_a_ratio_to_nothing_is_unknown():
    """Of 100 resamples of the divisor three are 0: the upper end of the ratio is anything."""
    ours, theirs = np.full(100, 2.0), np.array([0.0] * 3 + [1.0] * 97)
    assert ratio_of(2.0, 0.97, ours, theirs)["value"] is None
    assert "cannot be told from 0" in ratio_of(2.0, 0.0, ours, ours)["reason"]
    theirs[:2] = 1.0
    assert ratio_of(2.0, 0.99, ours, theirs)["interval"] == [2.0, 2.0]

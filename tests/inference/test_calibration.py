"""The calibration: what is unlike training is told from what is like it, and is a match or none."""

import numpy as np
import pytest
from sklearn.covariance import OAS

from vljepa_jax.inference.calibration import (
    CalibrationError,
    calibrate,
    read_calibration,
    shrunk_covariance,
)

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(6, 24)).astype(np.float32)


def clips(n, seed):
    """Mean tokens on a few directions of many, as those of one kind of footage lie."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)) @ MIX + 0.1 * rng.normal(size=(n, 24))


def made():
    return calibrate("abc", clips(600, 1), {"": np.linspace(0, 1, 101)})


@pytest.mark.parametrize("n", [12, 40, 400])
def test_the_covariance_is_shrunk_as_scikit_learn_does(n):
    rows = clips(n, n)
    np.testing.assert_allclose(shrunk_covariance(rows), OAS().fit(rows).covariance_, rtol=1e-5)


def test_one_in_twenty_of_its_own_kind_is_refused_and_most_of_another():
    calibration = made()
    own = calibration.novelty(clips(4_000, 2)) > 1
    assert 0.02 < own.mean() < 0.09  # 5 %, measured on 200 held-out clips
    elsewhere = clips(500, 3) + 2.0 * RNG.normal(size=(500, 24))
    assert (calibration.novelty(elsewhere) > 1).mean() > 0.95
    # The distance in units of the quantile: twice as far from the centre is twice as new.
    row = clips(1, 4)
    twice = calibration.centre + 2 * (row - calibration.centre)
    np.testing.assert_allclose(calibration.novelty(twice), 2 * calibration.novelty(row))


def test_a_match_is_near_enough_and_of_what_is_known():
    calibration = made()
    assert calibration.floors[""] == pytest.approx(0.05)
    assert calibration.is_match("", 0.06, 0.9)
    assert not calibration.is_match("", 0.04, 0.9)
    assert not calibration.is_match("", 0.06, 1.1)
    assert calibration.is_match("", 0.06, None)
    assert calibration.is_match("another query", -0.5, 0.9)


def test_it_is_read_as_it_was_written_and_damage_is_one_clear_error(tmp_path):
    path = tmp_path / "calibration.npz"
    assert read_calibration(path) is None
    made().save(path)
    read = read_calibration(path)
    assert (read.fingerprint, read.clips, read.floors) == ("abc", 600, {"": pytest.approx(0.05)})
    np.testing.assert_array_equal(read.novelty(clips(5, 5)), made().novelty(clips(5, 5)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CalibrationError, match="launch/calibrate.py makes it anew"):
        read_calibration(path)
    with pytest.raises(CalibrationError, match="10 clips can be read"):
        calibrate("abc", clips(10, 6), {})


def test_clips_that_are_all_the_same_cannot_calibrate():
    with pytest.raises(CalibrationError, match="all the same"):
        calibrate("abc", np.zeros((30, 4)) + np.arange(4), {})

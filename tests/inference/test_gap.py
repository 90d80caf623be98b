"""The gap of predictions whose noise is known."""

import numpy as np
import pytest

from vljepa_jax.inference.gap import measure_gap


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def captions(n=200, size=64):
    rng = np.random.default_rng(3)
    meaning = rng.standard_normal((n, size))
    return [unit(meaning + 0.3 * rng.standard_normal((n, size))) for _ in range(2)], rng


@pytest.mark.parametrize("level", [1.5, 3.0])
def test_isotropic_noise_is_found_again(level):
    """By both rules, within a step of the table."""
    (caption, other), rng = captions()
    noise = level * rng.standard_normal(caption.shape) / caption.shape[1] ** 0.5
    gap = measure_gap(unit(caption + noise), caption, other)
    assert gap.n == 200
    assert gap.cosine == pytest.approx((1 + level**2) ** -0.5, abs=0.02)
    assert gap.same_cosine == pytest.approx(level, abs=0.25)
    if gap.recall < 0.99:  # below that noise all are recognised, and recall tells nothing
        assert gap.same_recall == pytest.approx(level, abs=0.35)


def test_a_constant_shift_lowers_the_cosine_and_hides_nothing():
    """Out of the captions' space: half of the cosine is gone, and no text is harder to find."""
    (caption, other), _ = captions()
    caption, other = (np.pad(x, [(0, 0), (0, 1)]) for x in (caption, other))
    gap = measure_gap(unit(caption + 2 * np.eye(65)[-1:]), caption, other)
    assert gap.cosine == pytest.approx(5**-0.5)
    assert gap.recall == 1
    assert gap.same_cosine == pytest.approx(2, abs=0.1)
    assert gap.same_recall < 0.75 * gap.same_cosine


def test_one_clip_is_no_measurement():
    with pytest.raises(ValueError, match="two clips"):
        measure_gap(*(np.ones((1, 4)),) * 3)

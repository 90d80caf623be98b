"""Multi-block masks: by hand on small grids, and their statistics on V-JEPA 2's."""

import numpy as np
import pytest

from vljepa_jax.config import ConfigError, MaskConfig
from vljepa_jax.data.masks import draw_frame_mask, draw_mask, masked_patches, token_counts

SMALL_BLOCKS = MaskConfig(block_scale=(0.15, 0.15), aspect_ratio=(0.75, 1.5), masked=0.76)
LARGE_BLOCKS = MaskConfig(block_scale=(0.7, 0.7), aspect_ratio=(0.75, 1.5), masked=0.95)


class Scripted:
    """A generator whose draws are written down."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def _next(self, *_):
        return self.draws.pop(0)

    uniform = integers = choice = _next


def test_blocks_by_hand():
    """On 4 x 4 patches, 7 masked: two blocks of 2 x 2 that share a patch leave none to want."""
    config = MaskConfig((0.25, 0.25), (1.0, 1.0), masked=7 / 16)
    scripted = Scripted(0.25, 1.0, 0, 0, 1, 1)  # scale, aspect ratio; (top, left) of each block
    mask = draw_frame_mask(config, (1, 4, 4), scripted)
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert not scripted.draws


@pytest.mark.parametrize(
    ("axis", "sign", "last"),
    [
        (0, 1, [[1, 1], [0, 0]]),  # from the top
        (0, -1, [[0, 0], [1, 1]]),  # from the bottom
        (1, 1, [[1, 0], [1, 0]]),  # from the left
        (1, -1, [[0, 1], [0, 1]]),  # from the right
    ],
)
def test_the_last_block_is_cut(axis, sign, last):
    config = MaskConfig((0.25, 0.25), (1.0, 1.0), masked=6 / 16)
    scripted = Scripted(0.25, 1.0, 0, 0, 2, 2, axis, (sign, -1))
    mask = draw_frame_mask(config, (1, 4, 4), scripted)
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    expected[2:, 2:] = last
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("signs", "last"),
    [
        ((1, 1), [[1, 1], [1, 0]]),
        ((1, -1), [[1, 1], [0, 1]]),
        ((-1, 1), [[1, 0], [1, 1]]),
        ((-1, -1), [[0, 1], [1, 1]]),
    ],
)
def test_a_row_that_is_cut_itself_starts_at_either_end(signs, last):
    config = MaskConfig((0.25, 0.25), (1.0, 1.0), masked=7 / 16)
    mask = draw_frame_mask(config, (1, 4, 4), Scripted(0.25, 1.0, 0, 0, 2, 2, 0, signs))
    np.testing.assert_array_equal(mask[2:, 2:], last)


def test_blocks_have_the_area_and_the_shape_asked_for():
    """0.25 of 64 patches with height / width 4 is 8 x 2; nothing reaches out of the grid."""
    config = MaskConfig((0.25, 0.25), (4.0, 4.0), masked=0.25)
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = draw_frame_mask(config, (1, 8, 8), rng)
        rows, columns = np.nonzero(mask)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (8, 2)
    tall = MaskConfig((0.5, 0.5), (16.0, 16.0), masked=0.25)
    assert draw_frame_mask(tall, (1, 8, 8), rng).sum(0).tolist().count(8) == 2


@pytest.mark.parametrize("config", [SMALL_BLOCKS, LARGE_BLOCKS])
def test_counts_are_fixed_and_tokens_are_kept_or_predicted(config):
    grid = (3, 6, 5)
    masked = round(config.masked * 30)
    assert masked_patches(config, grid) == masked
    assert token_counts(config, grid) == (3 * (30 - masked), 3 * masked)
    rng = np.random.default_rng(0)
    for _ in range(100):
        kept, predicted = draw_mask(config, grid, rng)
        assert (len(kept), len(predicted)) == token_counts(config, grid)
        assert kept.dtype == predicted.dtype == np.int32
        np.testing.assert_array_equal(np.sort(np.concatenate([kept, predicted])), np.arange(90))
        np.testing.assert_array_equal(np.sort(kept), kept)
        np.testing.assert_array_equal(np.sort(predicted), predicted)
        frames = np.isin(np.arange(90), predicted).reshape(3, 30)
        assert (frames == frames[0]).all()  # the same patches at all times


def test_something_is_always_kept_and_predicted():
    for share in (0.001, 0.999):
        config = MaskConfig((0.5, 0.5), (1.0, 1.0), masked=share)
        assert min(token_counts(config, (2, 3, 3))) == 2
    with pytest.raises(ConfigError, match="a grid of 1 x 1 patches cannot be masked"):
        token_counts(SMALL_BLOCKS, (4, 1, 1))


@pytest.mark.parametrize("config", [SMALL_BLOCKS, LARGE_BLOCKS])
def test_masks_are_symmetric(config):
    """No side is masked more often: upstream's cut of the lists drops the last tokens."""
    rng = np.random.default_rng(0)
    share = np.mean([draw_frame_mask(config, (1, 8, 8), rng) for _ in range(3000)], axis=0)
    np.testing.assert_allclose(share.mean(), masked_patches(config, (1, 8, 8)) / 64)
    for mirrored in (share[::-1], share[:, ::-1]):
        np.testing.assert_allclose(share, mirrored, atol=0.05)  # 3 sigma of a proportion is 0.03


def test_masks_are_connected_more_than_scattered_ones():
    """Of two neighbours, both are masked or both are not far more often than by chance."""
    rng = np.random.default_rng(0)
    masks = [draw_frame_mask(SMALL_BLOCKS, (1, 16, 16), rng) for _ in range(100)]
    same = np.mean([(mask[1:] == mask[:-1]).mean() for mask in masks])
    assert same > 0.85  # 0.76 ** 2 + 0.24 ** 2 = 0.64 by chance

"""Multi-block masks of V-JEPA 2's pretraining: what the encoder sees and what is to be predicted.

As facebookresearch/vjepa2's src/masks/multiseq_multiblock3d.py with temporal_scale 1: blocks of
patches, the same in all frames; the encoder sees the tokens outside their union and the predictor
predicts those inside. Upstream draws a fixed number of blocks, whose union has a random size, and
cuts the token lists of a batch to its shortest. Here the size of the union is fixed and the number
of blocks is what it takes: shapes are then the same in every step, no row depends on the others of
its batch, and no token is left both unseen and unpredicted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from vljepa_jax.config import ConfigError, Grid, MaskConfig


def masked_patches(config: MaskConfig, grid: Grid) -> int:
    """Patches of a frame that are masked; at least one is masked and one is not.

    Raises:
        ConfigError: the grid has a single patch.
    """
    patches = grid[1] * grid[2]
    if patches < 2:
        raise ConfigError(f"model.masks: a grid of {grid[1]} x {grid[2]} patches cannot be masked")
    return min(max(round(config.masked * patches), 1), patches - 1)


def token_counts(config: MaskConfig, grid: Grid) -> tuple[int, int]:
    """How many tokens are kept and predicted; their sum is the whole grid."""
    masked = masked_patches(config, grid)
    return grid[0] * (grid[1] * grid[2] - masked), grid[0] * masked


def draw_mask(
    config: MaskConfig, grid: Grid, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " p"]]:
    """Draws a mask.

    Returns:
        Indices of the kept and of the predicted tokens, int32, ascending, in the token order of
        ``models.vjepa2``: rows and columns of the earliest tubelet first.
    """
    frame = draw_frame_mask(config, grid, rng).reshape(-1)
    masked = np.tile(frame, grid[0])
    return tuple(np.flatnonzero(which).astype(np.int32) for which in (~masked, masked))


def draw_frame_mask(
    config: MaskConfig, grid: Grid, rng: np.random.Generator
) -> Bool[np.ndarray, "rows columns"]:
    """True where a patch is masked, at ``masked_patches`` places.

    All blocks of a mask have one size, whose area and aspect ratio are drawn. The last block is
    cut, from a corner and along a side that are drawn, to what is still wanted.
    """
    _, rows, columns = grid
    left = masked_patches(config, grid)
    area = int(rows * columns * rng.uniform(*config.block_scale))
    aspect = rng.uniform(*config.aspect_ratio)
    height = min(max(round((area * aspect) ** 0.5), 1), rows)
    width = min(max(round((area / aspect) ** 0.5), 1), columns)
    mask = np.zeros((rows, columns), bool)
    while left:
        top, first = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        block = np.zeros_like(mask)
        block[top : top + height, first : first + width] = True
        new = np.argwhere(block & ~mask)
        if len(new) > left:
            axis, signs = rng.integers(2), rng.choice((-1, 1), 2)
            along, across = signs[0] * new[:, axis], signs[1] * new[:, 1 - axis]
            new = new[np.lexsort((across, along))[:left]]
        mask[tuple(new.T)] = True
        left -= len(new)
    return mask

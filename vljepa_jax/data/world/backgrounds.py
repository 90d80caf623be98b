"""Backgrounds: soft, varied and without anything that looks like an object."""

import numpy as np
from PIL import Image


def draw_background(seed: int, size: int) -> np.ndarray:
    """Draws a background, uint8 [size, size, 3], from its own seed."""
    rng = np.random.default_rng(seed)
    first, second = _draw_colours(rng)
    # A field in [0, 1] mixes the two colours.
    field = _FIELDS[rng.integers(len(_FIELDS))](rng, size)
    image = first + (second - first) * field[..., None].astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _draw_colours(rng: np.random.Generator) -> np.ndarray:
    """Two muted colours [2, 3] of related lightness, so that objects stand out."""
    lightness = rng.uniform(0.25, 0.9)
    colours = []
    for _ in range(2):
        hue, saturation = rng.random(), rng.uniform(0.05, 0.45)
        value = np.clip(lightness + rng.uniform(-0.12, 0.12), 0.15, 1)
        wheel = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1  # HSV to RGB
        colours.append(255 * value * (1 - saturation + saturation * np.clip(wheel, 0, 1)))
    return np.array(colours, np.float32)


def _plane(rng: np.random.Generator, size: int) -> np.ndarray:
    """A coordinate along a random direction, [size, size], about -0.7 to 0.7."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.clip(_plane(rng, size) + 0.5, 0, 1)


def _glow(rng: np.random.Generator, size: int) -> np.ndarray:
    axis = np.linspace(0, 1, size, dtype=np.float32)
    x, y = rng.uniform(0.1, 0.9, 2)
    return np.clip(1 - 1.3 * np.hypot(axis[None, :] - x, axis[:, None] - y), 0, 1)


def _smooth_step(wave: np.ndarray, softness: float) -> np.ndarray:
    return np.clip(wave / softness + 0.5, 0, 1)


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    wave = np.sin(2 * np.pi * (_plane(rng, size) * rng.uniform(3, 9) + rng.random()))
    return _smooth_step(wave, rng.uniform(0.3, 2.0))


def _checker(rng: np.random.Generator, size: int) -> np.ndarray:
    angle, count = rng.uniform(0, np.pi / 2), rng.uniform(2, 5)
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    along = np.cos(angle) * axis[:, None] - np.sin(angle) * axis[None, :]
    shift = rng.random(2) * 2 * np.pi
    wave = np.sin(2 * np.pi * count * across + shift[0]) * np.sin(
        2 * np.pi * count * along + shift[1]
    )
    return _smooth_step(wave, 0.25)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clouds: random grids of growing fineness, smoothly enlarged and added."""
    field = np.zeros((size, size), np.float32)
    for cells, weight in ((3, 0.5), (7, 0.3), (16, 0.2)):
        grid = Image.fromarray(rng.random((cells, cells), np.float32), "F")
        field += weight * np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))
    return np.clip((field - 0.5) * 1.8 + 0.5, 0, 1)


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    axis = np.linspace(0, 1, size, dtype=np.float32)
    field = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(4, 9)):
        (x, y), width = rng.random(2), rng.uniform(0.08, 0.2)
        field += np.exp(-((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / width**2)
    return np.clip(field, 0, 1)


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size), rng.random(), np.float32)


_FIELDS = (_gradient, _glow, _stripes, _checker, _noise, _blobs, _plain)

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.twins import VJEPA2_TWIN, VJEPA21_TWIN
from vljepa_jax.config import ConfigError
from vljepa_jax.models import layers
from vljepa_jax.models.vjepa2 import VJEPA2, VJEPA21, video_rotary


@pytest.fixture(scope="module")
def params():
    init = jax.jit(VJEPA2(VJEPA2_TWIN).init)
    return init(jax.random.key(0), jnp.zeros((1, 2, 4, 4, 3), jnp.uint8))["params"]


def encode(params, video, rope="tiled"):
    return _encoder(rope)(params, video)


@functools.cache
def _encoder(rope):
    model = VJEPA2(dataclasses.replace(VJEPA2_TWIN, rope=rope))
    return jax.jit(lambda params, video: model.apply({"params": params}, video, method="encode"))


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rope", ["tiled", "interleaved"])
@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((2, 12, 12), (1, 3, 3)),
        ((8, 12, 12), (4, 3, 3)),
        ((4, 8, 20), (2, 2, 5)),
        ((2, 4, 4), (1, 1, 1)),
        ((1, 8, 4), (1, 2, 1)),  # an image
    ],
)
def test_any_frame_count_and_size(params, rope, size, grid):
    assert VJEPA2_TWIN.token_grid(*size) == VJEPA21_TWIN.token_grid(*size) == grid
    found = encode(params, draw(2, *size, 3), rope)
    chex.assert_shape(found, (2, math.prod(grid), VJEPA2_TWIN.hidden_size))
    chex.assert_tree_all_finite(found)


def test_image_fills_a_tubelet(params):
    """Bitwise the tokens of a clip that repeats it."""
    image = draw(2, 1, 12, 8, 3)
    clip = np.repeat(image, VJEPA2_TWIN.tubelet_size, axis=1)
    np.testing.assert_array_equal(encode(params, image), encode(params, clip))


@pytest.mark.parametrize("model", [VJEPA2(VJEPA2_TWIN), VJEPA21(VJEPA21_TWIN)])
def test_pixels_are_normalised_inside(model):
    """With the published mean and deviation; what is normalised already has ``encode``."""
    video = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 8, 3), np.uint8)
    variables = model.init(jax.random.key(0), video)
    normal = (video / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = model.apply(variables, normal.astype(np.float32), method="encode")
    np.testing.assert_allclose(model.apply(variables, video), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="float32 but expected .*uint8"):
        model.apply(variables, normal.astype(np.float32))


@pytest.mark.parametrize(
    ("size", "message"),
    [((3, 12, 12), "frames = 3"), ((2, 13, 12), "height = 13"), ((2, 12, 2), "width = 2")],
)
def test_sizes_that_do_not_divide_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        VJEPA2_TWIN.token_grid(*size)


def test_tokens_are_tubelets_in_order(params):
    """With layers that add nothing, a token depends on its own pixels alone."""
    silent = params | {"layers": jax.tree.map(jnp.zeros_like, params["layers"])}
    video = draw(1, 4, 8, 12, 3)
    before = np.asarray(encode(silent, video))
    video[0, 3, 5, 9] += 1.0  # second tubelet, second row, third column of a 2 x 2 x 3 grid
    changed = (np.asarray(encode(silent, video)) != before).any(axis=-1)[0]
    assert np.flatnonzero(changed).tolist() == [6 + 3 + 2]


def test_positions_on_a_grid_that_is_not_square_by_hand():
    """Heads of 14: thirds of 4 (frequencies 1 and 1/100) and 2 features that do not turn."""
    grid = (2, 2, 3)
    tiled = video_rotary(grid, 14, "tiled", trained_side=5)
    interleaved = video_rotary(grid, 14, "interleaved", trained_side=5)
    for token, (frame, row, column) in enumerate(np.ndindex(grid)):
        steps = np.array([1, 0.01, 1, 0.01])
        angles = np.concatenate([frame * steps, row * steps, column * steps, [0, 0]])
        np.testing.assert_allclose(tiled.cos[token], np.cos(angles), atol=1e-6)
        np.testing.assert_allclose(tiled.sin[token], np.sin(angles), atol=1e-6)
        # Stretched to the five rows and columns of training: row 1 of 0..1 is 4, column 1 is 2.
        steps = np.array([1, 1, 0.01, 0.01])
        angles = np.concatenate([frame * steps, 4 * row * steps, 2 * column * steps, [0, 0]])
        np.testing.assert_allclose(interleaved.cos[token], np.cos(angles), atol=1e-5)
        np.testing.assert_allclose(interleaved.sin[token], np.sin(angles), atol=1e-5)


def test_interleaved_is_a_rotation_and_tiled_is_not():
    x = jnp.asarray(draw(1, 12, 1, 14))
    lengths = np.linalg.norm(x, axis=-1)
    turned = {
        style: np.linalg.norm(layers.rotate(x, video_rotary((2, 2, 3), 14, style, 3)), axis=-1)
        for style in ("tiled", "interleaved")
    }
    np.testing.assert_allclose(turned["interleaved"], lengths, rtol=1e-5)
    assert np.abs(turned["tiled"] - lengths).max() > 0.01


@pytest.mark.parametrize("first", [1, 4])
def test_2_1_says_what_is_video_and_what_is_an_image(first):
    """With layers that add nothing: the norm of patches through their own matrix, plus a vector."""
    model = VJEPA21(VJEPA21_TWIN)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, first, 8, 8, 3), jnp.uint8)
    )["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    params["layers"] = jax.tree.map(jnp.zeros_like, params["layers"])
    video = draw(1, 4, 8, 8, 3)
    for frames, name, vector in (
        (video, "patch_embedding", "video_modality"),
        (video[:, :1], "image_patch_embedding", "image_modality"),
    ):
        patch = np.ravel(frames[0, -2:, 4:, 4:])  # the last token
        x = patch @ params[name]["kernel"] + params[name]["bias"] + params[vector]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        found = model.apply({"params": params}, frames, method="encode")
        assert found.shape == (1, 8 if len(frames[0]) == 4 else 4, VJEPA21_TWIN.hidden_size)
        expected = x * params["norm"]["scale"] + params["norm"]["bias"]
        np.testing.assert_allclose(found[0, -1], expected, rtol=1e-4, atol=1e-4)

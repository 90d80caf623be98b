"""A CLIP-style model: frames are encoded and read one by one, and their embeddings averaged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import tiny_model_config
from vljepa_jax.config import ConfigError
from vljepa_jax.models.vljepa import VLJEPA


def apart(*, average):
    config = tiny_model_config()
    encoder = dataclasses.replace(config.x_encoder, frames="apart")
    return dataclasses.replace(config, x_encoder=encoder, average_frames=average)


@pytest.fixture(scope="module")
def params():
    model, rng = VLJEPA(apart(average=True)), np.random.default_rng(0)
    batch = {
        "video": jnp.zeros((1, 4, 32, 32, 3), jnp.uint8),
        **{f"{side}_tokens": jnp.zeros((1, 5), jnp.int32) for side in ("query", "target")},
        **{f"{side}_mask": jnp.ones((1, 5), bool) for side in ("query", "target")},
    }
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    video = rng.integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    tokens = rng.integers(3, 1024, (2, 5))
    return video, tokens, np.array([[True] * 5, [True] * 3 + [False] * 2])


def predict(config, params, video, tokens, mask):
    model = VLJEPA(config)
    visual = model.apply({"params": params}, video, method="encode_video")
    return model.apply({"params": params}, visual, tokens, mask, method="predict")


def test_embeddings_are_the_means_of_the_frames(params, inputs):
    """Of the model that is shown each frame as a clip of its own: 1e-5."""
    video, tokens, mask = inputs
    found = predict(apart(average=True), params, *inputs)
    frames = np.stack(
        [predict(tiny_model_config(), params, video[:, t : t + 1], tokens, mask) for t in range(4)]
    )
    mean = frames.mean(axis=0)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_their_order_is_not_seen(params, inputs):
    """Frames backwards: the same to 1e-5; of the video model, another embedding."""
    video, tokens, mask = inputs
    for config, same in ((apart(average=True), True), (tiny_model_config(), False)):
        forward = predict(config, params, video, tokens, mask)
        backward = predict(config, params, video[:, ::-1], tokens, mask)
        assert np.allclose(forward, backward, atol=1e-5) == same


def test_a_predictor_may_see_all_frames_that_were_encoded_apart(params, inputs):
    """No frame changes the tokens of another, but all of them the embedding, by their order too."""
    video, tokens, mask = inputs
    config, changed = apart(average=False), video.copy()
    changed[:, 0] = 255 - changed[:, 0]

    def encode(clip):
        return VLJEPA(config).apply({"params": params}, clip, method="encode_video")

    one, other = np.asarray(encode(video)), np.asarray(encode(changed))
    assert one.shape == (2, 4 * 4, 32)
    np.testing.assert_allclose(one[:, 4:], other[:, 4:], atol=1e-6)
    assert np.abs(one[:, :4] - other[:, :4]).max() > 0.1
    forward = predict(config, params, video, tokens, mask)
    backward = predict(config, params, video[:, ::-1], tokens, mask)
    assert np.abs(forward - backward).max() > 1e-3


def test_frames_that_were_encoded_together_have_no_average():
    with pytest.raises(ConfigError, match=r"average_frames.*'apart'"):
        dataclasses.replace(tiny_model_config(), average_frames=True)

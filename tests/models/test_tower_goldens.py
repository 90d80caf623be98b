"""CLIP, SigLIP 2 and PE-Core against the committed outputs of their references."""

import dataclasses

import chex
import numpy as np
import pytest

from tests.helpers.tower_twins import TOLERANCE, TWINS, errors, inputs, parameters, run
from tests.helpers.twins import GOLDENS
from vljepa_jax.config import ConfigError
from vljepa_jax.convert.dual_encoders import table
from vljepa_jax.convert.rules import ConversionError, export
from vljepa_jax.models.dual_encoder import DualEncoder
from vljepa_jax.models.image_towers import ImageTower
from vljepa_jax.models.text_towers import TextTower

FAMILIES = ("clip", "siglip2", "pe_core")


def golden(family):
    with np.load(GOLDENS / f"{family}.npz") as file:
        return tuple(
            {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
            for prefix in ("weights/", "pairs/inputs/", "pairs/outputs/")
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_reference(family):
    weights, arrays, outputs = golden(family)
    params = parameters(TWINS[family], weights)
    found = errors(run(TWINS[family], params, arrays), outputs)
    assert max(found.values()) < TOLERANCE, found
    unrolled = run(TWINS[family], params, arrays, unroll=True)
    assert max(errors(unrolled, outputs).values()) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_is_needed_and_written_again(family):
    weights, _, _ = golden(family)
    config = TWINS[family]
    params = parameters(config, weights)
    written = dict(export(params, table(config)))
    used = {key: array for key, array in weights.items() if not key.startswith("logit_")}
    chex.assert_trees_all_equal(written, {k: np.float32(v) for k, v in used.items()})
    for key in used:
        with pytest.raises(ConversionError, match="missing"):
            parameters(config, {k: v for k, v in weights.items() if k != key})


def test_fused_weights_of_another_width_are_a_fault():
    weights, _, _ = golden("siglip2")
    key = "vision_model.head.attention.in_proj_weight"
    with pytest.raises(
        ConversionError, match=r"in_proj_weight: has shape \(53, 18\), which is not 3"
    ):
        parameters(TWINS["siglip2"], weights | {key: weights[key][:-1]})
    wider = np.concatenate([weights[key]] * 2)
    with pytest.raises(ConversionError, match=r"in_proj_weight: .* needs \(18, 18\)"):
        parameters(TWINS["siglip2"], weights | {key: wider})


def test_a_video_is_the_mean_of_its_frames():
    weights, _, _ = golden("pe_core")
    config = TWINS["pe_core"]
    params = {"params": parameters(config, weights)}
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (2, 3, 12, 12, 3), np.uint8)
    model = DualEncoder(config)
    pixels = (video / 255.0 - 0.5) / 0.5
    frames = np.stack(
        [model.apply(params, np.float32(clip), method="embed_images") for clip in pixels]
    )
    mean = frames.mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    found = model.apply(params, video, method="embed_video")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Not the mean of unit vectors: the frames' lengths differ, and count.
    units = (frames / np.linalg.norm(frames, axis=2, keepdims=True)).mean(axis=1)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert np.abs(found - units).max() > 1e-4


def test_an_x_encoder_gives_the_patches_of_every_frame():
    """Without the class token, frame by frame; the tokens that the head pools."""
    weights, _, _ = golden("pe_core")
    config = TWINS["pe_core"].image
    params = {"params": parameters(TWINS["pe_core"], weights)["image"]}
    video = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12, 3), np.uint8)
    tower = ImageTower(config)
    tokens = tower.apply(params, video)
    assert tokens.shape == (2, 3 * 9, 16)
    assert config.token_grid(3, 12, 12) == (3, 3, 3)
    alone = tower.apply(params, np.float32(video[1, 2:] / 255 * 2 - 1), method="contextualise")
    np.testing.assert_allclose(tokens[1, 18:], alone[0, 1:], atol=1e-5)
    with pytest.raises(ConfigError, match="16 x 16 pixels.* takes image_size = 12"):
        tower.apply(params, np.zeros((1, 1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_text(family):
    weights, arrays, outputs = golden(family)
    config = TWINS[family]
    tower, params = TextTower(config.text), {"params": parameters(config, weights)["text"]}
    other = np.where(arrays["mask"], arrays["tokens"], 7)
    found = tower.apply(params, other, arrays["mask"])
    np.testing.assert_allclose(found, outputs["text"], rtol=1e-4, atol=1e-5)
    short = tower.apply(params, arrays["tokens"][1:, :5], arrays["mask"][1:, :5])
    np.testing.assert_allclose(short, outputs["text"][1:], rtol=1e-4, atol=1e-5)
    empty = tower.apply(params, arrays["tokens"], np.zeros_like(arrays["mask"]))
    np.testing.assert_array_equal(empty, np.zeros_like(empty))
    with pytest.raises(ValueError, match="12 tokens.* at most 9"):
        tower.apply(params, np.zeros((1, 12), np.int32), np.ones((1, 12), bool))


def test_clip_and_pe_core_are_causal_and_siglip_is_not():
    arrays = inputs(TWINS["clip"], 1, (9,))
    changed = arrays["tokens"].copy()
    changed[0, 4] += 1
    for family in FAMILIES:
        weights, _, _ = golden(family)
        config = TWINS[family]
        params = parameters(config, weights)
        one, other = (
            run(config, params, arrays | {"tokens": tokens})["text_hidden"][-1, 0, :4]
            for tokens in (arrays["tokens"], changed)
        )
        assert np.allclose(one, other) == (family != "siglip2")


def test_tables_name_every_parameter_once():
    for config in TWINS.values():
        entries = [entry.path for entry in table(config).entries]
        assert len(entries) == len(set(entries))
    bigger = dataclasses.replace(TWINS["clip"].image, num_layers=3)
    weights, _, _ = golden("clip")
    with pytest.raises(ConversionError, match=r"layers\.2\..*missing"):
        parameters(dataclasses.replace(TWINS["clip"], image=bigger), weights)

"""A run is calibrated on what it was trained on, and loading it takes the calibration along."""

import dataclasses

import jax
import numpy as np
import pytest

import vljepa_jax
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config, tiny_world_config
from vljepa_jax.evals.calibration import QUERIES, calibrate_on_training
from vljepa_jax.inference.calibration import FILE
from vljepa_jax.run_dir import save_params


def test_a_run_is_calibrated_and_loaded_with_it(tmp_path):
    world = dataclasses.replace(tiny_world_config(), train_clips=40)
    config = tiny_train_config(world=world)
    params = random_params(config)
    run_dir = tmp_path / "run"
    save_run(run_dir, config, params)
    model = vljepa_jax.load(run_dir, batch_size=8)
    clips = np.random.default_rng(0).integers(
        0, 256, (3, model.video.frames, *[model.video.image_size] * 2, 3), np.uint8
    )
    plain, novelty = model.predict_and_judge(clips, [""] * 3)
    assert np.isnan(novelty).all()
    made = calibrate_on_training(model, 40)
    assert made.clips == 40
    assert set(made.floors) == set(QUERIES)
    made.save(run_dir / FILE)
    calibrated = vljepa_jax.load(run_dir, batch_size=8)
    embeddings, novelty = calibrated.predict_and_judge(clips, [""] * 3)
    np.testing.assert_array_equal(embeddings, plain)
    tokens = np.asarray(model.encode_clips(clips))[:3].mean(axis=1)
    np.testing.assert_allclose(novelty, made.novelty(tokens), rtol=1e-3)

    other = jax.tree.map(lambda leaf: leaf + 1e-3, params)
    save_params(tmp_path / "other", config, other)
    made.save(tmp_path / "other" / FILE)
    with pytest.warns(UserWarning, match="is of other weights and is not used"):
        assert vljepa_jax.load(tmp_path / "other").calibration is None

"""A training run's directory with random parameters, as if ``launch/train.py`` had left it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vljepa_jax.config import TrainConfig
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.run_dir import claim
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.train_state import TrainState


def random_params(config: TrainConfig) -> Any:
    """Every parameter random, biases and norms too: nothing is invisible by its initial value."""
    video, text = config.data.video, config.data.text
    batch = {
        "video": np.zeros((1, video.frames, video.image_size, video.image_size, 3), np.uint8),
        "query_tokens": np.zeros((1, text.query_length), np.int32),
        "query_mask": np.ones((1, text.query_length), bool),
        "target_tokens": np.zeros((1, text.target_length), np.int32),
        "target_mask": np.ones((1, text.target_length), bool),
    }
    shapes = jax.eval_shape(VLJEPA(config.model).init, jax.random.key(0), batch)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)


def save_run(directory: Path, config: TrainConfig, params: Any) -> None:
    """Writes config.json, a checkpoint, metrics.jsonl and train.json."""
    claim(directory, config)
    with Checkpoints(directory, config.checkpoint) as checkpoints:
        state = TrainState(np.int32(3), params, {"count": np.int32(3)}, {"none": np.int32(0)})
        checkpoints.save(state, {"step": 3}, 0.0)
    rows = [{"step": step, "loss": 3.0 / step, "accuracy/to_target": 0.1} for step in (1, 2, 3)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = {"steps": 3, "examples_per_second": 5.0, "wall_seconds": 9.0, "final_loss": 1.0}
    (directory / "train.json").write_text(json.dumps(summary))

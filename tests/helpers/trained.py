"""Short trainings of tiny models."""

import dataclasses
import json
from pathlib import Path

from vljepa_jax.config import TrainConfig
from vljepa_jax.training.train_loop import train


def trained_losses(config: TrainConfig, run_dir: Path) -> list[float]:
    """Trains with one checkpoint, at the end (each takes a while); gives the loss of each step."""
    one = dataclasses.replace(config.checkpoint, every=config.steps)
    train(dataclasses.replace(config, checkpoint=one), run_dir)
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]

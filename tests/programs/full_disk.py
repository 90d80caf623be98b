"""Run by test_checkpoint.py: a save whose files cannot be written; prints the error."""

import resource
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vljepa_jax.config import CheckpointConfig
from vljepa_jax.run_dir import CheckpointError
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.train_state import TrainState


def main(run_dir):
    keep = CheckpointConfig(
        every=1, keep=1, keep_every=0, keep_best=0, best_metric="loss", best_is="lowest"
    )
    random = np.random.default_rng(0).normal(size=2**20)  # which cannot be compressed
    state = TrainState(jnp.int32(4), {"kernel": jnp.float32(random)}, {}, {})
    try:
        with Checkpoints(Path(run_dir), keep) as checkpoints:
            limit = 2**18  # bytes a file: room for the metadata alone
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            checkpoints.save(state, {"step": 4}, 0.0)
    except CheckpointError as error:
        print(error)
    else:
        raise AssertionError("the save was not refused")


main(*sys.argv[1:])

"""Trains a model, or continues a run that was interrupted: the same command does both.

    python launch/train.py --config=configs/demo.py --workdir=runs/demo
    python launch/train.py --config=configs/demo.py --workdir=runs/short --config.steps=100

The workdir receives config.json, checkpoints/, metrics.jsonl, tensorboard/ and train.json.
--config.init_from=DIR[:params|:full] starts from another run.
"""

from absl import flags

from vljepa_jax import command_line
from vljepa_jax.config import TrainConfig, parse

_CONFIG = command_line.define_config("The recipe, FILE[:variant]; --config.a.b=value overrides.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)


def main() -> None:
    with command_line.explained():
        config = parse(TrainConfig, _CONFIG.value)
    # Only now: with these, a misspelt command would take seconds to be answered.
    from vljepa_jax.checkpoint import CheckpointError
    from vljepa_jax.data.pipeline import DataError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.train_loop import NonFiniteLoss, train

    with command_line.explained(
        CheckpointError, DataError, DatasetError, NonFiniteLoss, TokenizerError
    ):
        train(config, _WORKDIR.value)


if __name__ == "__main__":
    command_line.run(main)

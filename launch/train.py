"""Trains a model, or continues a run that was interrupted: the same command does both.

    python launch/train.py --config=configs/demo.py --workdir=runs/demo
    python launch/train.py --config=configs/demo.py --workdir=runs/short --config.steps=100

The workdir receives config.json, checkpoints/, metrics.jsonl, tensorboard/ and train.json.
--config.init_from=DIR[:params|:full|:PART] starts from another run; PART (x_encoder, y_encoder,
vljepa or y_decoder) takes this part alone, whatever the run's objective, and DIR:PART,DIR:PART
takes parts of several runs.

    python launch/train.py --config=configs/vljepa_1b.py:sft --summary

tells what the config builds, part by part, without allocating any of it.
"""

import rich.console
from absl import flags

from vljepa_jax import command_line
from vljepa_jax.config import TrainConfig, parse

_CONFIG = command_line.define_config("The recipe, FILE[:variant]; --config.a.b=value overrides.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
_SUMMARY = flags.DEFINE_bool("summary", False, "Print parameters and shapes, and stop.")
flags.register_multi_flags_validator(
    ["workdir", "summary"],
    lambda values: bool(values["workdir"] or values["summary"]),
    "--workdir must name the run's directory",
)


def main() -> None:
    with command_line.explained():
        config = parse(TrainConfig, _CONFIG.value)
        if _SUMMARY.value:
            from vljepa_jax.summary import print_summary

            print_summary(config, rich.console.Console())
            return
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

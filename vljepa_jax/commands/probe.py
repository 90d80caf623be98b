"""Probes an X-Encoder: what can be read from its frozen tokens.

    python launch/probe.py --config=configs/probe.py --checkpoint=runs/vjepa2 --output=runs/probed
    python launch/probe.py --config=configs/probe.py --x_encoder=DIR --output=runs/probed

--checkpoint names a run of any objective: stage 0 (its teacher is probed), pretraining on labels,
a VL-JEPA, or another probe; the same command continues what was interrupted. --x_encoder names a
directory in the published layout; the recipe's --config.model.x_encoder must then have its sizes.
An attentive and a linear probe are trained on the recipe's sources, with the tokens computed once,
and scored on its test splits: for each kind of question the accuracy, beside chance, with its
interval.

Started as several processes, as launch/train.py may be, they train together and score a share of
the clips each; --x_encoder is for one process alone.
"""

import contextlib
from pathlib import Path

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import ConfigError, TrainConfig, command_line, parse
from vljepa_jax.places import BUCKETS, place

_CONFIG = command_line.define_config("The recipe of the attentive probe, FILE[:variant].")
_CHECKPOINT = command_line.define_path(
    "checkpoint", "Run whose X-Encoder is probed.", buckets=BUCKETS
)
_X_ENCODER = command_line.define_path("x_encoder", "Directory of a published X-Encoder.")
_OUTPUT = command_line.define_path("output", "Where probes and report go.", required=True)
_PROBES = flags.DEFINE_list("probes", ["attentive", "linear"], "Which probes to train.")
_SPLITS = flags.DEFINE_list("splits", ["test", "test_compositional"], "Splits to score.")
flags.register_multi_flags_validator(
    ["checkpoint", "x_encoder"],
    lambda values: bool(values["checkpoint"]) != bool(values["x_encoder"]),
    "give either --checkpoint or --x_encoder",
)
flags.register_validator(
    "probes",
    lambda names: bool(names) and set(names) <= {"attentive", "linear"},
    "--probes must be attentive, linear or both",
)


def main() -> None:
    with command_line.explained():
        config = parse(TrainConfig, _CONFIG.value)
    # Only now: a misspelt command is answered at once.
    import jax

    from vljepa_jax.convert.published import convert_checkpoint
    from vljepa_jax.convert.rules import ConversionError
    from vljepa_jax.data.pipeline import DataError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.probe import with_x_encoder, write_probe_report
    from vljepa_jax.parallel.processes import first_process, owned_by_first, require_shared
    from vljepa_jax.run_dir import CheckpointError, load_config
    from vljepa_jax.training.train_loop import NonFiniteLoss, train

    output = Path(_OUTPUT.value)
    errors = (
        CheckpointError,
        ConversionError,
        DataError,
        DatasetError,
        NonFiniteLoss,
        TokenizerError,
    )
    owning = contextlib.ExitStack()
    with command_line.in_job(*errors, saves_on_sigterm=True), owning:
        console = terminal.PlainConsole(quiet=not first_process())
        require_shared(output)
        owning.enter_context(owned_by_first(output, console))
        start = place(_CHECKPOINT.value or output / "x_encoder")
        if _X_ENCODER.value:
            if jax.process_count() > 1:
                raise ConfigError(
                    "--x_encoder is converted by one process: run launch/convert.py --x_encoder "
                    "by itself and give its output as --checkpoint to this job"
                )
            directory = {"x_encoder": Path(_X_ENCODER.value)}
            convert_checkpoint(config, directory, start, console)
        source = load_config(start)
        probes = {name: output / name for name in _PROBES.value}
        for name, run_dir in probes.items():
            console.print(f"{name} probe", style="bold")
            train(with_x_encoder(config, source, start, name), run_dir)
        probed = _CHECKPOINT.value or _X_ENCODER.value
        write_probe_report(output, probes, _SPLITS.value, probed)


def run() -> None:
    command_line.run(main)

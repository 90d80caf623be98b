"""Trains and evaluates the variants of a study, and writes tables and pictures of them.

    python launch/compare.py --config=configs/comparison.py --workdir=runs/comparison
    python launch/compare.py --config=configs/ablations.py --workdir=runs/ablations --only=b

--only=primary,rates runs these sections of the study alone; --quick runs the first, or those that
--only names, small, into WORKDIR/quick. Each training and each evaluated checkpoint is kept when it
is finished, and the same command, started again, goes on. The workdir receives report.json, a
picture a section, and a folder a training, which launch/eval.py and the other commands take.
"""

from pathlib import Path

from absl import flags

from vljepa_jax.config import StudyConfig, command_line, parse

_CONFIG = command_line.define_config("The study, FILE[:variant]; --config.a.b=value overrides.")
_WORKDIR = command_line.define_path("workdir", "The study's directory.", required=True)
_ONLY = flags.DEFINE_list(
    "only", [], "Names of sections to run; all by default, with --quick the first."
)
_QUICK = flags.DEFINE_bool("quick", False, "Few steps, one seed, few examples.")


def main() -> None:
    with command_line.explained():
        study = parse(StudyConfig, _CONFIG.value)
    # Only now: a misspelt command is answered at once.
    from vljepa_jax.convert.rules import ConversionError
    from vljepa_jax.data.pipeline import DataError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.parallel.compilation_cache import keep_compiled
    from vljepa_jax.run_dir import CheckpointError
    from vljepa_jax.studies.study import run_study
    from vljepa_jax.training.train_loop import NonFiniteLoss

    errors = (
        CheckpointError,
        ConversionError,
        DataError,
        DatasetError,
        EvaluationError,
        NonFiniteLoss,
    )
    with command_line.explained(*errors):
        keep_compiled()
        run_study(study, Path(_WORKDIR.value), _ONLY.value, quick=_QUICK.value)


def run() -> None:
    command_line.run(main)

"""Trains a model, or continues a run that was interrupted: the same command does both.

    python launch/train.py --config=configs/demo.py --workdir=runs/demo
    python launch/train.py --config=configs/demo.py --workdir=runs/short --config.steps=100

The workdir receives config.json, checkpoints/, metrics.jsonl, tensorboard/ and train.json. It may
lie in a bucket: gs://BUCKET/DIR or s3://BUCKET/DIR (pip install 'vljepa_jax[buckets]').
--config.init_from=DIR[:params|:full|:PART] starts from another run; PART (x_encoder, y_encoder,
vljepa or y_decoder) takes this part alone, whatever the run's objective, and DIR:PART,DIR:PART
takes parts of several runs.

    python launch/train.py --config=configs/vljepa_1b.py:sft --summary

tells what the config builds, part by part, without allocating any of it.

Started as several processes (by SLURM, Open MPI, on the hosts of a TPU slice, or with
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID set) they train together: see
launch/cluster/.

    python launch/train.py --config=configs/demo.py --workdir=runs/demo --profile=100-105

writes a profile of these steps to WORKDIR/profile, for tensorboard or ui.perfetto.dev.
"""

import shlex

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import WORLD, TrainConfig, command_line, parse
from vljepa_jax.places import BUCKETS

_CONFIG = command_line.define_config("The recipe, FILE[:variant]; --config.a.b=value overrides.")
_WORKDIR = command_line.define_path("workdir", "The run's directory.", buckets=BUCKETS)
_PROFILE = flags.DEFINE_string("profile", "", "FIRST-LAST: steps to trace, e.g. 100-105.")
_WANDB = flags.DEFINE_string("wandb", "", "A Weights & Biases project to log to as well.")
_ATTENTION = flags.DEFINE_enum(
    "attention",
    "auto",
    ["auto", "plain", "chunked", "splash", "cudnn"],
    "The attention kernel; auto takes what suits the devices. Results are the same.",
)
_COMPILATION_CACHE = command_line.define_path(
    "compilation_cache",
    "Where compiled programs are kept, so that a restart need not compile; by default in "
    "~/.cache/vljepa_jax, by the kind of device. '' for nowhere.",
)
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
            from vljepa_jax.planning.summary import print_summary

            print_summary(config, terminal.PlainConsole())
            return
    # Only now: with these, a misspelt command would take seconds to be answered.
    from vljepa_jax.data.pipeline import DataError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.models.attention import KernelError, kernel
    from vljepa_jax.parallel.processes import first_process
    from vljepa_jax.run_dir import CheckpointError
    from vljepa_jax.training.meters import parse_steps
    from vljepa_jax.training.train_loop import NonFiniteLoss, Watch, train

    errors = (
        CheckpointError,
        DataError,
        DatasetError,
        EvaluationError,
        KernelError,
        NonFiniteLoss,
        TokenizerError,
    )
    kept = _COMPILATION_CACHE.value
    with command_line.in_job(*errors, saves_on_sigterm=True, compiled=kept):
        watch = Watch(profile=parse_steps(_PROFILE.value), wandb=_WANDB.value)
        with kernel(_ATTENTION.value):
            train(config, _WORKDIR.value, watch)
        console = terminal.PlainConsole(quiet=not first_process())
        console.print("Next:", *next_commands(config, _WORKDIR.value), sep="\n  ", soft_wrap=True)


# What can be done with a run of each objective: a command, and what it leads to.
_PROBE = ("probe.py --config=configs/probe.py --checkpoint={run} --output={run}/probed", "a report")
_EXPORT = ("convert.py --checkpoint={run} --export={run}/exported", "published layouts")
_NEXT = {
    "vljepa": (
        ("eval.py --config={benchmarks} --checkpoint={run}", "{run}/report.html"),
        ("embed.py --checkpoint={run} --videos=FOLDER --output=index", "to search a folder"),
        ("stream.py --checkpoint={run} --source=FILE --labels=FILE", "to watch for labels"),
    ),
    "y_decoder": (
        ("stream.py --checkpoint=VLJEPA --y_decoder={run} --source=FILE", "what a video shows"),
    ),
    "vjepa2": (_PROBE, _EXPORT),
    "visual_reader": (_PROBE, _EXPORT),
    "probe": (_PROBE,),
}


def next_commands(config: TrainConfig, workdir: str) -> list[str]:
    """The commands that go on from a finished run."""
    paths = {source.path for source in config.data.sources}
    dataset = next(iter(paths)) if len(paths) == 1 else "DATASET"
    own = shlex.quote(f"configs/eval/clips.py:{dataset}")
    names = {
        "run": shlex.quote(workdir),
        "benchmarks": "configs/eval/world.py" if WORLD in paths else own,
    }
    return [
        command_line.as_called(f"python launch/{command}    # {what}".format(**names))
        for command, what in _NEXT.get(config.objective, (_EXPORT,))
    ]


def run() -> None:
    command_line.run(main)

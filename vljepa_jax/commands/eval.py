"""Scores a trained model and writes report.json and report.html, a page to look at.

    python launch/eval.py --config=configs/eval/world.py --checkpoint=runs/demo

--model=DIR in place of --checkpoint evaluates published weights of CLIP, SigLIP 2 or PE-Core
(docs/models.md), by the same benchmarks.

--benchmarks=world/motion,world/t2v runs these alone; report.json keeps the others' metrics. A
benchmark that its dataset has nothing for is skipped and named; where --benchmarks asks for it, it
is an error.
--benchmarks=stream is the study of selective decoding on long streams: CIDEr against the rate of
decodings, uniform and selective; its pictures are stream_curves.png and stream_timeline.png.
--sweep.FIELD=v1,v2 evaluates with each value of any config field and tabulates; several swept
fields give every combination, for example --sweep.frames=4,8 or, over a run's checkpoints,
--sweep.step=1000,2000.
--limit=N takes the first N examples of each benchmark; what is partial says so.

Beside the report, results/NAME/predictions.jsonl has each example of a benchmark, and embeddings/
what was embedded, by model, so that no later run embeds it again (--cache=DIR keeps it elsewhere,
for several reports; --nokeep keeps nothing). A benchmark that was measured with the same model,
settings and data is not measured again, unless by --again: so the same command goes on after an
interruption.

Started as several processes, as launch/train.py may be, they embed a share of the clips each.
"""

import dataclasses
import functools
import sys
from pathlib import Path

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import ConfigError, EvalConfig, command_line, parse
from vljepa_jax.config.overrides import settings, take_sweeps
from vljepa_jax.places import DATASET_BUCKETS, in_bucket, place

_CONFIG = command_line.define_config(
    "The evaluation config, FILE[:variant]; --config.a.b=value overrides."
)
_MODEL = command_line.define_model()
_OUTPUT = command_line.define_path(
    "output", "Where the report goes; the checkpoint or model by default."
)
_BENCHMARKS = flags.DEFINE_list("benchmarks", [], "Names of benchmarks to run; all by default.")
_DATA = command_line.define_path(
    "data",
    'The folder of datasets called "@data/NAME"; config.data by default.',
    buckets=DATASET_BUCKETS,
)
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Examples of each benchmark, its first; all by default.", lower_bound=1
)
_CACHE = command_line.define_path("cache", "Where embeddings are kept; OUTPUT/embeddings.")
_KEEP = flags.DEFINE_bool("keep", True, "Whether embeddings are kept.")
_AGAIN = flags.DEFINE_bool("again", False, "Measures what is done too.")


def main(sweeps: dict[str, list[str]]) -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    from vljepa_jax.evals.benchmarks import select

    run_dir = place(_MODEL())
    output = Path(_OUTPUT.value or run_dir)
    with command_line.explained():
        if in_bucket(run_dir) and not _OUTPUT.value:
            raise ConfigError(
                "--output: name a directory on a disk, as --checkpoint is in a bucket"
            )
        chosen = []
        for values, config in settings(_CONFIG.value, sweeps):
            parsed = _with_flags(parse(EvalConfig, config))
            chosen.append((values, parsed, *select(parsed, _BENCHMARKS.value)))
        if sweeps and _BENCHMARKS.value and not chosen[0][2]:
            raise ConfigError("--sweep takes benchmarks of clips; the streams' study sweeps rates")

    # Only now: what is misspelt is answered at once.
    import vljepa_jax
    from vljepa_jax.data.records import ClipError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.evals.run import write_evaluation, write_sweep
    from vljepa_jax.parallel.processes import owned_by_first
    from vljepa_jax.run_dir import CheckpointError

    def load(config: EvalConfig) -> vljepa_jax.Embedder:
        return vljepa_jax.load(
            run_dir, step=config.step or None, frames=config.frames, batch_size=config.batch_size
        )

    how = {
        "skip_empty": not _BENCHMARKS.value,
        "cache": Path(_CACHE.value or output / "embeddings") if _KEEP.value else None,
        "again": _AGAIN.value,
    }
    errors = (CheckpointError, ClipError, DatasetError, EvaluationError, TokenizerError)
    # Of reports alone, so that a run may be evaluated while it trains; and at once, so that what
    # cannot be written is not computed either.
    reports = functools.partial(
        owned_by_first, output, terminal.PlainConsole(), name=".reports.lock"
    )
    with command_line.in_job(*errors), reports():
        if sweeps:
            runs = [(v, dataclasses.replace(config, benchmarks=b)) for v, config, b, _ in chosen]
            write_sweep(load, list(sweeps), runs, output, **how)
        else:
            ((_, config, benchmarks, study),) = chosen
            write_evaluation(load(config), config, benchmarks, output, study, **how)


def _with_flags(config: EvalConfig) -> EvalConfig:
    """The config with what --data and --limit say."""
    if _DATA.value is not None:
        config = dataclasses.replace(config, data=_DATA.value)
    if _LIMIT.value is not None:
        limited = (dataclasses.replace(b, limit=_LIMIT.value) for b in config.benchmarks)
        config = dataclasses.replace(config, benchmarks=tuple(limited))
    return config


def run() -> None:
    with command_line.explained():
        swept = take_sweeps(sys.argv)
    command_line.run(functools.partial(main, swept))

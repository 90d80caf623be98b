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
fields give every combination, for example --sweep.frames=4,8.

Started as several processes, as launch/train.py may be, they embed a share of the clips each.
"""

import dataclasses
import functools
import sys
from pathlib import Path

from absl import flags

from vljepa_jax.config import ConfigError, EvalConfig, command_line, parse
from vljepa_jax.config.overrides import settings, take_sweeps
from vljepa_jax.evals.benchmarks import select
from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.places import BUCKETS, in_bucket, place

_CONFIG = command_line.define_config(
    "The evaluation config, FILE[:variant]; --config.a.b=value overrides."
)
_CHECKPOINT = command_line.define_path(
    "checkpoint", "A training run, or an exported model.", buckets=BUCKETS
)
_MODEL = command_line.define_path("model", "Published weights, in place of --checkpoint.")
flags.mark_flags_as_mutual_exclusive(["checkpoint", "model"], required=True)
_OUTPUT = command_line.define_path(
    "output", "Where the report goes; the checkpoint or model by default."
)
_BENCHMARKS = flags.DEFINE_list("benchmarks", [], "Names of benchmarks to run; all by default.")


def main(sweeps: dict[str, list[str]]) -> None:
    run_dir = place(_CHECKPOINT.value or _MODEL.value)
    output = Path(_OUTPUT.value or run_dir)
    with command_line.explained():
        if in_bucket(run_dir) and not _OUTPUT.value:
            raise ConfigError(
                "--output: name a directory on a disk, as --checkpoint is in a bucket"
            )
        chosen = []
        for values, config in settings(_CONFIG.value, sweeps):
            parsed = parse(EvalConfig, config)
            chosen.append((values, parsed, *select(parsed, _BENCHMARKS.value)))
        if sweeps and _BENCHMARKS.value and not chosen[0][2]:
            raise ConfigError("--sweep takes benchmarks of clips; the streams' study sweeps rates")

    # Only now: what is misspelt is answered at once.
    import vljepa_jax
    from vljepa_jax.data.records import ClipError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.run import write_evaluation, write_sweep
    from vljepa_jax.run_dir import CheckpointError

    def load(config: EvalConfig) -> vljepa_jax.Embedder:
        return vljepa_jax.load(run_dir, frames=config.frames, batch_size=config.batch_size)

    errors = (CheckpointError, ClipError, DatasetError, EvaluationError, TokenizerError)
    with command_line.in_job(*errors):
        if sweeps:
            runs = [(v, dataclasses.replace(config, benchmarks=b)) for v, config, b, _ in chosen]
            write_sweep(load, list(sweeps), runs, output, skip_empty=not _BENCHMARKS.value)
        else:
            ((_, config, benchmarks, study),) = chosen
            skip_empty = not _BENCHMARKS.value
            model = load(config)
            write_evaluation(model, config, benchmarks, output, study, skip_empty=skip_empty)


if __name__ == "__main__":
    with command_line.explained():
        swept = take_sweeps(sys.argv)
    command_line.run(functools.partial(main, swept))

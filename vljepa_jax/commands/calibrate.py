"""Measures what a model knows, so that commands can tell when they are shown something else.

    python launch/calibrate.py --checkpoint=runs/demo

Embeds clips that the run was trained on, and writes calibration.npz into it. From then on, search
may answer "no match", and embed, stream and eval tell what is unlike the training clips. After
further training it is to be made again: one of other weights is not used.
"""

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line
from vljepa_jax.host import host_cpus
from vljepa_jax.places import BUCKETS, place

_CHECKPOINT = command_line.define_path(
    "checkpoint", "A training run.", buckets=BUCKETS, required=True
)
_CLIPS = flags.DEFINE_integer("clips", 768, "Clips to measure on, at most.", lower_bound=30)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", host_cpus(), "Decoding processes.", lower_bound=0
)


def main() -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    import vljepa_jax
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.calibration import calibrate_on_training
    from vljepa_jax.inference.calibration import FILE
    from vljepa_jax.parallel.compilation_cache import keep_compiled
    from vljepa_jax.run_dir import CheckpointError

    with command_line.explained(CheckpointError, DatasetError, TokenizerError):
        keep_compiled()
        model = vljepa_jax.load(_CHECKPOINT.value)
        made = calibrate_on_training(model, _CLIPS.value, _NUM_WORKERS.value)
        path = place(_CHECKPOINT.value) / FILE
        made.save(path)
    console = terminal.PlainConsole(highlight=False)
    console.print(f"calibrated on {made.clips} training clips: {path}", soft_wrap=True)
    for query, floor in made.floors.items():
        console.print(f"a match has a cosine of {floor:.2f} or more, asked {query!r}")


def run() -> None:
    command_line.run(main)

"""Measures how far a model's predictions lie from their texts, and chooses the Y-Decoder's noise.

    python launch/noise.py --checkpoint=runs/demo --config=configs/eval/world.py
    python launch/noise.py --checkpoint=runs/demo --config=configs/eval/world.py --output=noise.json

The clips and captions are those of the evaluation config's first bank of captions (a benchmark's
``protocol.bank_split``): what the Y-Decoder learns from. It prints the level at which a noisy text
is recognised as rarely as a prediction: set it as ``model.noise`` in the Y-Decoder's recipe.

Started as several processes, as launch/train.py may be, they embed a share of the clips each.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich.table
from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import EvalConfig, command_line, parse
from vljepa_jax.places import BUCKETS, write_text

if TYPE_CHECKING:
    from vljepa_jax.inference.gap import Gap

_CONFIG = command_line.define_config(
    "An evaluation config, FILE[:variant]; --config.a.b=value overrides."
)
_CHECKPOINT = command_line.define_path(
    "checkpoint", "A VL-JEPA's run directory.", buckets=BUCKETS, required=True
)
_CLIPS = flags.DEFINE_integer("clips", 600, "Clips of different meaning to measure on, at most.")
_OUTPUT = command_line.define_path("output", "A file for the figures, in JSON.")


def main() -> None:
    with command_line.explained():
        config = parse(EvalConfig, _CONFIG.value)
    # Only now: a misspelt command is answered at once.
    import vljepa_jax
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.evals.caption_gap import caption_gap
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.parallel.processes import first_process
    from vljepa_jax.run_dir import CheckpointError

    errors = (CheckpointError, DatasetError, EvaluationError)
    with command_line.in_job(*errors):
        model = vljepa_jax.load(
            _CHECKPOINT.value, frames=config.frames, batch_size=config.batch_size
        )
        gap = caption_gap(model, config, _CLIPS.value)
        if first_process():
            _show(gap)
            if _OUTPUT.value:
                write_text(
                    Path(_OUTPUT.value), json.dumps(dataclasses.asdict(gap), indent=1) + "\n"
                )


def _show(gap: Gap) -> None:
    table = rich.table.Table("", "cosine to S_Y", "nearest is its own, %")
    table.add_row("predictions", f"{gap.cosine:.3f}", f"{100 * gap.recall:.1f}")
    table.add_section()
    rows = zip(gap.levels, gap.noisy_cosine, gap.noisy_recall, strict=True)
    for level, cosine, recall in rows:
        table.add_row(f"noise {level:.2f}", f"{cosine:.3f}", f"{100 * recall:.1f}")
    console = terminal.PlainConsole()
    console.print(table)
    console.print(f"{gap.n} clips. As low a cosine: noise {gap.same_cosine:.2f}.")
    console.print(f"As rarely recognised: noise {gap.same_recall:.2f}; set it as model.noise.")


def run() -> None:
    command_line.run(main)

"""Mean and spread of several runs of one recipe, of what launch/eval.py measured of each.

    python launch/spread.py --runs=runs/demo_seeds/0,runs/demo_seeds/1 --output=runs/demo_seeds

Writes report.json and spread.png, and prints the table. ``make demo-seeds`` trains and evaluates
the demo with three seeds, and calls this.
"""

from pathlib import Path

from vljepa_jax import terminal
from vljepa_jax.config import command_line

_RUNS = command_line.define_path(
    "runs", "Directories with a report.json each.", many="listed", required=True
)
_OUTPUT = command_line.define_path("output", "Directory to write to.", required=True)


def main() -> None:
    # Only now: a misspelt command is answered at once.
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.evals.spread import write_spread
    from vljepa_jax.ownership import owned

    with command_line.explained(EvaluationError):
        runs = [Path(run) for run in _RUNS.value]
        with owned(Path(_OUTPUT.value), name=".reports.lock"):
            write_spread(runs, Path(_OUTPUT.value), terminal.PlainConsole())


def run() -> None:
    command_line.run(main)

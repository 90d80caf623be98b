"""The paper's tables with rows of one's own, from what launch/eval.py reported.

    python launch/tables.py --runs=base=runs/base,sft=runs/sft --output=tables
    python launch/tables.py --runs=a=runs/a,b=runs/b --compare=a,b --output=tables

Writes tables.md, tables.html and tables.csv: the paper's rows, marked as cited, above a row a run.
A figure of a part of its benchmark says so, and no average is made of it. --compare tells for each
benchmark that both runs have predictions of (results/NAME/predictions.jsonl) how they differ on the
same examples, with a 95 % interval.
"""

from pathlib import Path

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import ConfigError, command_line

_RUNS = command_line.define_path(
    "runs", "Directories with a report.json, or NAME=DIR.", many="listed", required=True
)
_OUTPUT = command_line.define_path("output", "Directory to write to.", required=True)
_COMPARE = flags.DEFINE_list("compare", [], "Names of two of the runs.")


def main() -> None:
    # Only now: a misspelt command is answered at once.
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.evals.tables import markdown, write_tables

    with command_line.explained(EvaluationError):
        runs = _named(_RUNS.value)
        names = tuple(_COMPARE.value)
        if names and (len(set(names)) != 2 or not runs.keys() >= set(names)):
            raise ConfigError(f"--compare: give two of {', '.join(runs)}, not {','.join(names)}")
        output = Path(_OUTPUT.value)
        tables = write_tables(runs, output, [names] if names else [])
        console = terminal.PlainConsole()
        for table in tables:
            console.print(markdown(table), markup=False, highlight=False, soft_wrap=True)
        console.print(f"tables: {output / 'tables.html'}", highlight=False)


def _named(runs: list[str]) -> dict[str, Path]:
    """Directories by name: NAME=DIR, or the last part of DIR."""
    found: dict[str, Path] = {}
    for run in runs:
        name, sign, path = run.partition("=")
        directory = Path(path if sign else run)
        name = name if sign else directory.name or str(directory)
        if name in found:
            raise ConfigError(f"--runs: two are called '{name}': write NAME={directory}")
        found[name] = directory
    return found


def run() -> None:
    command_line.run(main)

"""The commands: ``vljepa NAME``, or ``python launch/NAME.py`` from a checkout.

A module a command: its docstring is its help, its flags are defined as it is imported, and ``run``
runs it. What it imports at its top is light, so that ``--help`` and a misspelt flag answer at once.
"""

from __future__ import annotations

import importlib
import sys

from absl import flags

import vljepa_jax
from vljepa_jax.config import nearest
from vljepa_jax.data.light_grain import import_light

import_light()  # here Python comes first in the loading processes of a command

# In the order in which they are met; ``vljepa --help`` shows this.
COMMANDS = {
    "finetune": "adapts the small model to your own clips: from a table of captions to a report",
    "prepare": "turns your own videos, or a public dataset, into a dataset",
    "train": "trains a model, or continues a run",
    "eval": "scores a model and writes report.json and report.html",
    "calibrate": "measures what a model knows, so that search may answer: no match",
    "embed": "makes an index of a collection of videos",
    "search": "finds clips in an index by a text",
    "stream": "follows a live source and says what it shows",
    "app": "opens a page on which a model answers, searches and watches",
    "convert": "published weights in, trained weights out",
    "plan": "what training would cost on TPUs and GPUs that you do not have",
    "probe": "what can be read from a frozen X-Encoder's tokens",
    "noise": "chooses the noise that a Y-Decoder is trained with",
    "compare": "trains and evaluates the variants of a study",
    "tables": "the paper's tables, with rows of your own",
    "spread": "mean and spread of several runs' reports",
}


def main() -> None:
    """The program ``vljepa``."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_overview())
    elif name == "--version":
        print(vljepa_jax.__version__)
    elif name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        sys.exit(f"error: there is no command '{name}'{hint}; there are {', '.join(COMMANDS)}")
    else:
        # What messages call it, and under which name absl keeps the flags of a command's help.
        sys.argv = [f"vljepa {name}", *arguments]
        start(name)


def start(name: str) -> None:
    """Runs a command with the arguments of this process, and ends it with the command's status."""
    from vljepa_jax.config import command_line

    command = importlib.import_module(f"{__name__}.{name}")
    for flag in flags.FLAGS.get_key_flags_for_module(command.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    sys.modules["__main__"].__doc__ = command_line.as_called(command.__doc__)  # absl's --help
    command.run()


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return (
        f"vljepa_jax {vljepa_jax.__version__}: {vljepa_jax.__doc__}\n\n"
        f"usage: vljepa COMMAND [--flag=value ...]\n\n{rows}\n\n"
        "vljepa COMMAND --help shows examples and flags. Recipes (--config=...) are files or\n"
        "names of those that come with the package, as configs/demo.py or demo."
    )

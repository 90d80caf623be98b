"""Run with files: each is run by its path with --help, as where the project is installed.

What they share is imported once, and each runs in a fork of this process. Prints a JSON object: the
file -> [its status, its last words].
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import vljepa_jax.evals.run
import vljepa_jax.training.train_step  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]


def outcome(path):
    """Of the file, in this process: as Python runs it, and without the repository on the path."""
    sys.argv = [path, "--help"]
    elsewhere = [each for each in sys.path if not Path(each or ".").resolve().is_relative_to(ROOT)]
    sys.path = [os.path.dirname(path), *elsewhere]
    said, status = io.TextIOWrapper(io.BytesIO(), write_through=True), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            status = traceback.format_exc()
    return status, said.buffer.getvalue().decode()


def forked(path):
    reading, writing = os.pipe()
    if not os.fork():
        with open(writing, "w") as pipe:
            json.dump(outcome(path), pipe)
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        told = pipe.read()
    os.wait()
    return json.loads(told)


print(json.dumps({path: forked(path) for path in sys.argv[1:]}))

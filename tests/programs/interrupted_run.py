"""Trains, and kills itself with SIGKILL at a moment of a given step; run by other tests.

Moments: "logged", as the step is logged; of the step's checkpoint "begun", when its write has been
started, "complete", when it is about to get its name, and "named", when it has it and what it makes
superfluous is about to go.
"""

import json
import os
import signal
import sys
from pathlib import Path

from orbax.checkpoint._src.path import atomicity, deleter

from vljepa_jax import run_dir
from vljepa_jax.config import TrainConfig, parse
from vljepa_jax.training import train_loop


def kill_before(owner, name, is_the_moment):
    """Replaces a method by one that kills this process where the moment has come."""
    method = getattr(owner, name)

    def fatal(self, *arguments):
        if is_the_moment(self, *arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)

    setattr(owner, name, fatal)


def main(config_path, workdir, moment, fatal_step):
    step = int(fatal_step)
    if moment == "logged":
        write = train_loop.RunLog.write

        def write_and_die(self, at, metrics):
            write(self, at, metrics)
            if at == step:
                os.kill(os.getpid(), signal.SIGKILL)

        train_loop.RunLog.write = write_and_die
    elif moment == "begun":
        save = train_loop.Checkpoints.save

        def save_and_die(self, state, progress, value):
            save(self, state, progress, value)
            if progress["step"] == step:
                os.kill(os.getpid(), signal.SIGKILL)

        train_loop.Checkpoints.save = save_and_die
    elif moment == "complete":

        def is_of_the_step(path):
            return path._final_path.name == str(step)

        for kind in (atomicity.AtomicRenameTemporaryPath, atomicity.CommitFileTemporaryPath):
            kill_before(kind, "finalize", is_of_the_step)
    elif moment == "named":

        def is_after_the_step(self, steps):
            return run_dir.newest(Path(workdir)).name == str(step)

        kill_before(deleter.StandardCheckpointDeleter, "delete_steps", is_after_the_step)
    train_loop.train(parse(TrainConfig, json.loads(Path(config_path).read_text())), workdir)


main(*sys.argv[1:])

"""Run by test_train_loop.py: trains, and kills itself with SIGKILL as a given step is logged."""

import json
import os
import signal
import sys
from pathlib import Path

from vljepa_jax import train_loop
from vljepa_jax.config import TrainConfig, parse


def main(config_path, workdir, fatal_step):
    class FatalLog(train_loop.RunLog):
        def write(self, step, metrics):
            super().write(step, metrics)
            if step == int(fatal_step):
                os.kill(os.getpid(), signal.SIGKILL)

    train_loop.RunLog = FatalLog
    train_loop.train(parse(TrainConfig, json.loads(Path(config_path).read_text())), workdir)


main(*sys.argv[1:])

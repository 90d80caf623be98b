"""Run by test_multi_process.py: one process of a run.

It trains, by a program without a reduce-scatter (Gloo's hangs now and then), and evaluates twice.
Its rows of a batch go to rows-COUNT-INDEX.json in the workdir, the number of clips that it embedded
to embedded-COUNT-INDEX.json. With a step as last argument, the last process gets a SIGTERM when it
is about to make this step, and steps take longer, as the processes take some time to agree where to
stop.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import jax

from tests.helpers.evaluated import evaluate_run
from tests.helpers.small_run import small_evaluation
from vljepa_jax.config import TrainConfig, parse
from vljepa_jax.inference.model import Model
from vljepa_jax.training import train_loop
from vljepa_jax.training.train_step import Trainer


def without_reduce_scatter(compiled):
    assert "reduce-scatter" not in compiled.as_text()
    return compiled


def main(port, count, index, config_path, workdir, fatal_step):
    count, index, fatal_step = int(count), int(index), int(fatal_step)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    assert jax.process_count() == count
    workdir, put, compile_step = Path(workdir), Trainer.put, Trainer.compile
    steps = 0

    def watched_put(self, arrays):
        nonlocal steps
        steps += 1
        assert all(len(array) == len(self.local_rows) for array in arrays.values())
        path = workdir / f"rows-{count}-{index}.json"
        path.write_text(json.dumps(self.local_rows.tolist()))
        if fatal_step:
            time.sleep(0.5)
            if steps == fatal_step and index == count - 1:
                os.kill(os.getpid(), signal.SIGTERM)
        return put(self, arrays)

    Trainer.put = watched_put
    Trainer.compile = lambda self, spec: without_reduce_scatter(compile_step(self, spec))
    config = parse(TrainConfig, json.loads(Path(config_path).read_text()))
    train_loop.train(config, workdir)

    embedded, encode_clips = 0, Model.encode_clips

    def counted(self, clips):
        nonlocal embedded
        embedded += len(clips)
        return encode_clips(self, clips)

    Model.encode_clips = counted
    evaluation = small_evaluation(config)
    for again in (False, True):  # the second time, all that can be read is in the cache
        how = {"cache": workdir / "embeddings", "again": again}
        evaluate_run(workdir, evaluation, evaluation.benchmarks, workdir, **how)
    (workdir / f"embedded-{count}-{index}.json").write_text(json.dumps(embedded))


main(*sys.argv[1:])

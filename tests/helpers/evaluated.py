"""A run's evaluation, as ``launch/eval.py`` does it."""

import functools

import vljepa_jax
from vljepa_jax.evals.run import write_evaluation, write_sweep


def load_for(run_dir, config):
    return vljepa_jax.load(run_dir, frames=config.frames, batch_size=config.batch_size)


def evaluate_run(run_dir, config, benchmarks, output, study=None, *, skip_empty=False):
    model = load_for(run_dir, config)
    write_evaluation(model, config, benchmarks, output, study, skip_empty=skip_empty)


def sweep_run(run_dir, fields, settings, output):
    write_sweep(functools.partial(load_for, run_dir), fields, settings, output)

"""A run's evaluation, as ``launch/eval.py`` does it."""

import functools

import vljepa_jax
from vljepa_jax.evals.run import write_evaluation, write_sweep


def load_for(run_dir, config):
    return vljepa_jax.load(run_dir, frames=config.frames, batch_size=config.batch_size)


def evaluate_run(run_dir, config, benchmarks, output, study=None, **how):
    write_evaluation(load_for(run_dir, config), config, benchmarks, output, study, **how)


def sweep_run(run_dir, fields, settings, output):
    write_sweep(functools.partial(load_for, run_dir), fields, settings, output)

"""What a training says before and after it."""

import io
import re

import jax
import numpy as np

from tests.helpers.tiny import tiny_train_config
from vljepa_jax import terminal
from vljepa_jax.commands.train import next_commands
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training.banner import print_banner, short_number
from vljepa_jax.training.train_step import Trainer


def banner(config):
    trainer = Trainer(config, make_objective(config), make_mesh(config.sharding))
    out = io.StringIO()
    print_banner(config, trainer, terminal.PlainConsole(file=out, width=200))
    return trainer, dict(re.findall(r"^(\w+) +(.*?) *$", out.getvalue(), re.M))


def test_the_banner_counts_what_is_there():
    config = tiny_train_config(steps=3, batch_size=4)
    trainer, told = banner(config)
    assert told["devices"].startswith(f"{jax.device_count()} x cpu; mesh: data ")
    trained, frozen = trainer.optimizer.split(trainer.abstract_state.params)
    for row, tree in (("trained", trained), ("frozen", frozen)):
        sizes = {
            part: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(own))
            for part, own in tree.items()
        }
        total = sum(sizes.values())
        assert told[row].startswith(f"{short_number(total)} parameters: ")
        for part, size in sizes.items():
            assert (f"{part} {short_number(size)}" in told[row]) == (size > total / 1000)
    source = config.data.sources[0]
    assert told["data"].startswith(f"{source.path}, split 'train': {config.world.train_clips:,} ")
    assert told["steps"] == "3 of 4 rows, 12 in all"


def test_what_to_do_next_names_the_run_and_the_benchmarks_of_its_data():
    config = tiny_train_config()
    first, *_ = next_commands(config, "runs/my run")
    assert first.startswith(
        "python launch/eval.py --config=configs/eval/world.py --checkpoint='runs/my run' "
    )

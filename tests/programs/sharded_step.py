"""Run with 8 fake devices: one step of an objective on each mesh named on the command line.

A mesh is DATAxFSDPxTENSOR or, with micro-batches of so many rows, DATAxFSDPxTENSOR+ROWS. Writes
MESH.npz: loss and all gradients at the initial parameters and, for the last mesh, the losses of two
compiled steps from parameters that were drawn on the mesh itself.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import numpy as np

from tests.helpers.tiny import (
    fake_arrays,
    fake_decoded,
    fake_dialogues,
    fake_masked,
    fake_questions,
    fake_targets,
    tiny_maxsim_config,
    tiny_pretraining_config,
    tiny_probe_config,
    tiny_train_config,
    tiny_vlm_config,
    tiny_y_decoder_config,
)
from vljepa_jax.config import OptimizerRule
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh, path_name
from vljepa_jax.training.train_step import Trainer, make_gradients


def with_frozen_x_encoder(**overrides):
    config = tiny_train_config(**overrides)
    rule = OptimizerRule(
        pattern="^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    rules = (rule, *config.optimizer.rules)
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, rules=rules))


OBJECTIVES = {
    "vljepa": (tiny_train_config, fake_arrays),
    "vljepa, 42 rows": (functools.partial(tiny_train_config, batch_size=42), fake_arrays),
    "vljepa, frozen": (with_frozen_x_encoder, fake_arrays),
    "probe": (tiny_probe_config, fake_questions),
    "vlm": (tiny_vlm_config, fake_targets),
    "visual_reader": (tiny_maxsim_config, fake_dialogues),
    "vjepa2": (tiny_pretraining_config, fake_masked),
    "y_decoder": (tiny_y_decoder_config, fake_decoded),
}


def results(config, make_arrays, mesh, whole, compile_step):
    """``whole``: the single device's initial state, or None to draw it here, on the mesh."""
    objective = make_objective(config)
    trainer = Trainer(config, objective, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.abstract_state)
    state = trainer.init() if whole is None else jax.device_put(whole, shardings)
    arrays = trainer.put(make_arrays(config))
    gradients = jax.jit(make_gradients(config, objective, trainer.optimizer, mesh))
    loss, _, grads = gradients(state, arrays)
    found = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(grads)}
    on_first = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)]
    found |= {"loss": loss, "bytes_per_device": np.array(sum(on_first))}
    initial = jax.device_get(state)
    if compile_step:
        step = trainer.compile({name: (array.shape, array.dtype) for name, array in arrays.items()})
        state, first = step(state, arrays)
        _, second = step(state, arrays)
        found["step_losses"] = np.array([first["loss"], second["loss"]])
    return found, initial


def main(directory, name, *meshes):
    assert jax.device_count() == 8
    make_config, make_arrays = OBJECTIVES[name]
    whole = None
    for mesh_name in meshes:
        sizes, _, micro_batch_size = mesh_name.partition("+")
        data, fsdp, tensor = map(int, sizes.split("x"))
        config = make_config(micro_batch_size=int(micro_batch_size or 0))
        sharding = dataclasses.replace(config.sharding, data=data, fsdp=fsdp, tensor=tensor)
        config = dataclasses.replace(config, sharding=sharding)
        mesh = make_mesh(sharding, jax.devices()[: data * fsdp * tensor])
        last = mesh_name == meshes[-1]  # one alone: compiling takes long
        found, initial = results(
            config, make_arrays, mesh, None if last else whole, compile_step=last
        )
        np.savez(Path(directory) / f"{mesh_name}.npz", **found)
        whole = whole or initial


main(*sys.argv[1:])

"""Run by test_sharding.py, with 192 fake devices: steps traced for numbers of devices that divide
little. Prints, for each, the shapes that a device holds of two kernels of the predictor and of the
Y-Encoder.
"""

import dataclasses
import json

import jax

jax.config.update("jax_num_cpu_devices", 192)

from tests.helpers.tiny import tiny_train_config  # noqa: E402
from vljepa_jax.config import TrainConfig, load_recipe, parse  # noqa: E402
from vljepa_jax.data.pipeline import array_spec  # noqa: E402
from vljepa_jax.objectives import make_objective  # noqa: E402
from vljepa_jax.parallel.sharding import check_batch_size, make_mesh  # noqa: E402
from vljepa_jax.training.train_step import Trainer  # noqa: E402


def traced(config, devices):
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    check_batch_size(config.batch_size, config.micro_batch_size, mesh)
    trainer = Trainer(config, make_objective(config), mesh)
    loss = trainer.trace(array_spec(config)).out_info[1]["loss"]
    assert loss.shape == ()
    params = trainer.abstract_state.params
    kernels = [
        params["predictor"]["layers"]["mlp"]["up"]["kernel"],
        params["y_encoder"]["layers"]["mlp"]["up"]["kernel"],
    ]
    return [[leaf.shape, leaf.sharding.shard_shape(leaf.shape)] for leaf in kernels]


paper = parse(TrainConfig, load_recipe("configs/vljepa_1b.py", "image"))
found = {"192": traced(paper, 192)}
for devices in (6, 7, 12, 40):
    tiny = tiny_train_config(batch_size=2 * devices)
    sharding = dataclasses.replace(tiny.sharding, data=1, fsdp=-1, tensor=1)
    found[str(devices)] = traced(dataclasses.replace(tiny, sharding=sharding), devices)
print(json.dumps(found))

"""Run with fake devices: the plans of small steps beside what XLA counts of unrolled compiles.

    planned_step.py FILE NAME...

Writes JSON: {name: {"counted": FLOPs of a device, "xla": FLOPs of a device, "plan": ...}}.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)

from tests.helpers.tiny import tiny_train_config  # noqa: E402
from vljepa_jax.data.pipeline import array_spec  # noqa: E402
from vljepa_jax.objectives import make_objective  # noqa: E402
from vljepa_jax.parallel.sharding import make_mesh  # noqa: E402
from vljepa_jax.planning.plan import plan  # noqa: E402
from vljepa_jax.training.train_step import Trainer  # noqa: E402


def config(mesh, **model):
    """Wide enough for matrix products to be most of the arithmetic."""
    base, width = tiny_train_config(), 128
    sizes = {"hidden_size": width, "num_layers": 2, "num_heads": 4, "mlp_size": 4 * width}
    text = {"head_size": 32, "vocab_size": 512}
    parts = {
        "x_encoder": dataclasses.replace(base.model.x_encoder, **sizes),
        "predictor": dataclasses.replace(base.model.predictor, **sizes, **text),
        "y_encoder": dataclasses.replace(base.model.y_encoder, **sizes, **text),
    }
    data, fsdp = mesh
    return dataclasses.replace(
        base,
        batch_size=16,
        model=dataclasses.replace(base.model, **parts, embedding_size=64, **model),
        data=dataclasses.replace(
            base.data, video=dataclasses.replace(base.data.video, image_size=64)
        ),
        sharding=dataclasses.replace(base.sharding, data=data, fsdp=fsdp),
    )


def described(config):
    """The plan of a step, beside the compiler's words on its unrolled twin."""
    devices = jax.devices()[: config.sharding.data * config.sharding.fsdp]
    found = plan(config, devices)
    words = {
        "counted": found.flops / found.devices,
        "model": found.model_flops / found.devices,
        "bytes": found.bytes,
        "arguments": found.memory.total - found.memory.temporaries - found.memory.program,
        "sent": found.sent,
        "fits": found.fits,
        "roofline": found.roofline,
    }
    if config.model.unroll_layers:  # is its own twin
        return words
    unrolled = dataclasses.replace(
        config, model=dataclasses.replace(config.model, unroll_layers=True)
    )
    trainer = Trainer(unrolled, make_objective(unrolled), make_mesh(config.sharding, devices))
    compiled = trainer.compile(array_spec(unrolled))
    return words | {
        "xla": compiled.cost_analysis()["flops"],
        "xla_arguments": compiled.memory_analysis().argument_size_in_bytes,
    }


STEPS = {
    "one": lambda: config((1, 1)),
    "one, unrolled": lambda: config((1, 1), unroll_layers=True),
    "one, remat": lambda: config((1, 1), remat="full"),
    "four": lambda: config((2, 2)),
}
results = {name: described(STEPS[name]()) for name in sys.argv[2:]}
Path(sys.argv[1]).write_text(json.dumps(results))

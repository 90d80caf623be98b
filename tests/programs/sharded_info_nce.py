"""Run with 8 fake devices: InfoNCE of rows on a mesh, for test_info_nce.py.

Writes MESH.npz: the loss and its gradients by inputs, weights (divided over fsdp) and scale, and
MESH-gloo.npz: the same as processes on CPUs compute it. dropped.npz is the first mesh again, with
the gradients that cross devices left out. MESH.txt and MESH-gloo.txt are the compiled programs.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vljepa_jax import losses
from vljepa_jax.config import ShardingConfig
from vljepa_jax.losses import contrastive
from vljepa_jax.parallel.sharding import ROW_AXES, batch_sharding, make_mesh

LOGITS_AT_ONCE = 300  # a few rows' of a batch, and not a divisor of a device's


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def on_mesh(mesh, data):
    rows, whole = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    weight = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    layout = {"x": rows, "y": rows, "n": rows, "wx": weight, "wy": weight, "scale": whole}
    inputs = {name: jax.device_put(jnp.float32(data[name]), layout[name]) for name in layout}
    ids = jax.device_put(data["ids"], rows)
    negative_ids = jax.device_put(data["negative_ids"], rows)

    def loss(inputs):
        predicted, target = unit(inputs["x"] @ inputs["wx"]), unit(inputs["y"] @ inputs["wy"])
        negatives = unit(inputs["n"] @ inputs["wy"])
        return losses.info_nce(
            *(predicted, target, inputs["scale"], ids, negatives, negative_ids),
            mesh=mesh,
            logits_at_once=LOGITS_AT_ONCE,
        )

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(inputs).compile()
    (value, metrics), gradients = compiled(inputs)
    return {"loss": value, **metrics, **gradients}, compiled.as_text()


def main(directory, *meshes):
    assert jax.device_count() == 8
    data = dict(np.load(Path(directory) / "data.npz"))
    for name in meshes:
        sizes = dict(zip(("data", "fsdp", "tensor"), map(int, name.split("x")), strict=True))
        mesh = make_mesh(ShardingConfig(**sizes, rules=()))
        for suffix, uses_gloo in (("", False), ("-gloo", True)):
            contrastive._uses_gloo = lambda mesh, answer=uses_gloo: answer
            found, program = on_mesh(mesh, data)
            np.savez(Path(directory) / f"{name}{suffix}.npz", **found)
            (Path(directory) / f"{name}{suffix}.txt").write_text(program)

    gather = jax.lax.all_gather

    def gather_without_gradient(x, axes, **options):
        """A device's own rows keep their gradient, as where a library gathers plain values."""
        start = jax.lax.axis_index(ROW_AXES) * x.shape[0]
        others = jax.lax.stop_gradient(gather(x, axes, **options))
        return jax.lax.dynamic_update_slice_in_dim(others, x, start, axis=0)

    contrastive._uses_gloo = lambda mesh: False
    jax.lax.all_gather = gather_without_gradient
    sizes = dict(zip(("data", "fsdp", "tensor"), map(int, meshes[0].split("x")), strict=True))
    found, _ = on_mesh(make_mesh(ShardingConfig(**sizes, rules=())), data)
    np.savez(Path(directory) / "dropped.npz", **found)


main(*sys.argv[1:])

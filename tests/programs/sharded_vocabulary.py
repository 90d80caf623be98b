"""Run with 8 fake devices: cross-entropy of rows on a mesh, for test_vocabulary.py.

Writes MESH.npz, the loss and its gradients, and MESH.txt, the compiled program.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vljepa_jax import losses
from vljepa_jax.config import ShardingConfig
from vljepa_jax.parallel.sharding import batch_sharding, make_mesh


def main(directory, at_once, *meshes):
    assert jax.device_count() == 8
    data = dict(np.load(Path(directory) / "data.npz"))
    for name in meshes:
        sizes = dict(zip(("data", "fsdp", "tensor"), map(int, name.split("x")), strict=True))
        mesh = make_mesh(ShardingConfig(**sizes, rules=()))
        rows = batch_sharding(mesh)
        table = NamedSharding(mesh, PartitionSpec("tensor", "fsdp"))
        tokens, weights = (jax.device_put(data[name], rows) for name in ("tokens", "weights"))

        def loss(features, table, tokens, weights, mesh=mesh):
            nll, likeliest = losses.token_cross_entropy(
                *(features, lambda table, x: x @ table.T, table, tokens),
                mesh=mesh,
                logits_at_once=int(at_once),
            )
            return jnp.sum(weights * nll), (nll, likeliest)

        inputs = (
            jax.device_put(jnp.float32(data["features"]), rows),
            jax.device_put(jnp.float32(data["table"]), table),
            *(tokens, jnp.float32(weights)),
        )
        function = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        compiled = function.lower(*inputs).compile()
        (_, (nll, likeliest)), (of_features, of_table) = compiled(*inputs)
        np.savez(
            Path(directory) / f"{name}.npz",
            nll=nll,
            likeliest=likeliest,
            features=of_features,
            table=of_table,
        )
        (Path(directory) / f"{name}.txt").write_text(compiled.as_text())


main(*sys.argv[1:])

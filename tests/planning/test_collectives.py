"""What is sent, by hand, of programs that JAX itself divides over eight fake devices."""

import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from vljepa_jax.planning.collectives import sent_bytes

jax.config.update("jax_num_cpu_devices", 8)
mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
whole, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P("d"))

def sent(function, spec, out, *shapes):
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=spec) for s in shapes]
    compiled = jax.jit(function, out_shardings=out).lower(*arguments).compile()
    return sent_bytes(compiled.as_text())

gathered = sent(lambda x: x, divided, whole, (64, 32))
assert gathered == {"all-gather": 64 * 32 * 4 * 7 / 8}, gathered

summed = sent(lambda x: x.sum(axis=0), divided, whole, (64, 32))
assert summed == {"all-reduce": 2 * 32 * 4 * 7 / 8}, summed

def looped(x):  # each turn needs a sum over the devices
    return jax.lax.scan(lambda x, _: (x - x.mean(axis=0), None), x, None, length=5)[0]

in_loop = sent(looped, divided, divided, (64, 32))
assert in_loop == {"all-reduce": 5 * 2 * 32 * 4 * 7 / 8}, in_loop
assert sent(lambda x: x + 1, divided, divided, (64, 32)) == {}
"""


def test_what_is_sent():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]

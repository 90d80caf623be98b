import jax.numpy as jnp
import numpy as np

from vljepa_jax.fingerprint import fingerprint


def test_numbers_count_and_not_their_precision():
    """What a run in bfloat16 holds, and what its export does."""
    params = {"a": jnp.array([[1.5, -2.25], [0.1, 3.0]], jnp.bfloat16), "b": np.float32([1.0])}
    exported = {"a": np.asarray(params["a"], np.float32), "b": params["b"]}
    assert fingerprint({}, params) == fingerprint({}, exported)
    changed = {"a": exported["a"] + 1e-6, "b": params["b"]}
    assert fingerprint({}, changed) != fingerprint({}, exported)
    assert fingerprint({"c": 1}, params) != fingerprint({}, params)
    assert fingerprint({}, {"a": params["a"]}) != fingerprint({}, params)

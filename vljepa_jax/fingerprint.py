"""One short name for all that numbers depend on: settings and weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import numpy as np


def fingerprint(settings: Any, params: Any) -> str:
    """Names settings and weights: equal for equal ones, on any machine.

    Args:
        settings: plain values, fit for JSON.
        params: a tree of arrays; every byte counts, of half precision as those of the same numbers
            in float32: a run in bfloat16 holds such arrays, and its export does not.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        array = jax.device_get(leaf)
        if jax.dtypes.issubdtype(array.dtype, np.floating) and array.dtype.itemsize == 2:
            array = array.astype(np.float32)
        # The array's own memory, not a copy of its bytes: a token table has a gigabyte.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()[:16]

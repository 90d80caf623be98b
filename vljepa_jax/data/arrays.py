"""Arrays of .npy files, for several threads."""

from __future__ import annotations

import os
import threading
from typing import Any, BinaryIO

import numpy as np

_PARSING = threading.Lock()


def load_array(file: str | os.PathLike[str] | BinaryIO, **options: Any) -> np.ndarray:
    """``np.load``, by one thread at a time.

    A header is a Python literal, and Python 3.11 counts the depth of what it parses for all threads
    together: where two parse at once, one may raise a SystemError.
    """
    with _PARSING:
        return np.load(file, **options)

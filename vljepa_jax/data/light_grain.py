"""Grain without jax, in processes that only load.

Where jax and Orbax are installed Grain imports them, for one function each that loading does not
call: 50 MiB in each of a host's sixteen loading processes, and a second until each has begun. Grain
starts these processes and imports itself there, after Python has imported the program's own module:
that of a command calls ``import_light`` first (``commands``). In any other program nothing changes.
"""

from __future__ import annotations

import logging
import os
import sys

_LOADING = "VLJEPA_JAX_LOADING"  # in the environment of processes that only load


def announce() -> None:
    """Says that processes which are started from now on only load."""
    os.environ[_LOADING] = "1"


def import_light() -> None:
    """Imports Grain without jax, in a process that only loads; elsewhere does nothing."""
    # Python's name for a program's own module where another process imports it.
    started = "__mp_main__" in sys.modules and _LOADING in os.environ
    if not started or "jax" in sys.modules or "grain" in sys.modules:
        return
    logger = logging.getLogger("absl")
    level = logger.level
    sys.modules["jax"] = None  # an import of it fails, as where it is not installed
    logger.setLevel(logging.ERROR)  # of which Grain warns
    try:
        import grain  # noqa: F401
    finally:
        del sys.modules["jax"]
        logger.setLevel(level)

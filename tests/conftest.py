"""Tests run on the CPU, wherever they run; this must be set before jax is first used."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# The programs that tests start import tests.helpers too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
)
os.environ["JAX_PLATFORMS"] = "cpu"
# Tiny programs run once or twice: most of their time would be LLVM making them fast.
if "XLA_FLAGS" not in os.environ:
    plain = "--xla_backend_optimization_level=0"
    # Halves what is left; where jax does not know this flag, jax ends the process.
    quicker = f"{plain} --xla_cpu_use_fusion_emitters=false"
    asked = [sys.executable, "-c", "import jax; jax.devices()"]
    answer = subprocess.run(asked, env=os.environ | {"XLA_FLAGS": quicker}, capture_output=True)
    os.environ["XLA_FLAGS"] = plain if answer.returncode else quicker
# The same small programs are asked for by many tests, in all workers and in the commands that they
# start: what one has compiled, the others read. It lasts as long as the session, if we make it.
_COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.mkdtemp(prefix="vljepa_jax_compiled_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_unconfigure():
    if _COMPILED is not None:  # by whoever made it, not by a worker
        shutil.rmtree(_COMPILED)

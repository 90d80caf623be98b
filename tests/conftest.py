"""Tests run on the CPU, wherever they run; this must be set before jax is first used."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Tiny programs run once or twice: most of their time would be LLVM making them fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

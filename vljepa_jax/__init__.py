"""VL-JEPA in JAX: a vision-language model that predicts embeddings instead of tokens."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vljepa_jax.inference.embedder import Embedder
    from vljepa_jax.inference.load import load
    from vljepa_jax.inference.model import Model

__version__ = "0.1.0"
__all__ = ["Embedder", "Model", "load"]
_MODULES = {"Embedder": "embedder", "Model": "model", "load": "load"}


def __getattr__(name: str) -> Any:
    """Imports models on first use: loader workers import the package, and need no jax."""
    if name in __all__:
        return getattr(importlib.import_module(f"vljepa_jax.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

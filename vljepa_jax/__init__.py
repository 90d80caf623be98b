"""VL-JEPA in JAX: a vision-language model that predicts embeddings instead of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vljepa_jax.inference.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Imports the model on first use: loader workers import the package, and need no jax."""
    if name in __all__:
        from vljepa_jax.inference import model

        return getattr(model, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

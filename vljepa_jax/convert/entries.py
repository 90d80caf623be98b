"""Entries of modules that families name alike: torch's linear layers and norms with a bias."""

from vljepa_jax.convert.rules import Entry
from vljepa_jax.convert.transforms import LINEAR


def linear(theirs: str, ours: str) -> tuple[Entry, Entry]:
    """A linear layer with a bias."""
    return (
        Entry(f"{theirs}.weight", f"{ours}/kernel", LINEAR),
        Entry(f"{theirs}.bias", f"{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Entry, Entry]:
    """A LayerNorm."""
    return Entry(f"{theirs}.weight", f"{ours}/scale"), Entry(f"{theirs}.bias", f"{ours}/bias")


def fused(weight: str, bias: str, ours: tuple[str, ...]) -> tuple[Entry, ...]:
    """Linear layers whose weights the source has in one array, and whose biases in another."""
    count = len(ours)
    return tuple(
        entry
        for index, name in enumerate(ours)
        for entry in (
            Entry(weight, f"{name}/kernel", LINEAR, (index, count)),
            Entry(bias, f"{name}/bias", part=(index, count)),
        )
    )

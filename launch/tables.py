"""``vljepa tables``, from a checkout: vljepa_jax/commands/tables.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("tables")

"""``vljepa spread``, from a checkout: vljepa_jax/commands/spread.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("spread")

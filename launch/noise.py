"""``vljepa noise``, from a checkout: vljepa_jax/commands/noise.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("noise")

"""``vljepa convert``, from a checkout: vljepa_jax/commands/convert.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("convert")

"""``vljepa prepare``, from a checkout: vljepa_jax/commands/prepare.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("prepare")

"""``vljepa compare``, from a checkout: vljepa_jax/commands/compare.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("compare")

"""``vljepa search``, from a checkout: vljepa_jax/commands/search.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("search")

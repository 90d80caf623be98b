"""``vljepa embed``, from a checkout: vljepa_jax/commands/embed.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("embed")

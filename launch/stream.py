"""``vljepa stream``, from a checkout: vljepa_jax/commands/stream.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("stream")

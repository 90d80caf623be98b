"""``vljepa train``, from a checkout: vljepa_jax/commands/train.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("train")

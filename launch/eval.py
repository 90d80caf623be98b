"""``vljepa eval``, from a checkout: vljepa_jax/commands/eval.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("eval")

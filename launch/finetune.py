"""``vljepa finetune``, from a checkout: vljepa_jax/commands/finetune.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("finetune")

"""``vljepa plan``, from a checkout: vljepa_jax/commands/plan.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("plan")

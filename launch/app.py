"""``vljepa app``, from a checkout: vljepa_jax/commands/app.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("app")

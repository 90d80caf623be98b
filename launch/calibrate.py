"""``vljepa calibrate``, from a checkout: vljepa_jax/commands/calibrate.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("calibrate")

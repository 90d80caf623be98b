"""``vljepa probe``, from a checkout: vljepa_jax/commands/probe.py."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.start("probe")

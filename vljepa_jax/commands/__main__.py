"""``python -m vljepa_jax.commands``: the program ``vljepa`` where its script is not on the path."""

from vljepa_jax import commands

if __name__ == "__main__":
    commands.main()

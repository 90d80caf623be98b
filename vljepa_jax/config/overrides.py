"""``--sweep.FIELD=v1,v2``: one evaluation for each value of a config field.

Several swept fields give every combination.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from vljepa_jax.config import ConfigError
from vljepa_jax.config.command_line import check_field, overridable

_SWEEP = re.compile(r"--?sweep\.([^=]+)(?:=(.*))?$")
_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside brackets: a tuple is one value


def take_sweeps(argv: list[str]) -> dict[str, list[str]]:
    """Removes the --sweep arguments from ``argv``, which the flag library does not know.

    Returns:
        Values as written, by field: {"frames": ["4", "8"]}.

    Raises:
        ConfigError: an argument has no values.
    """
    sweeps: dict[str, list[str]] = {}
    for argument in list(argv):
        if match := _SWEEP.match(argument):
            field, values = match.groups()
            if not values:
                raise ConfigError(f"'{argument}' has no values: write --sweep.{field}=v1,v2")
            sweeps[field] = _COMMA.split(values)
            argv.remove(argument)
    return sweeps


def settings(
    config: ml_collections.ConfigDict, sweeps: Mapping[str, Sequence[str]]
) -> Iterator[tuple[tuple[str, ...], ml_collections.ConfigDict]]:
    """Yields (one value a field, config with these values) for every combination.

    Raises:
        ConfigError: a field is unknown (the nearest is named), or a value has the wrong type.
    """
    recipe = overridable(config)
    for field in sweeps:
        check_field(recipe, field)
    for values in itertools.product(*sweeps.values()):
        argv = [""] + [f"--config.{f}={v}" for f, v in zip(sweeps, values, strict=True)]
        parser = flags.FlagValues()
        holder = config_flags.DEFINE_config_dict(
            "config", copy.deepcopy(config), flag_values=parser, sys_argv=argv
        )
        try:
            parser(argv)
        except (flags.Error, TypeError) as error:
            raise ConfigError(str(error).replace("--config.", "--sweep.")) from error
        yield values, holder.value

"""Ordered tables of (regex, setting) over parameter paths, as sharding and optimiser use them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from vljepa_jax.config import ConfigError


class Rule(Protocol):
    pattern: str


def first_match(rules: Sequence[Rule], name: str, table: str) -> int | None:
    """Index of the first rule whose regex is found in ``name``, e.g. "predictor/norm/scale".

    Raises:
        ConfigError: a pattern is no regex; ``table`` says where it stands.
    """
    for index, rule in enumerate(rules):
        try:
            found = re.search(rule.pattern, name)
        except re.error as error:
            raise ConfigError(f"{table}[{index}]: '{rule.pattern}' is no regex: {error}") from error
        if found:
            return index
    return None

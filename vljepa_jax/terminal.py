"""The console of the commands: texts of others, names and captions, are printed as they are."""

from __future__ import annotations

from typing import Any

import rich.console
import rich.text

from vljepa_jax.data.records import shown


class PlainConsole(rich.console.Console):
    """A rich console that finds no colours in "[red]" and no pictures in ":dog:".

    Control characters, which a terminal would obey, are shown as escapes. What shall have a style
    is given as ``rich.text.Text``, or with ``style``.
    """

    def __init__(self, **options: Any) -> None:
        """``options`` are those of rich's own."""
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> rich.text.Text:
        """As rich's; strings to print and those in tables come through here."""
        return super().render_str("\n".join(map(shown, text.split("\n"))), **options)

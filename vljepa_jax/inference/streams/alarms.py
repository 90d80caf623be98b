"""Which of what a stream shows is an event for others: labels that hold, no oftener than wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vljepa_jax.inference.streams.narrator import Labels, Said


class Alarms:
    """Makes events of what is said, with a pause for each label of each source.

    Attributes:
        held_back: events that came within the pause after another.
    """

    def __init__(
        self,
        deliver: Callable[[Mapping[str, Any]], None],
        labels: Labels | None,
        cooldown: float,
    ) -> None:
        """See ``consider``.

        Args:
            deliver: takes an event; returns at once.
            labels: that are monitored; ``None`` where texts are said.
            cooldown: seconds of the stream, after an event, in which its label makes no other.
        """
        self.held_back = 0
        self._deliver, self._labels, self._cooldown = deliver, labels, cooldown
        self._quiet_until: dict[tuple[str, str], float] = {}

    def consider(self, said: Said, unlike: bool, fields: Mapping[str, Any]) -> None:
        """Delivers an event for each label that holds, or for a text that is new.

        Args:
            said: what was said.
            unlike: whether the source is unlike the training clips, of which nothing is known.
            fields: of the event, as ``Events`` writes it: the source, times, scores.
        """
        if unlike:
            return
        if self._labels is not None:
            names = self._labels.holding(said.scores)
        else:
            names = [said.text] if said.new else []
        for name in names:
            # Texts are many: they share the pause of their source.
            key = fields["source"], name if self._labels is not None else ""
            if said.end < self._quiet_until.get(key, said.end):
                self.held_back += 1
                continue
            self._quiet_until[key] = said.end + self._cooldown
            score = {"score": round(said.scores[name], 4)} if name in said.scores else {}
            self._deliver({**fields, "text": name, **score})

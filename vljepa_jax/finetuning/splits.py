"""What is held out: to choose the checkpoint by ("validation"), and to report on ("test").

All examples of a medium go together, and the choice depends on the media's names alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence

from vljepa_jax.finetuning.columns import Example
from vljepa_jax.finetuning.tables import SPLITS, TableError

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def split_examples(examples: Sequence[Example], share: float, seed: int) -> list[str]:
    """The split of each example, the table's own where it has them.

    Args:
        share: of the media, held out for the report; half as many choose the checkpoint. Of each
            label by itself, so that all are there. Splits that the table lacks are taken of its
            training examples.

    Raises:
        TableError: there are too few media, or a medium is in two splits of the table.
    """
    groups = _groups(examples)
    own = [_known(example.split) for example in examples]
    given: dict[int, str] = {}
    for group, split in zip(groups, own, strict=True):
        if split and given.setdefault(group, split) != split:
            raise TableError(
                f"some clip of the split '{split}' is in '{given[group]}' too: what is held out "
                "must not be trained on. Mend the column, or draw splits anew with --columns=split="
            )
    if given and TRAIN not in given.values():
        raise TableError(
            f"the splits are {', '.join(sorted(set(given.values())))}, and none is '{TRAIN}': name "
            "one so, or draw splits anew with --columns=split="
        )
    names, labels = {}, {}
    for group, example in zip(groups, examples, strict=True):
        names.setdefault(group, os.path.basename(example.media[0]))
        if given.get(group, TRAIN) == TRAIN:
            labels.setdefault(group, example.label)
    drawn = {group: split for group, split in given.items() if split != TRAIN}
    for split, wanted in ((TEST, share), (VALIDATION, share / 2)):
        if split not in given.values():
            order = sorted(labels, key=lambda group: _digest(f"{seed} {split} {names[group]}"))
            drawn |= dict.fromkeys(_draw(order, labels, drawn, wanted), split)
    missing = {TRAIN, VALIDATION, TEST} - {drawn.get(group, TRAIN) for group in groups}
    if missing:
        count = len(set(groups))
        raise TableError(
            f"{count} {'clip is' if count == 1 else 'clips are'} too few to hold any out "
            f"({share:.0%} to report on, half as many to choose a checkpoint by): give "
            "three at least, or three of each label"
        )
    return [drawn.get(group, TRAIN) for group in groups]


def _known(split: str) -> str:
    if not split:
        return ""
    if split.lower() not in SPLITS:
        raise TableError(
            f"the split '{split}' is none of {', '.join(SPLITS)}: rename it, or draw splits anew "
            "with --columns=split="
        )
    return SPLITS[split.lower()]


def _groups(examples: Sequence[Example]) -> list[int]:
    """A number for each example; equal where they share a medium, directly or through others."""
    parent: dict[str, str] = {}

    def root(medium: str) -> str:
        while parent.setdefault(medium, medium) != medium:
            medium = parent[medium]
        return medium

    for example in examples:
        first, *others = map(root, example.media)
        for other in others:
            parent[root(other)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(example.media[0]), len(numbers)) for example in examples]


def _draw(
    order: Sequence[int], labels: Mapping[int, str], drawn: Collection[int], share: float
) -> list[int]:
    """The first groups that are not drawn yet, a share of each label; one at least stays."""
    chosen = []
    for label in sorted(set(labels.values())):
        own = [group for group in order if labels[group] == label]
        left = [group for group in own if group not in drawn]
        chosen += left[: min(max(1, round(share * len(own))), len(left) - 1)]
    return chosen


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape")).digest()

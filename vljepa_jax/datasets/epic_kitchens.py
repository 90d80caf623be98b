"""EPIC-KITCHENS-100: recognition and anticipation of actions, each a verb and a noun."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.data.records import Label
from vljepa_jax.datasets.adapter import (
    Adapter,
    Official,
    OfficialFile,
    Split,
    manifest_row,
)

# (number of the verb, of the noun)
Action = tuple[int, int]

# What is shown ends so many seconds before the action begins (paper; 1 s is the official task).
ANTICIPATION_TIMES = (1, 2, 4, 10)
# Seconds that are shown: V-JEPA 2 takes 32 frames at 8 frames per second.
CONTEXT = 4.0

_ALL, _SEEN = "epic_kitchens_100", "epic_kitchens_100_training"
_COLUMNS = (
    "narration_id",
    "participant_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "narration",
    "verb_class",
    "noun_class",
)


def _labels(official: Official) -> dict[str, list[Label]]:
    """Each action with its different narrations: those of training by number, then the others."""
    narrations: dict[Action, dict[str, None]] = {}
    ordered: list[Action] = []
    seen = 0
    for role in ("train", "validation"):
        seen = len(ordered)
        for row in official.table(role, _COLUMNS):
            narrations.setdefault(_action(row), {})[row["narration"].strip()] = None
        ordered += sorted(narrations.keys() - set(ordered))
    labels = [Label(_name(action), tuple(narrations[action])) for action in ordered]
    return {_ALL: labels, _SEEN: labels[:seen]}


def _places(official: Official) -> dict[str, int]:
    """The place of each action among all, by its name."""
    return {label.id: place for place, label in enumerate(_labels(official)[_ALL])}


def _recognition(official: Official) -> Iterator[ManifestRow]:
    index = _places(official)
    for row in official.table(official.split, _COLUMNS):
        start, end = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
        yield _row(official, row["narration_id"], row, start, end, index, {})


def _anticipation(official: Official) -> Iterator[ManifestRow]:
    index = _places(official)
    for row in official.table(official.split, _COLUMNS):
        for time in ANTICIPATION_TIMES:
            end = round(_seconds(row["start_timestamp"]) - time, 3)
            identity = f"{row['narration_id']}/{time}"
            start = round(end - CONTEXT, 3)
            yield _row(official, identity, row, start, end, index, {"tau": time})


def _row(
    official: Official,
    identity: str,
    row: dict[str, str],
    start: float,
    end: float,
    index: dict[str, int],
    tags: dict[str, object],
) -> ManifestRow:
    action = _action(row)
    return manifest_row(
        identity,
        media=[
            official.medium(
                start=start, end=end, participant=row["participant_id"], video=row["video_id"]
            )
        ],
        labels=_ALL,
        gold=index[_name(action)],
        tags={"verb": action[0], "noun": action[1], "narration": row["narration"], **tags},
    )


def _action(row: dict[str, str]) -> Action:
    return int(row["verb_class"]), int(row["noun_class"])


def _name(action: Action) -> str:
    return f"{action[0]}:{action[1]}"


def _seconds(timestamp: str) -> float:
    """ "00:01:02.50" -> 62.5."""
    hours, minutes, seconds = timestamp.split(":")
    return round(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 3)


RECOGNITION = Adapter(
    name="epic_kitchens_100",
    title="EPIC-KITCHENS-100, action recognition",
    citation="Damen et al., IJCV 2022 (arXiv 2006.13256)",
    licence="CC BY-NC 4.0",
    home="https://github.com/epic-kitchens/epic-kitchens-100-annotations",
    task="classification",
    files=(
        OfficialFile("train", ("EPIC_100_train.csv",), "its home"),
        OfficialFile("validation", ("EPIC_100_validation.csv",), "its home"),
    ),
    media=(
        "{participant}/videos/{video}.MP4",
        "{participant}/{video}.MP4",
        "EPIC-KITCHENS/{participant}/videos/{video}.MP4",
    ),
    splits=(Split("train", 67_217, 495), Split("validation", 9_668, 138)),
    known_from="the official file of validation, whole; that of training has the same columns",
    read=_recognition,
    read_labels=_labels,
    label_counts={_ALL: 3_806, _SEEN: 3_568},
    notes=(
        "An action is a pair of verb and noun: 3,568 occur in training, 3,806 in training or"
        " validation. The former come first, so that a number means the same in both label sets.",
        "The texts of an action are all its different narrations in training and validation, as"
        " LaViLa has them, which takes their mean.",
        "Times are the timestamps: frame numbers do not fit the rates of all videos.",
    ),
)


ANTICIPATION = dataclasses.replace(
    RECOGNITION,
    name="epic_kitchens_100_anticipation",
    title="EPIC-KITCHENS-100, action anticipation",
    splits=tuple(
        Split(split.name, split.rows and split.rows * len(ANTICIPATION_TIMES), split.media)
        for split in RECOGNITION.splits
    ),
    read=_anticipation,
    notes=(
        *RECOGNITION.notes,
        "One row an action and time: tags.tau is 1, 2, 4 or 10 seconds, what is shown ends so long"
        f" before the action begins, and lasts {CONTEXT:g} s.",
        "Spans may begin, and end, before 0: such moments show the first frame.",
        "Scores over the 3,568 actions of training leave 372 of the 9,668 actions without an"
        " answer, those whose gold is 3,568 or more; V-JEPA 2 drops them and keeps 9,296. Its"
        " released code lets what is shown end 1 s before the action's end: not done here.",
    ),
)

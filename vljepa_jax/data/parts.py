"""What a dataset's metadata says of the parts of a split, in a few arrays.

A split of a billion records has a hundred thousand parts, and each loading process holds what is
said of them: some 40 bytes a part, and nothing of a record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

MOST_ENTRIES = 1 << 32  # of a part: its table numbers them with 32 bits


@dataclasses.dataclass(frozen=True)
class Part:
    """A part as the metadata describes it.

    Attributes:
        media: number of media records.
        annotations: their number.
        tasks: names, which ``shards.TABLE`` refers to.
        paths: whether a medium is a file outside of the dataset, or in an archive; ``None`` in
            datasets that were written before this was told.
        trainable: number of media records by the tasks of their training examples, which are
            written as indices into ``tasks``, ascending, with commas between: {"0": 9, "0,2": 1};
            "" is for records without any. ``None`` as for ``paths``.
    """

    media: int
    annotations: int
    tasks: tuple[str, ...]
    paths: bool | None = None
    trainable: Mapping[str, int] | None = None

    @classmethod
    def parse(cls, fields: Any) -> Part:
        """Reads a part of the metadata.

        Raises:
            TypeError, ValueError: it is none.
        """
        part = cls(**{**fields, "tasks": tuple(fields["tasks"])})
        counts = [part.media, part.annotations, *(part.trainable or {}).values()]
        if not all(isinstance(n, int) and 0 <= n < MOST_ENTRIES for n in counts):
            raise ValueError("a part has a number of entries that none can have")
        if not all(isinstance(task, str) for task in part.tasks):
            raise TypeError("a part has a task that is no text")
        if part.trainable is not None and sum(part.trainable.values()) != part.media:
            raise ValueError("a part's counts of training examples are not of its records")
        for key in part.trainable or ():
            if not all(0 <= int(task) < len(part.tasks) for task in key.split(",") if task):
                raise ValueError("a part counts training examples of a task that it has not")
        return part


class Parts:
    """The parts of a split.

    Attributes:
        media, annotations: of each part, int64 [P].
    """

    def __init__(self, parts: Iterable[Part]):
        listed = list(parts)
        self.media = np.array([part.media for part in listed], np.int64)
        self.annotations = np.array([part.annotations for part in listed], np.int64)
        self._paths = np.array([-1 if p.paths is None else p.paths for p in listed], np.int8)
        names: dict[tuple[str, ...], int] = {}
        keys: dict[str, int] = {}
        self._task_list = np.array(
            [names.setdefault(part.tasks, len(names)) for part in listed], np.uint32
        )
        self._task_lists = tuple(names)
        # Of all parts the entries of ``trainable``, one after another; -1 where it is not told.
        entries = [(p.trainable or {}).items() for p in listed]
        self._told = np.array([part.trainable is not None for part in listed], bool)
        self._ends = np.cumsum([len(own) for own in entries], dtype=np.int64)
        self._key = np.array(
            [keys.setdefault(key, len(keys)) for own in entries for key, _ in own], np.uint32
        )
        self._count = np.array([count for own in entries for _, count in own], np.int64)
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> Part:
        first = self._ends[index - 1] if index else 0
        own = range(int(first), int(self._ends[index]))
        return Part(
            int(self.media[index]),
            int(self.annotations[index]),
            self.tasks(index),
            None if self._paths[index] < 0 else bool(self._paths[index]),
            {self._keys[self._key[i]]: int(self._count[i]) for i in own}
            if self._told[index]
            else None,
        )

    def __iter__(self) -> Iterator[Part]:
        return map(self.__getitem__, range(len(self)))

    def tasks(self, index: int) -> tuple[str, ...]:
        """The names of a part's tasks."""
        return self._task_lists[self._task_list[index]]

    @property
    def untold(self) -> list[int]:
        """The parts whose training examples the metadata does not count."""
        return np.flatnonzero(~self._told).tolist()

    def trainable_tasks(self) -> set[str]:
        """The tasks of training examples, as far as the metadata counts them."""
        lists, keys = self._entries
        pairs = np.unique(np.stack([lists, keys]), axis=1).T.tolist()
        return {task for pair in pairs for task in self._tasks_of(*pair)}

    def trainable_records(self, tasks: Collection[str]) -> np.ndarray:
        """Of each part the records with a training example of these tasks, int64 [P].

        -1 where the metadata does not say.
        """
        lists, keys = self._entries
        wanted = np.zeros((len(self._task_lists), len(self._keys)), bool)
        for pair in np.unique(np.stack([lists, keys]), axis=1).T.tolist():
            wanted[tuple(pair)] = not self._tasks_of(*pair).isdisjoint(tasks)
        found = np.zeros(len(self), np.int64)
        np.add.at(found, self._owner, np.where(wanted[lists, keys], self._count, 0))
        return np.where(self._told, found, -1)

    @property
    def _owner(self) -> np.ndarray:
        """Of each entry of ``trainable`` its part."""
        return np.repeat(np.arange(len(self)), np.diff(self._ends, prepend=0))

    @property
    def _entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each entry of ``trainable`` the number of its part's list of tasks, and of its key."""
        return self._task_list[self._owner], self._key

    def _tasks_of(self, task_list: int, key: int) -> set[str]:
        own = self._task_lists[task_list]
        return {own[int(task)] for task in self._keys[key].split(",") if task}

"""The files that a path, a folder or a glob pattern names.

Linked folders are followed, each real folder once, so that links in a circle end.
"""

from __future__ import annotations

import collections
import functools
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator

from vljepa_jax.data.kinds import looks_like_media
from vljepa_jax.data.records import shown


def media_files(source: str, faults: list[str]) -> Iterator[str]:
    """Finds files.

    Args:
        source: a path, if there is one of this name, else a glob pattern, where "**" stands for
            folders at any depth. Of a folder, all videos and images below it are taken
            (``kinds.looks_like_media``) but for what begins with a dot; a file, and what a
            pattern matches, are taken as they are.
        faults: gets a line for each link that leads nowhere and each folder that cannot be opened.

    Yields:
        Absolute paths, in no order. A pattern may give a file by several paths (``each_once``).
    """
    if os.path.isdir(source):
        entries = (entry for _, others in _folders(source, faults) for entry in others)
        paths = (entry.path for entry in entries if _is_wanted(entry))
    else:
        paths = [source] if os.path.lexists(source) else _matches(source, faults)
    for path in map(_absolute, paths):
        if os.path.isfile(path):
            yield path
        elif not os.path.exists(path):
            faults.append(f"{shown(path)}: links to what is not there")


def each_once(paths: Iterable[str]) -> list[str]:
    """Absolute paths without those that lead to the same file through linked folders.

    Of several the one without links stays, else the shortest. Links to a file are files here.
    """
    real_folder = functools.cache(os.path.realpath)
    chosen: dict[str, tuple[bool, int, str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        real = os.path.join(real_folder(folder), name)
        rank = (path != real, len(path), path)
        chosen[real] = min(rank, chosen.get(real, rank))
    return [path for *_, path in chosen.values()]


def why_nothing(source: str) -> str:
    """The message about a source that names no clip."""
    if os.path.exists(source):
        return f"'{shown(source)}' holds no video or image"
    reason = f"'{shown(source)}' names no video: there is no such path"
    if glob.has_magic(source):
        reason += (
            ", and as a pattern it matches nothing; in a pattern [, * and ? of a name are written "
            "[[], [*] and [?]"
        )
    return reason


def _folders(folder: str, faults: list[str]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """A folder and those below it, each with its files and broken links.

    Linked ones come last, so that a folder that is there itself too has its own name.
    """
    folders, linked = collections.deque([folder]), collections.deque[str]()
    seen: set[tuple[int, int]] = set()
    while folders or linked:
        folder = (folders or linked).popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            faults.append(f"{shown(_absolute(folder))}: cannot be opened ({error.strerror})")
            continue
        others = []
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                linked.append(entry.path)
            else:
                others.append(entry)
        yield folder, others


def _is_wanted(entry: os.DirEntry[str]) -> bool:
    """Whether it is a video, an image, or a broken link that may have been one."""
    if entry.is_symlink():
        plain = os.path.isfile(entry.path) or not os.path.exists(entry.path)
    else:
        plain = entry.is_file()
    return plain and looks_like_media(entry.path)  # which would wait for the writer of a pipe


def _matches(pattern: str, faults: list[str]) -> Iterator[str]:
    """``glob.iglob(pattern, recursive=True)``, but for the real folders of a "**" once each.

    Python's own goes round in a circle of links until the name is too long.
    """
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    depth = parts.index("**")
    head = os.sep.join(parts[:depth]) or (os.sep if depth else os.curdir)
    rest = [part for part in parts[depth + 1 :] if part] or ["*"]
    for base in filter(os.path.isdir, glob.iglob(head)):
        for folder, _ in _folders(base, faults):
            yield from _matches(os.path.join(glob.escape(folder), *rest), faults)


def _absolute(path: str) -> str:
    return str(pathlib.Path(path).absolute())

"""The encoded bytes of a medium, wherever they are: embedded, a file, or a member of an archive."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import pathlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from vljepa_jax.config import nearest
from vljepa_jax.data.records import ClipError, Medium, clip_error
from vljepa_jax.places import file_stamp


def open_bytes(medium: Medium) -> BinaryIO:
    """Opens a medium; position 0 is its first byte.

    Raises:
        ClipError: the file is not there, or the archive is shorter than the member's place in it.
    """
    if not medium.path:
        return io.BytesIO(medium.data)
    with _explained(medium):
        if medium.length is None:
            return open(medium.path, "rb")
        file = open(medium.path, "rb", buffering=0)  # noqa: SIM115 (closed with the member)
    member = io.BufferedReader(_Member(file, medium.offset, medium.length))
    if os.fstat(file.fileno()).st_size < medium.offset + medium.length:
        member.close()
        raise clip_error(medium, "the archive is shorter than that: prepare the dataset anew")
    return member


def read_bytes(medium: Medium, count: int = -1) -> bytes:
    """Reads a medium.

    Args:
        count: of its first bytes; -1 for all.

    Raises:
        ClipError: as ``open_bytes``, or the file cannot be read.
    """
    if not medium.path:
        return medium.data if count < 0 else medium.data[:count]
    with _explained(medium), open_bytes(medium) as file:
        return file.read(count)


def stamp(medium: Medium) -> str:
    """Changes with the content: size and time of a file, a hash of embedded bytes and their span.

    Raises:
        ClipError: the file is not there.
    """
    if medium.data:
        span = f"{medium.start} {medium.end}".encode()
        return hashlib.sha256(span + medium.data).hexdigest()[:16]
    try:
        return file_stamp(pathlib.Path(medium.path))
    except (OSError, ValueError) as error:  # no file has a name with \0
        reason = getattr(error, "strerror", None) or error
        raise clip_error(medium, f"cannot be opened ({reason})") from error


def embedded(medium: Medium) -> Medium:
    """The medium with its bytes in it, and the same span.

    Raises:
        ClipError: as ``read_bytes``.
    """
    return Medium(read_bytes(medium), start=medium.start, end=medium.end)


def find_member(path: str, name: str) -> tuple[int, int]:
    """Where a file of a tar archive lies, as ``offset`` and ``length`` of a medium.

    Raises:
        ClipError: the archive is no uncompressed tar, or has no such file.
    """
    archive = Medium(path=path)
    with _explained(archive):
        status = os.stat(path)
    try:
        members = _members(path, status.st_size, status.st_mtime_ns)
    except tarfile.TarError as error:
        raise clip_error(archive, f"is no uncompressed tar archive ({error})") from error
    if name not in members:
        raise clip_error(archive, f"has no file '{name}'{nearest(name, members)}")
    return members[name]


@functools.lru_cache(maxsize=16)
def _members(path: str, size: int, changed: int) -> dict[str, tuple[int, int]]:
    """The files of an archive in one state: rows that follow each other share an archive."""
    with tarfile.open(path, "r:") as archive:
        return {
            member.name: (member.offset_data, member.size)
            for member in archive
            if member.isreg() and not member.issparse()
        }


class _Member(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: io.FileIO, offset: int, length: int):
        self._file, self._offset, self._length, self._position = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), self._length - self._position))
        self._file.seek(self._offset + self._position)
        read = self._file.readinto(memoryview(buffer)[:count])
        self._position += read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _explained(medium: Medium) -> Iterator[None]:
    try:
        yield
    except ClipError:
        raise
    except (OSError, ValueError) as error:  # no file has a name with \0
        reason = getattr(error, "strerror", None) or error
        raise clip_error(medium, f"cannot be opened ({reason})") from error

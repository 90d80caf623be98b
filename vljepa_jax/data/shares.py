"""A source of rows, divided into shares that are read without knowing of each other.

A share is some of a source's pieces: whole files, or the lines of a file that begin within a range
of its bytes. What a share holds depends on the files alone, not on who reads it or when.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from vljepa_jax.data.records import Medium, Record, shown

_BLOCK = 1 << 20  # bytes that are hashed at a time


class SourceError(ValueError):
    """A source that cannot be used at all; the message names the file and the mend."""


class UnreadableFile(ValueError):
    """Why the rest of a file cannot be read: ``kind`` as in ``Refused``, and the reason."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class Piece:
    """A file of a source, or the lines of it that begin within a range of its bytes.

    Attributes:
        path: absolute.
        start, end: bytes; ``None`` is the end of the file.
    """

    path: str
    start: int = 0
    end: int | None = None


Share = tuple[Piece, ...]


@dataclasses.dataclass(frozen=True)
class Refused:
    """A row that cannot be used.

    Attributes:
        id: of the row; "" where it has none.
        kind: a short name to count by, e.g. "no image".
        reason: what is wrong, as one line to show.
    """

    id: str
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class RecordSource(abc.ABC):
    """Files -> records; a few settings, so that it can be sent to other machines.

    Attributes:
        card: what is known of the source: name, title, citation, licence, home.
        root: the folder of its files.
    """

    card: Mapping[str, Any]
    root: str

    @abc.abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yields all pieces, in an order of their own.

        Raises:
            SourceError: there are none.
        """

    @abc.abstractmethod
    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        """Yields the rows of a piece, in their order; media are neither opened nor embedded.

        Records that follow each other and have the same media become one.

        Raises:
            UnreadableFile: the rest of the file cannot be read, or has another format.
        """


def divide(pieces: Iterator[Piece], size: int) -> list[Share]:
    """Pieces that follow each other, of ``size`` bytes together or just above, to a share each."""
    shares: list[Share] = []
    share: list[Piece] = []
    total = 0
    for piece in pieces:
        share.append(piece)
        end = os.path.getsize(piece.path) if piece.end is None else piece.end
        total += end - piece.start
        if total >= size:
            shares.append(tuple(share))
            share, total = [], 0
    if share:
        shares.append(tuple(share))
    return shares


def line_pieces(path: str, size: int) -> Iterator[Piece]:
    """The ranges of ``size`` bytes of a file of lines."""
    total = os.path.getsize(path)
    for start in range(0, total, size):
        yield Piece(path, start, min(start + size, total))


def lines(piece: Piece) -> Iterator[tuple[int, bytes]]:
    """The lines that begin within a piece, each with the byte that it begins at."""
    with _opened(piece.path) as file:
        position = piece.start
        if position:
            file.seek(position - 1)
            position += len(file.readline()) - 1  # to the end of the line that began before
        while piece.end is None or position < piece.end:
            line = file.readline()
            if not line:
                break
            yield position, line
            position += len(line)


def digest(piece: Piece) -> str:
    """The SHA-256 of a piece's bytes, in hexadecimal digits."""
    found = hashlib.sha256()
    with _opened(piece.path) as file:
        file.seek(piece.start)
        left = float("inf") if piece.end is None else piece.end - piece.start
        while left > 0 and (block := file.read(int(min(_BLOCK, left)))):
            found.update(block)
            left -= len(block)
    return found.hexdigest()


def readable(source: RecordSource, piece: Piece) -> Iterator[Record | Refused]:
    """The rows of a piece; what damage hides of it is one row that is refused."""
    try:
        yield from source.read(piece)
    except UnreadableFile as error:
        yield Refused("", error.kind, shown(f"{piece.path}: {error}"))


def grouped(rows: Iterator[Record | Refused]) -> Iterator[Record | Refused]:
    """Records that follow each other and have the same media become one, named as the first."""
    waiting: list[Record] = []

    def joined() -> Iterator[Record]:
        if waiting:
            annotations = tuple(a for record in waiting for a in record.annotations)
            yield dataclasses.replace(waiting[0], annotations=annotations)
            waiting.clear()

    for row in rows:
        if isinstance(row, Refused):
            yield row
            continue
        if waiting and row.media != waiting[0].media:
            yield from joined()
        waiting.append(row)
    yield from joined()


def medium_below(
    root: str, path: str, *, start: float | None = None, end: float | None = None
) -> Medium | None:
    """The medium of a name that a source's files give; ``None`` where it leads out of the root."""
    if os.path.isabs(path) or "\0" in path:
        return None
    if os.pardir in path and os.path.normpath(path).split(os.sep)[0] == os.pardir:
        return None
    return Medium(path=os.path.join(root, path), start=start, end=end)


def leads_out(id: str, path: str) -> Refused:
    """The refusal of such a name."""
    return Refused(id, "name leads out of the root", f"'{shown(path)}'")


def decoded(data: bytes) -> str | None:
    """UTF-8 bytes as text; ``None`` where they are none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def paths_below(root: str, endings: Sequence[str]) -> list[str]:
    """The files below a folder whose names end so, sorted; names that begin with a dot are not.

    Raises:
        SourceError: there are none.
    """
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(folder, name)
            for name in files
            if name.endswith(tuple(endings)) and not name.startswith(".")
        ]
    if not found:
        raise SourceError(f"there is no {' nor '.join(f'*{e}' for e in endings)} below {root}")
    return sorted(found)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UnreadableFile("damaged file", f"cannot be opened ({error.strerror})") from error

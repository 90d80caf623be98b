"""Samples in tar archives: webdataset, as img2dataset writes DataComp.

The members of a sample follow each other and differ in their endings: ``000012.jpg``,
``000012.txt``, ``000012.json``. Archives are read in place: a medium is its place in one.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from vljepa_jax.data.kinds import MEDIA_EXTENSIONS
from vljepa_jax.data.records import Medium, Record, shown
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    UnreadableFile,
    decoded,
    leads_out,
    medium_below,
    paths_below,
)
from vljepa_jax.datasets.columns import (
    Columns,
    caption_record,
    conversation_rows,
    field_of,
    find_column,
)

_TEXTS = ("txt", "caption", "json.caption")
_CONVERSATIONS = ("json.conversations", "json.messages")


@dataclasses.dataclass(frozen=True)
class WebDataset(RecordSource):
    """Tar archives below a folder.

    A sample without an image is refused, and so is one whose key was there in its archive before.

    Attributes:
        root: the folder.
        columns: endings of the members that are wanted.
        task: of conversations, as ``columns.conversation_rows``.
    """

    columns: Columns = Columns()
    task: str = ""

    def pieces(self) -> Iterator[Piece]:
        return map(Piece, paths_below(self.root, (".tar",)))

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        name = os.path.relpath(piece.path, self.root).removesuffix(".tar")
        seen: set[str] = set()
        with open(piece.path, "rb") as file:
            members = _members(file)
            for key, sample in itertools.groupby(members, lambda member: _key(member.name)[0]):
                id, own = f"{name}/{key}", list(sample)
                endings = {_key(member.name)[1]: member for member in own}
                if any(medium_below("", member.name) is None for member in own):
                    yield leads_out(id, own[0].name)
                elif key in seen or len(endings) < len(own):
                    yield Refused(id, "duplicate key", f"'{shown(key)}' is there twice")
                else:
                    yield from self._sample(id, piece.path, file, endings)
                seen.add(key)

    def _sample(
        self, id: str, path: str, file: BinaryIO, members: Mapping[str, tarfile.TarInfo]
    ) -> Iterator[Record | Refused]:
        wanted = [self.columns.image] if self.columns.image else _media_endings(members)
        found = [members[ending] for ending in wanted if ending in members]
        if not found:
            yield Refused(id, "no image", f"it has {', '.join(members) or 'nothing'}")
            return
        media = (Medium(path=path, offset=found[0].offset_data, length=found[0].size),)

        def value(column: str) -> Any:
            ending, _, field = column.partition(".")
            file.seek(members[ending].offset_data)
            data = decoded(file.read(members[ending].size))
            if data is None:
                raise UnicodeError
            return field_of(data, field)

        try:
            turns = find_column(list(members), self.columns.conversations, _CONVERSATIONS)
            if turns is not None and (found_turns := value(turns)) is not None:
                yield from conversation_rows(id, media, found_turns, self.task)
                return
            text = find_column(list(members), self.columns.text, _TEXTS)
            if text is None:
                yield Refused(id, "no text", f"it has {', '.join(members)}")
            else:
                yield caption_record(id, media, value(text))
        except UnicodeError:
            yield Refused(id, "text is not UTF-8", "a member of it")
        except ValueError as error:
            yield Refused(id, "another schema", f"no JSON: {error}")


def _key(name: str) -> tuple[str, str]:
    """ "a/12.seg.jpg" -> ("a/12", "seg.jpg"), as webdataset has it."""
    folder, base = posixpath.split(name)
    key, _, ending = base.partition(".")
    return posixpath.join(folder, key), ending.lower()


def _media_endings(members: Mapping[str, tarfile.TarInfo]) -> list[str]:
    return [ending for ending in members if f".{ending}" in MEDIA_EXTENSIONS]


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files of an archive, in order.

    Raises:
        UnreadableFile: it ends or is damaged before its end, which zeros mark. Python's reader
            takes a damaged header for the end.
    """
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the file is the caller's)
        while (member := archive.next()) is not None:
            archive.members.clear()  # or it keeps all of them
            if member.isreg() and not member.issparse():
                yield member
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UnreadableFile("damaged file", f"no whole tar archive ({error})") from error
    file.seek(archive.offset)
    if (block := file.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
        what = "ends" if not block else "is damaged"
        raise UnreadableFile("damaged file", f"the archive {what} at byte {archive.offset}")

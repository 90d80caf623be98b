"""Rows of Parquet files, as Hugging Face has datasets with images, texts or conversations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from vljepa_jax.data.records import Medium, Record
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    SourceError,
    UnreadableFile,
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

_IMAGES = ("image", "images", "img", "jpg", "png", "video", "image_path", "file_name")
_TEXTS = ("caption", "text", "recaption", "txt", "json.caption")
_CONVERSATIONS = ("conversations", "messages")
_ROWS = 64  # read at a time: a row may hold an image


@dataclasses.dataclass(frozen=True)
class ParquetRows(RecordSource):
    """Parquet files below a folder; a row is a picture with a caption or a conversation.

    Attributes:
        root: the folder; paths of pictures start there.
        columns: that are wanted.
        task: of conversations, as ``columns.conversation_rows``.
    """

    columns: Columns = Columns()
    task: str = ""

    def pieces(self) -> Iterator[Piece]:
        return map(Piece, paths_below(self.root, (".parquet",)))

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        file = open_parquet(piece.path)
        names = file.schema_arrow.names
        image = find_column(names, self.columns.image, _IMAGES)
        turns = find_column(names, self.columns.conversations, _CONVERSATIONS)
        text = find_column(names, self.columns.text, _TEXTS)
        if image is None or (text is None and turns is None):
            raise UnreadableFile(
                "another schema",
                f"no column of {'images' if image is None else 'texts'} among {', '.join(names)};"
                " name it with --columns",
            )
        name = os.path.relpath(piece.path, self.root).removesuffix(".parquet")
        wanted = [column.partition(".")[0] for column in filter(None, (image, turns, text))]
        for number, row in parquet_rows(file, list(dict.fromkeys(wanted))):
            id = f"{name}:{number}"
            if row is None:
                yield Refused(id, "text is not UTF-8", "a text of it")
                continue
            media = self._media(id, row[image])
            if isinstance(media, Refused):
                yield media
            elif turns is not None and row[turns] is not None:
                yield from conversation_rows(id, media, row[turns], self.task)
            elif text is not None:
                column, _, field = text.partition(".")
                yield caption_record(id, media, field_of(row[column], field))
            else:
                yield Refused(id, "no text", "its conversation is null")

    def _media(self, id: str, value: Any) -> tuple[Medium, ...] | Refused:
        """Of a column: bytes, a path, {"bytes": ..., "path": ...}, or a list of such."""
        media = []
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping):
                entry = entry.get("bytes") or entry.get("path")
            if not entry or not isinstance(entry, (bytes, str)):
                return Refused(id, "no image", f"its image is {type(entry).__name__}")
            if isinstance(entry, bytes):
                media.append(Medium(data=entry))
            elif (medium := medium_below(self.root, entry)) is not None:
                media.append(medium)
            else:
                return leads_out(id, entry)
        return tuple(media) or Refused(id, "no image", "its list of images is empty")


def open_parquet(path: str) -> Any:
    """``pyarrow.parquet.ParquetFile``.

    Raises:
        SourceError: pyarrow is not installed.
        UnreadableFile: it is no whole Parquet file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(f"{path}: Parquet needs pip install 'vljepa_jax[parquet]'") from error
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableFile("damaged file", f"no whole Parquet file ({error})") from error


def parquet_rows(file: Any, columns: list[str]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The rows of a file with their numbers; ``None`` for one with a text that is no UTF-8.

    Raises:
        UnreadableFile: the rest of it is damaged.
    """
    import pyarrow

    batches = file.iter_batches(batch_size=_ROWS, columns=columns)
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableFile("damaged file", f"row {number} on ({error})") from error
        if batch is None:
            return
        for index in range(len(batch)):
            try:
                yield number, {name: batch[name][index].as_py() for name in columns}
            except UnicodeDecodeError:
                yield number, None
            number += 1

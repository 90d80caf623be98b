"""What people have their annotations in -> rows of named values.

A file: CSV, TSV, JSONL, JSON, Parquet. A folder: one folder of clips a class (below ``train/`` and
``test/`` if need be), Parquet files, ``metadata.csv`` or ``.jsonl`` beside the clips, a dataset
that Hugging Face's ``save_to_disk`` wrote, or one of TensorFlow Datasets in ArrayRecord files.
Neither of these libraries is needed.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vljepa_jax.data.media_files import media_files
from vljepa_jax.data.records import shown
from vljepa_jax.json_text import JSONError, parse_json, read_json

Row = Mapping[str, Any]

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SPLIT = "split"  # the column of what lies in folders or files of a split
# What others call splits.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


class TableError(ValueError):
    """Annotations that cannot be used; the message names the file and the mend."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of named values.

    Attributes:
        path: what was read, for messages.
        columns: names of the values.
        rows: read as they are asked for, once.
        root: where relative paths of media start.
    """

    path: pathlib.Path
    columns: tuple[str, ...]
    rows: Iterator[Row]
    root: pathlib.Path


def open_table(path: str, root: str | None = None) -> Table:
    """Opens a file or a folder, of whatever kind it is.

    Args:
        root: where relative paths of media start; by default the file's folder.

    Raises:
        TableError: it is not there, empty, of no kind that is known, or malformed.
    """
    place = pathlib.Path(path)
    above = pathlib.Path(root) if root else (place if place.is_dir() else place.parent)
    if place.is_dir():
        columns, rows = _folder(place)
    elif not place.is_file():
        raise TableError(f"--data: there is no file or folder '{shown(path)}'")
    elif (reader := _READERS.get(place.suffix.lower())) is None:
        raise TableError(
            f"--data: '{shown(path)}' is of no known kind: give one of {', '.join(_READERS)}, a "
            "folder of class folders, or a dataset's folder"
        )
    else:
        columns, rows = reader(place)
    if not columns:
        raise TableError(f"'{shown(path)}' is empty: it has no row")
    return Table(place, tuple(columns), rows, above)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------
Read = tuple[Sequence[str], Iterator[Row]]


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{shown(str(path))}: is not in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error


def _delimited(path: pathlib.Path) -> Read:
    """With the delimiter by which all lines have as many columns as the header."""
    text = _text(path)
    header, _, rest = text.partition("\n")
    if not rest.strip():
        return (), iter(())
    tried = []
    for delimiter in _DELIMITERS if path.suffix.lower() != ".tsv" else "\t":
        if delimiter not in header:
            continue
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            lines = [(reader.line_num, line) for line in reader if any(map(str.strip, line))]
        except csv.Error as error:
            tried.append((1, 0, delimiter, f"line {reader.line_num}: {error}"))
            continue
        (_, names), *others = lines
        odd = [(number, line) for number, line in others if len(line) != len(names)]
        fault = ""
        if odd:
            number, line = odd[0]
            fault = (
                f"line {number} has {len(line)} columns between {_DELIMITERS[delimiter]}, the "
                f"header has {len(names)}"
            )
        tried.append((len(odd), -len(names), delimiter, fault))
        if not odd:
            columns = [name.strip() for name in names]
            if len(set(columns)) < len(columns) or not all(columns):
                raise TableError(
                    f"{shown(str(path))}: two columns of the header have one name, or one has none"
                )
            return columns, (dict(zip(columns, line, strict=True)) for _, line in others)
    if not tried:
        names = ", ".join(_DELIMITERS.values())
        raise TableError(
            f"{shown(str(path))}: the header '{shown(header.strip()[:80])}' names one column; "
            f"between columns there are {names}"
        )
    *_, fault = min(tried)
    raise TableError(
        f"{shown(str(path))}: {fault}. Use one delimiter throughout, and quotes around a text that "
        "holds it"
    )


def _objects(path: pathlib.Path, found: Sequence[tuple[str, Any]]) -> Read:
    columns: dict[str, None] = {}
    for where, row in found:
        if not isinstance(row, dict):
            raise TableError(f"{shown(str(path))}, {where}: is no JSON object with named values")
        columns |= dict.fromkeys(row)
    return tuple(columns), (row for _, row in found)


def _json_lines(path: pathlib.Path) -> Read:
    found = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            try:
                found.append((f"line {number}", parse_json(line)))
            except JSONError as error:
                raise TableError(f"{shown(str(path))}, line {number}: {error}") from error
    return _objects(path, found)


def _json_list(path: pathlib.Path) -> Read:
    try:
        rows = read_json(path, list)
    except JSONError as error:
        raise TableError(str(error)) from error
    return _objects(path, [(f"entry {index}", row) for index, row in enumerate(rows)])


def _parquet(path: pathlib.Path) -> Read:
    return _arrow_files([(path, "")], _parquet_batches)


_READERS = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".txt": _delimited,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
}


# ---------------------------------------------------------------------------------------------
# Parquet, and Arrow files of Hugging Face
# ---------------------------------------------------------------------------------------------
def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow{module}")
    except ImportError as error:
        raise TableError(
            "Parquet files and datasets of Hugging Face need the package pyarrow: "
            "pip install 'vljepa_jax[parquet]'"
        ) from error


def _parquet_batches(path: pathlib.Path) -> tuple[Any, Iterator[Any]]:
    file = _pyarrow(".parquet").ParquetFile(path)
    return file.schema_arrow, file.iter_batches(batch_size=64)


def _stream_batches(path: pathlib.Path) -> tuple[Any, Iterator[Any]]:
    reader = _pyarrow("").ipc.open_stream(path)
    return reader.schema, iter(reader)


def _arrow_files(files: Sequence[tuple[pathlib.Path, str]], batches_of: Any) -> Read:
    """Rows of (file, its split or "") in order; integers of a class label become its name."""
    arrow = _pyarrow("")
    try:
        opened = [(*batches_of(path), split) for path, split in files]
    except (arrow.ArrowException, OSError) as error:
        names = ", ".join(shown(str(path)) for path, _ in files[:3])
        raise TableError(f"{names}: cannot be read ({error})") from error
    classes = [_class_names(schema.metadata or {}) for schema, _, _ in opened]
    columns = list(dict.fromkeys(name for schema, _, _ in opened for name in schema.names))
    splits = [SPLIT] if SPLIT not in columns and any(split for _, split in files) else []

    def rows() -> Iterator[Row]:
        for (_, batches, split), named_columns in zip(opened, classes, strict=True):
            for row in _rows_of(batches):
                for column, names in named_columns.items():
                    row[column] = named(row[column], names)
                yield (dict.fromkeys(splits, split) | row) if splits else row

    def _rows_of(batches: Iterator[Any]) -> Iterator[dict[str, Any]]:
        try:
            for batch in batches:
                yield from batch.to_pylist()
        except (arrow.ArrowException, OSError) as error:
            raise TableError(f"{shown(str(files[0][0].parent))}: is damaged ({error})") from error

    return columns + splits, rows()


def named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class by its number; a number that no class has, as -1, stands for none."""
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its classes, as Hugging Face's ``datasets`` notes them in a schema."""
    if b"huggingface" not in metadata:
        return {}
    try:
        features = parse_json(metadata[b"huggingface"])["info"]["features"]
        return {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (JSONError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"the note of Hugging Face in the schema is damaged ({error})") from error


# ---------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------
def _folder(path: pathlib.Path) -> Read:
    if (path / "dataset_dict.json").is_file():
        splits = _listed(path / "dataset_dict.json", "splits")
        files = [(file, split) for split in splits for file in _saved_files(path / split)]
        return _arrow_files(files, _stream_batches)
    if (path / "state.json").is_file():
        return _arrow_files([(file, "") for file in _saved_files(path)], _stream_batches)
    if files := sorted(path.glob("*.array_record*")):
        from vljepa_jax.finetuning.array_records import read_array_records

        return read_array_records(path, files)
    for name, reader in (("metadata.csv", _delimited), ("metadata.jsonl", _json_lines)):
        if (path / name).is_file():
            return reader(path / name)
    if files := sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")]):
        named = [(file, re.split(r"[-.]", file.name)[0]) for file in files]
        known = all(split in SPLITS for _, split in named)
        return _arrow_files([(f, s if known else "") for f, s in named], _parquet_batches)
    return _class_folders(path)


def _saved_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The files of a dataset that Hugging Face's ``save_to_disk`` wrote."""
    entries = _listed(path / "state.json", "_data_files")
    if not all(isinstance(entry, dict) and "filename" in entry for entry in entries):
        raise TableError(f"{shown(str(path / 'state.json'))}: names no files")
    return [path / entry["filename"] for entry in entries]


def _listed(path: pathlib.Path, field: str) -> list[Any]:
    try:
        found = read_json(path, dict).get(field)
    except (JSONError, OSError) as error:
        raise TableError(f"no whole dataset of Hugging Face: {error}") from error
    if not isinstance(found, list):
        raise TableError(f"{shown(str(path))}: is no whole dataset of Hugging Face: no '{field}'")
    return found


def _class_folders(path: pathlib.Path) -> Read:
    """media, label and, where the folders above are those of splits, split."""
    rows, loose = [], 0
    for file in media_files(str(path), []):
        *folders, _ = pathlib.Path(file).relative_to(path.absolute()).parts
        row = {"media": file}
        if folders and folders[0].lower() in SPLITS:
            row[SPLIT], *folders = folders
        if folders:
            row["label"] = folders[0].replace("_", " ")
            rows.append(row)
        else:
            loose += 1
    if loose or not rows:
        held = f"{loose} clips in no folder of a class" if loose else "no video or image"
        raise TableError(
            f"'{shown(str(path))}' holds {held}: put those of each class into a folder of its "
            "name, or give a table that names them"
        )
    return list(functools.reduce(lambda all_, row: all_ | dict.fromkeys(row), rows, {})), iter(rows)

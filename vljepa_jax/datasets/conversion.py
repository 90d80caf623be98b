"""A dataset's official files -> manifests on disk, with what was counted on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vljepa_jax.data.manifest_row import ManifestRow, RowError
from vljepa_jax.data.records import Label, shown
from vljepa_jax.datasets.adapter import Adapter, AdapterError, Official
from vljepa_jax.places import write_bytes


@dataclasses.dataclass(frozen=True)
class SplitCount:
    """The result of one split.

    Attributes:
        split: its name.
        rows: number of rows.
        media: number of different files that they are about.
        absent: those that are not there, in order.
        labels: number of labels in each label set.
        faults: what is wrong with rows that no manifest can have, in order.
    """

    split: str
    rows: int
    media: int
    absent: tuple[str, ...]
    labels: Mapping[str, int]
    faults: tuple[str, ...] = ()


def convert(
    adapter: Adapter,
    root: str | pathlib.Path,
    split: str,
    manifest: pathlib.Path | None,
    *,
    absent: bool = True,
    faulty: bool = True,
) -> SplitCount:
    """Reads a split and writes its manifest, row by row.

    Args:
        root: the folder with the official layout.
        manifest: the file; ``None`` only counts. Beside it are written its label sets
            (``labels/NAME.json``) and its meta file, which tells where it comes from: citation,
            licence, the official files and their SHA-256.
        absent: whether rows about files that are not there are written, too.
        faulty: whether rows that no manifest can have are written, too, for its reader to refuse.

    Raises:
        AdapterError: an official file is missing, has another format, or names what is not below
            the root.
    """
    root = pathlib.Path(root)
    labels = adapter.labels(root, split)
    seen: dict[str, bool] = {}
    faults: list[str] = []
    rows = written = 0

    def is_there(row: ManifestRow) -> bool:
        for medium in row.media:
            if medium.path not in seen:
                seen[medium.path] = inside(root, medium.path).is_file()
        return all(seen[medium.path] for medium in row.media)

    def chosen() -> Iterable[ManifestRow]:
        nonlocal rows, written
        for row in adapter.rows(root, split):
            rows += 1
            there = is_there(row)
            try:
                ManifestRow.from_json(row.as_json())
            except RowError as error:
                faults.append(f"row {rows}, '{shown(str(row.id))}': {error}")
                if not faulty:
                    continue
            if there or absent:
                written += 1
                yield row

    if manifest is None:
        for _ in chosen():
            pass
    else:
        with open(manifest, "w", encoding="utf-8") as file:
            file.writelines(
                json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in chosen()
            )
        _write_labels(manifest.parent / "labels", labels)
        meta = {
            "name": adapter.name,
            "task": adapter.task,
            "split": split,
            "root": str(root.absolute()),
            "labels": [f"labels/{name}.json" for name in labels],
            "n_expected": written,
            "license": adapter.licence,
            "sources": [source(adapter.official(root, split))],
        }
        _write_json(manifest.with_name(f"{manifest.stem}.meta.json"), meta)
    return SplitCount(
        split=split,
        rows=rows,
        media=len(seen),
        absent=tuple(path for path, there in seen.items() if not there),
        labels={name: len(entries) for name, entries in labels.items()},
        faults=tuple(faults),
    )


def inside(root: pathlib.Path, path: str) -> pathlib.Path:
    """The file of a name that official files give.

    Raises:
        AdapterError: the name leads out of the root.
    """
    if os.path.isabs(path) or pathlib.PurePath(os.path.normpath(path)).parts[:1] == (os.pardir,):
        raise AdapterError(f"'{shown(path)}': an official file names what is not below --root")
    return root / path


def _write_labels(folder: pathlib.Path, labels: Mapping[str, Sequence[Label]]) -> None:
    for name, entries in labels.items():
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.json"
        content = [{"id": label.id, "texts": list(label.texts)} for label in entries]
        if file.exists() and json.loads(file.read_text(encoding="utf-8")) != content:
            raise AdapterError(f"the splits have other labels in {name} each; choose with --splits")
        _write_json(file, content)


def differences(adapter: Adapter, counts: Sequence[SplitCount]) -> list[str]:
    """Counts that differ from the published ones, a line each."""
    lines = []
    published = {split.name: split for split in adapter.splits}
    for count in counts:
        expected = published[count.split]
        pairs = [("rows", count.rows, expected.rows), ("media files", count.media, expected.media)]
        pairs += [
            (f"labels in {name}", number, adapter.label_counts[name])
            for name, number in count.labels.items()
        ]
        lines += [
            f"split '{count.split}': {number:,} {what}, not {other:,}"
            for what, number, other in pairs
            if other is not None and number != other
        ]
    return lines


def unpack_media(adapter: Adapter, root: str | pathlib.Path, split: str) -> None:
    """Writes media that lie inside official files below the root, but for those that are there.

    Raises:
        AdapterError: an official file is missing, or names what is not below the root; or the root
            cannot be written to.
    """
    for path, content in adapter.media_within(root, split):
        file = inside(pathlib.Path(root), path)
        if not file.exists():
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(file, content)
            except OSError as error:
                raise AdapterError(f"{file}: cannot be written ({error.strerror})") from error


def source(official: Official) -> dict[str, Any]:
    """Where the rows of a split come from: citation, licence, official files and their SHA-256."""
    adapter = official.adapter
    paths = dict.fromkeys(official.path(file.role) for file in official.needed())
    return {
        "name": adapter.name,
        "title": adapter.title,
        "citation": adapter.citation,
        "licence": adapter.licence,
        "home": adapter.home,
        "split": official.split,
        "files": [
            {"path": str(path.relative_to(official.root)), "sha256": _sha256(path)}
            for folder in paths
            for path in (sorted(folder.iterdir()) if folder.is_dir() else [folder])
        ],
    }


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

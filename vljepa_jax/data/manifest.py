"""Manifests: a file of rows (``manifest_row``), one JSON object a line, and what is wrong with it.

``NAME.meta.json`` beside ``NAME.jsonl`` may give

    name, task, split, query: of all rows, as text
    root: where relative paths start
    labels: a file, or a list of files, each a list of {"id": ..., "texts": [...]}; the set's name
        is the file's. "@labels/x" is also found in ``labels/x.json`` beside the manifest.
    n_expected: number of rows there should be
    metric, license: how the rows are scored, and under which licence they are, as text
    sources: a list of objects, where they come from. A dataset made of the manifest keeps these.

The files are in UTF-8 or UTF-16, with a byte order mark or without. In any other encoding they are
refused, unless it is named (``--encoding`` of the commands). Texts are whole characters: half of
one, "\\ud83d", is a fault.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from vljepa_jax.config import nearest
from vljepa_jax.data.kinds import MEDIA_EXTENSIONS, first_bytes, is_still, recognise
from vljepa_jax.data.manifest_row import (
    TASKS,
    ManifestRow,
    MediaEntry,
    RowError,
    check_text,
    told,
)
from vljepa_jax.data.media_bytes import find_member
from vljepa_jax.data.records import (
    LABELS_PREFIX,
    SPLIT_NAME,
    Annotation,
    ClipError,
    Label,
    Medium,
    shown,
)
from vljepa_jax.json_text import JSONError, is_encoding, other_encoding, parse_json, text_encoding

_META_TEXTS = ("name", "task", "split", "query", "root", "metric", "license")
_META_FIELDS = (*_META_TEXTS, "labels", "n_expected", "sources")


class ManifestError(ValueError):
    """A manifest that cannot be used at all; the message names the file and the mend."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a row cannot be used.

    Attributes:
        manifest: the file.
        row: number of its line, from 1.
        id: the row's id; "" where it has none.
        kind: a short name to count by, e.g. "missing file".
        reason: what is wrong and where, as one line to show (``records.shown``).
    """

    manifest: str
    row: int
    id: str
    kind: str
    reason: str

    def __str__(self) -> str:
        """The line that tells it."""
        return f"{shown(self.manifest)}, row {self.row}: {self.kind}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class CheckedRow:
    """One row that is sound as far as is known without decoding its media.

    Attributes:
        manifest: the file.
        number: of its line, from 1.
        media: those of the row, then those of its candidates.
        annotation: refers to these media.
    """

    manifest: str
    number: int
    media: tuple[Medium, ...]
    annotation: Annotation


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest file with its meta file.

    Attributes:
        path: the file.
        split: which split its rows belong to.
        name: of the dataset; "" if the meta file does not say.
        root: where relative paths start.
        query, task: defaults of the rows.
        labels: the label sets.
        n_expected: number of rows there should be.
        metric: how the rows are scored, as text; "" if the meta file does not say.
        license: of their contents; "" likewise.
        sources: where they come from, as the meta file has it.
        encoding: of the file.
    """

    path: pathlib.Path
    split: str
    name: str
    root: pathlib.Path
    query: str
    task: str | None
    labels: Mapping[str, tuple[Label, ...]]
    n_expected: int | None
    metric: str
    license: str
    sources: tuple[Mapping[str, Any], ...]
    encoding: str

    def rows(self, *, texts_needed: bool = True) -> Iterator[CheckedRow | Fault]:
        """Reads the rows, each as a ``CheckedRow`` or the ``Fault`` that is found first.

        Args:
            texts_needed: whether a row with neither texts nor candidates is a fault.

        Raises:
            ManifestError: their number differs from ``n_expected``, or the file has another
                encoding.
        """
        count = 0
        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            count += 1
            fields: Any = None
            try:
                fields = _json(line)
                yield self._row(number, fields, texts_needed)
            except RowError as error:
                name = fields.get("id", "") if isinstance(fields, dict) else ""
                yield Fault(str(self.path), number, str(name), error.kind, shown(str(error)))
        if self.n_expected is not None and count != self.n_expected:
            raise ManifestError(
                f"{self.path}: has {count} rows, but its meta file expects {self.n_expected}"
            )

    def _lines(self) -> Iterator[str]:
        try:
            with open(self.path, encoding=self.encoding) as file:
                yield from file
        except UnicodeError as error:
            raise ManifestError(other_encoding(self.path, self.encoding, error)) from error
        except OSError as error:
            raise ManifestError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _row(self, number: int, fields: Any, texts_needed: bool) -> CheckedRow:
        row = ManifestRow.from_json(fields)
        media = tuple(self._medium(m, f"media[{i}]") for i, m in enumerate(row.media))
        candidates, candidate_media = self._candidates(row)
        annotation = Annotation(
            id=row.id,
            task=row.task or self.task or row.inferred_task,
            query=self.query if row.query is None else row.query,
            texts=row.texts,
            inputs=tuple(range(len(media))),
            candidates=candidates,
            candidate_media=tuple(range(len(media), len(media) + len(candidate_media))),
            gold=row.gold,
            times=row.times,
            durations=row.durations,
            tags=row.tags,
        )
        self._check(annotation, texts_needed)
        return CheckedRow(str(self.path), number, media + candidate_media, annotation)

    def _check(self, annotation: Annotation, texts_needed: bool) -> None:
        task, texts, gold = annotation.task, annotation.texts, annotation.gold
        if task not in TASKS:
            raise RowError("unknown task", f"task '{task}' is unknown{nearest(task, TASKS)}")
        if not annotation.inputs and task != "triplet":
            raise RowError("no media", "'media' is missing or empty")
        if task == "triplet" and len(texts) != 3:
            raise RowError("wrong texts", f"a triplet has 3 texts, not {len(texts)}")
        if task == "stream" and not annotation.times:
            raise RowError("wrong times", "a stream has 'times', one per text")
        if annotation.times and len(annotation.times) != len(texts):
            raise RowError("wrong times", f"{len(annotation.times)} times for {len(texts)} texts")
        if list(annotation.times) != sorted(annotation.times):
            raise RowError("wrong times", "'times' are not ascending")
        if annotation.durations and len(annotation.durations) != len(annotation.times):
            counts = f"{len(annotation.durations)} durations for {len(annotation.times)} times"
            raise RowError("wrong times", counts)
        if isinstance(annotation.candidates, str):
            name = annotation.candidates.removeprefix(LABELS_PREFIX)
            count = len(self.labels[name])
        else:
            count = len(annotation.candidates) or len(annotation.candidate_media)
        if gold is not None and not 0 <= gold < count:
            raise RowError("gold out of range", f"gold is {gold}, but there are {count} candidates")
        if texts_needed and not texts and not count:
            raise RowError("empty text", "has neither 'texts' nor 'cand'")

    def _medium(self, entry: MediaEntry, where: str) -> Medium:
        path, member, start, end = entry.path, entry.member, entry.start, entry.end
        medium = Medium(path=str((self.root / path).absolute()), start=start, end=end)
        if not os.path.isfile(medium.path):
            raise RowError("missing file", f"{where}: there is no file {medium.path}")
        try:
            if member is not None:
                offset, length = find_member(medium.path, member)
                medium = dataclasses.replace(medium, offset=offset, length=length)
            header = first_bytes(medium)
        except ClipError as error:
            raise RowError("unreadable", f"{where}: {error}") from error
        path = path if member is None else member
        extension = os.path.splitext(path)[1].lower()
        if recognise(header) is None and extension not in MEDIA_EXTENSIONS:
            raise RowError(
                "unknown kind of file",
                f"{where}: '{path}' is no known video or image: it begins with {header[:16]!r}",
            )
        if is_still(header) and (start is not None or end is not None):
            raise RowError("wrong span", f"{where}: '{path}' is an image, and has no start or end")
        return medium

    def _candidates(self, row: ManifestRow) -> tuple[tuple[str, ...] | str, tuple[Medium, ...]]:
        if isinstance(row.cand, str):
            name = row.cand.removeprefix(LABELS_PREFIX)
            if name not in self.labels:
                hint = nearest(name, self.labels)
                raise RowError("unknown labels", f"there is no label set '{name}'{hint}")
            return row.cand, ()
        if row.cand and isinstance(row.cand[0], MediaEntry):
            return (), tuple(self._medium(m, f"cand[{i}]") for i, m in enumerate(row.cand))
        return row.cand, ()


def open_manifest(
    path: str, *, split: str | None, root: str | None, encoding: str | None = None
) -> Manifest:
    """Opens a manifest, with its meta file if there is one.

    Args:
        split: overrides the meta file's; "train" if neither says.
        root: overrides the meta file's; the manifest's own folder if neither says.
        encoding: of its files; ``None`` for UTF-8 or UTF-16, as they show.

    Raises:
        ManifestError: a file is missing or wrong.
    """
    file = pathlib.Path(path)
    if encoding is not None and not is_encoding(encoding):
        raise ManifestError(f"'{encoding}' is no encoding of texts")
    if not os.path.isfile(file):
        raise ManifestError(f"{path}: no such manifest")
    meta_path = file.with_name(f"{file.stem}.meta.json")
    meta: dict[str, Any] = {}
    if os.path.isfile(meta_path):
        meta = _read_json(meta_path, dict, encoding)
        for key in meta:
            if key not in _META_FIELDS:
                raise ManifestError(
                    f"{meta_path}: unknown field '{key}'{nearest(key, _META_FIELDS)}"
                )
        for key in _META_TEXTS:
            if not isinstance(meta.get(key, ""), str):
                raise ManifestError(f"{meta_path}: '{key}' is no text")
        sources = meta.get("sources", [])
        if not isinstance(sources, list) or not all(isinstance(s, dict) for s in sources):
            raise ManifestError(f"{meta_path}: 'sources' is no list of objects")
        count = meta.get("n_expected")
        if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
            raise ManifestError(f"{meta_path}: 'n_expected' is {told(count)}, not a number of rows")
        try:
            for key in ("name", "split", "query"):
                check_text(meta.get(key, ""), f"'{key}'")
        except RowError as error:
            raise ManifestError(shown(f"{meta_path}: {error}")) from error
    task = meta.get("task")
    if task is not None and task not in TASKS:
        raise ManifestError(f"{meta_path}: task '{task}' is unknown{nearest(task, TASKS)}")
    split = split or meta.get("split") or "train"
    if not SPLIT_NAME.fullmatch(split):
        raise ManifestError(
            f"{path}: '{shown(split)}' is no name of a split, which has letters, digits, _ . and -"
        )
    files = meta.get("labels") or []
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise ManifestError(f"{meta_path}: 'labels' is {told(files)}, not a file or a list of them")
    label_files = [file.parent / name for name in files]
    label_files += sorted((file.parent / "labels").glob("*.json"))
    return Manifest(
        path=file,
        split=split,
        name=meta.get("name", ""),
        root=pathlib.Path(root) if root else file.parent / meta.get("root", ""),
        query=meta.get("query", ""),
        task=task,
        labels={label_file.stem: _read_labels(label_file, encoding) for label_file in label_files},
        n_expected=meta.get("n_expected"),
        metric=meta.get("metric", ""),
        license=meta.get("license", ""),
        sources=tuple(meta.get("sources", ())),
        encoding=encoding or _found_encoding(file),
    )


def _read_labels(path: pathlib.Path, encoding: str | None) -> tuple[Label, ...]:
    labels = []
    for index, entry in enumerate(_read_json(path, list, encoding)):
        texts = entry.get("texts") if isinstance(entry, dict) else None
        if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise ManifestError(f'{path}: entry {index} is not {{"id": ..., "texts": [...]}}')
        label = Label(str(entry.get("id", index)), tuple(texts))
        try:
            for text in (label.id, *texts):
                check_text(text, f"entry {index}")
        except RowError as error:
            raise ManifestError(f"{path}: {error}") from error
        labels.append(label)
    return tuple(labels)


def _found_encoding(path: pathlib.Path) -> str:
    try:
        return text_encoding(path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error


def _read_json(path: pathlib.Path, kind: type, encoding: str | None) -> Any:
    try:
        data = path.read_bytes()
        value = parse_json(data.decode(encoding) if encoding else data)
    except (OSError, ValueError) as error:  # no file has a name with \0
        raise ManifestError(shown(f"{path}: cannot be read ({error})")) from error
    if not isinstance(value, kind):
        raise ManifestError(f"{path}: holds a JSON {type(value).__name__}, not a {kind.__name__}")
    return value


def _json(line: str) -> Any:
    try:
        return parse_json(line)
    except JSONError as error:
        raise RowError("no JSON", f"the line {error}") from error

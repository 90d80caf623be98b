r"""Manifests: what a person writes about ordinary files, one JSON object a line.

    {"id": "a-1", "media": [{"path": "a.mp4", "start": 2, "end": 4.5}], "texts": ["a dog runs"]}
    {"id": "a-2", "media": [{"path": "a.mp4", "start": 2, "end": 4.5}],
     "query": "How many dogs?", "cand": ["one", "two"], "gold": 0, "tags": {"kind": "count"}}

Fields of a row:
    id: text, unique.
    media: the inputs, in order: [{"path": ..., "start": seconds, "end": seconds}, ...]. A path is
        relative to the root; the file's content says what it is (kinds.py). Start and end may be
        left out. With "member" the path is a tar archive, uncompressed, and the medium the file of
        this name in it. Bytes of a name that are no UTF-8 are written as Python's JSON does,
        "\udce9".
    query: the question; the default is the ``query`` of the meta file, else none.
    texts: what is to be said, in several wordings of one meaning. For the task "triplet": two
        paraphrases and a negative. For "stream": one text per entry of ``times``.
    cand: candidate answers: a list of texts, "@labels/NAME", or a list of media.
    gold: index of the correct candidate.
    times: seconds, one per text, ascending.
    tags: {"name": "value"} to filter and to tell apart in reports.
    task: "caption", "vqa", "classification", "state", "triplet" or "stream"; the default is the
        ``task`` of the meta file, else what the other fields say (``infer_task``).

``NAME.meta.json`` beside ``NAME.jsonl`` may give {"name", "task", "split", "query", "root",
"labels", "n_expected"}: ``labels`` is a file, or a list of files, each a list of
{"id": ..., "texts": [...]}; the set's name is the file's. "@labels/x" is also found in
``labels/x.json`` beside the manifest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from vljepa_jax.config import nearest
from vljepa_jax.data.kinds import MEDIA_EXTENSIONS, first_bytes, is_still, recognise
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

TASKS = ("caption", "vqa", "classification", "state", "triplet", "stream")

_ROW_FIELDS = ("id", "media", "query", "texts", "cand", "gold", "times", "tags", "task")
_META_FIELDS = ("name", "task", "split", "query", "root", "labels", "n_expected")
_MEDIUM_FIELDS = ("path", "member", "start", "end")


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


class RowError(ValueError):
    """Why one row cannot be used: ``kind`` as in ``Fault``, and the reason."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class ManifestRow:
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
    """

    path: pathlib.Path
    split: str
    name: str
    root: pathlib.Path
    query: str
    task: str | None
    labels: Mapping[str, tuple[Label, ...]]
    n_expected: int | None

    def rows(self, *, texts_needed: bool = True) -> Iterator[ManifestRow | Fault]:
        """Reads the rows, each as a ``ManifestRow`` or the ``Fault`` that is found first.

        Args:
            texts_needed: whether a row with neither texts nor candidates is a fault.

        Raises:
            ManifestError: their number differs from ``n_expected``.
        """
        count = 0
        with open(self.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
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

    def _row(self, number: int, fields: Any, texts_needed: bool) -> ManifestRow:
        if not isinstance(fields, dict):
            raise RowError("wrong type", "the row is no JSON object")
        _check_names(fields, _ROW_FIELDS, "field")
        name = _typed(fields, "id", str, None)
        if not name:
            raise RowError("missing field", "'id' is missing or empty")
        texts = tuple(_list_of(fields, "texts", str))
        for index, text in enumerate(texts):
            if not text.strip():
                raise RowError("empty text", f"texts[{index}] is empty")
        media = tuple(
            self._medium(m, f"media[{i}]") for i, m in enumerate(_list_of(fields, "media"))
        )
        candidates, candidate_media = self._candidates(fields)
        query = _typed(fields, "query", str, None)
        task = _typed(fields, "task", str, self.task)
        annotation = Annotation(
            id=name,
            task=task or infer_task(fields),
            query=self.query if query is None else query,
            texts=texts,
            inputs=tuple(range(len(media))),
            candidates=candidates,
            candidate_media=tuple(range(len(media), len(media) + len(candidate_media))),
            gold=_typed(fields, "gold", int, None),
            times=tuple(_number(t, f"times[{i}]") for i, t in enumerate(_list_of(fields, "times"))),
            tags={str(k): str(v) for k, v in _typed(fields, "tags", dict, {}).items()},
        )
        self._check(annotation, texts_needed)
        return ManifestRow(str(self.path), number, media + candidate_media, annotation)

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
        if isinstance(annotation.candidates, str):
            name = annotation.candidates.removeprefix(LABELS_PREFIX)
            count = len(self.labels[name])
        else:
            count = len(annotation.candidates) or len(annotation.candidate_media)
        if gold is not None and not 0 <= gold < count:
            raise RowError("gold out of range", f"gold is {gold}, but there are {count} candidates")
        if texts_needed and not texts and not count:
            raise RowError("empty text", "has neither 'texts' nor 'cand'")

    def _medium(self, fields: Any, where: str) -> Medium:
        if not isinstance(fields, dict):
            raise RowError("wrong type", f"{where} is no JSON object with a 'path'")
        _check_names(fields, _MEDIUM_FIELDS, f"field of {where}")
        path = fields.get("path")
        if not isinstance(path, str) or not path:
            raise RowError("missing field", f"{where} has no 'path'")
        span = {
            side: None if fields.get(side) is None else _number(fields[side], f"{where}.{side}")
            for side in ("start", "end")
        }
        start, end = span["start"], span["end"]
        if start is not None and end is not None and end <= start:
            raise RowError("end before start", f"{where} ends at {end} s, but starts at {start} s")
        medium = Medium(path=str((self.root / path).absolute()), start=start, end=end)
        if not os.path.isfile(medium.path):
            raise RowError("missing file", f"{where}: there is no file {medium.path}")
        member = _typed(fields, "member", str, None)
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

    def _candidates(
        self, fields: Mapping[str, Any]
    ) -> tuple[tuple[str, ...] | str, tuple[Medium, ...]]:
        candidates = fields.get("cand")
        if candidates is None:
            return (), ()
        if isinstance(candidates, str):
            name = candidates.removeprefix(LABELS_PREFIX)
            if not candidates.startswith(LABELS_PREFIX):
                raise RowError("wrong type", f"'cand' is a list, or '{LABELS_PREFIX}NAME'")
            if name not in self.labels:
                hint = nearest(name, self.labels)
                raise RowError("unknown labels", f"there is no label set '{name}'{hint}")
            return candidates, ()
        if not isinstance(candidates, list):
            raise RowError("wrong type", f"'cand' is a list, or '{LABELS_PREFIX}NAME'")
        if all(isinstance(candidate, str) for candidate in candidates):
            if not all(candidate.strip() for candidate in candidates):
                raise RowError("empty text", "a candidate is empty")
            return tuple(candidates), ()
        return (), tuple(self._medium(m, f"cand[{i}]") for i, m in enumerate(candidates))


def infer_task(fields: Mapping[str, Any]) -> str:
    """The task of a row that does not name it.

    ``times``: stream; three texts without media: triplet; candidates that are media: state, that
    are texts: vqa with a query of the row, classification without; else caption.
    """
    candidates = fields.get("cand")
    if fields.get("times"):
        return "stream"
    if not fields.get("media") and len(fields.get("texts") or ()) == 3:
        return "triplet"
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        return "state"
    if candidates:
        return "vqa" if fields.get("query") else "classification"
    return "caption"


def open_manifest(path: str, *, split: str | None, root: str | None) -> Manifest:
    """Opens a manifest, with its meta file if there is one.

    Args:
        split: overrides the meta file's; "train" if neither says.
        root: overrides the meta file's; the manifest's own folder if neither says.

    Raises:
        ManifestError: a file is missing or wrong.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise ManifestError(f"{path}: no such manifest")
    meta_path = file.with_name(f"{file.stem}.meta.json")
    meta: dict[str, Any] = {}
    if meta_path.is_file():
        meta = _read_json(meta_path, dict)
        for key in meta:
            if key not in _META_FIELDS:
                raise ManifestError(
                    f"{meta_path}: unknown field '{key}'{nearest(key, _META_FIELDS)}"
                )
        for key in ("name", "task", "split", "query", "root"):
            if not isinstance(meta.get(key, ""), str):
                raise ManifestError(f"{meta_path}: '{key}' is no text")
    task = meta.get("task")
    if task is not None and task not in TASKS:
        raise ManifestError(f"{meta_path}: task '{task}' is unknown{nearest(task, TASKS)}")
    split = split or meta.get("split") or "train"
    if not SPLIT_NAME.fullmatch(split):
        raise ManifestError(
            f"{path}: '{shown(split)}' is no name of a split, which has letters, digits, _ . and -"
        )
    files = meta.get("labels") or []
    label_files = [file.parent / name for name in ([files] if isinstance(files, str) else files)]
    label_files += sorted((file.parent / "labels").glob("*.json"))
    return Manifest(
        path=file,
        split=split,
        name=meta.get("name", ""),
        root=pathlib.Path(root) if root else file.parent / meta.get("root", ""),
        query=meta.get("query", ""),
        task=task,
        labels={label_file.stem: _read_labels(label_file) for label_file in label_files},
        n_expected=meta.get("n_expected"),
    )


def _read_labels(path: pathlib.Path) -> tuple[Label, ...]:
    labels = []
    for index, entry in enumerate(_read_json(path, list)):
        texts = entry.get("texts") if isinstance(entry, dict) else None
        if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise ManifestError(f'{path}: entry {index} is not {{"id": ..., "texts": [...]}}')
        labels.append(Label(str(entry.get("id", index)), tuple(texts)))
    return tuple(labels)


def _read_json(path: pathlib.Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, kind):
        raise ManifestError(f"{path}: holds a JSON {type(value).__name__}, not a {kind.__name__}")
    return value


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RowError("no JSON", f"the line is no JSON: {error}") from error


def _check_names(fields: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in fields:
        if key not in known:
            raise RowError("unknown field", f"unknown {what}: '{key}'{nearest(key, known)}")


def _typed(fields: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {str: "text", int: "an integer", dict: "an object"}
        raise RowError("wrong type", f"'{key}' must be {names[kind]}, got {json.dumps(value)}")
    return value


def _list_of(fields: Mapping[str, Any], key: str, kind: type | None = None) -> list[Any]:
    value = fields.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or (kind and not all(isinstance(v, kind) for v in value)):
        of = " of texts" if kind is str else ""
        raise RowError("wrong type", f"'{key}' must be a list{of}, got {json.dumps(value)}")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RowError(
            "wrong type", f"{where} must be a number of seconds, got {json.dumps(value)}"
        )
    return float(value)

"""Datasets of records: a TFDS builder over ArrayRecord files, without TensorFlow.

A dataset is one directory: ``dataset_info.json``, ``features.json`` and ``metadata.json`` as TFDS
writes them, shards ``records-<split>.array_record-*``, and per split ``annotations-<split>.npz``,
a table of all annotations that tells, without reading any medium, which records hold which tasks.
``tfds.builder_from_directory`` opens it too. It is written to a disk, and read there or, where it
was copied to, on gs://.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from vljepa_jax.config import nearest
from vljepa_jax.data.records import LABELS_PREFIX, Annotation, Label, Medium, Record
from vljepa_jax.places import DATASET_BUCKETS, AnyPath, complaint, in_bucket, place

_FORMAT = 1  # of the metadata and of the annotation table
_SHARD_BYTES = 512 << 20
_NAMES = "surrogatepass"  # an id may be the name of a file, which is not always UTF-8
_ARRAY_RECORD_OPTIONS = "group_size:1"  # any record can be read alone


class DatasetError(ValueError):
    """A dataset that cannot be written or opened; the message names it and the reason."""


@dataclasses.dataclass(frozen=True)
class AnnotationTable:
    """All annotations of a split, one row each, in the order of the records.

    Attributes:
        record: uint32 [A], index of the record.
        annotation: uint16 [A], index of the annotation in its record.
        task: uint8 [A], index into ``tasks``.
        trainable: bool [A], whether it has inputs and a target (``records.trainable``).
        tasks: names of the tasks.
    """

    record: np.ndarray
    annotation: np.ndarray
    task: np.ndarray
    trainable: np.ndarray
    tasks: tuple[str, ...]


class Source:
    """Random access to the records of one split; cheap to send to worker processes."""

    def __init__(self, directory: str, split: str, length: int):
        self.directory = directory
        self.split = split
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        return _to_record(self._examples[index])

    def annotations(self) -> AnnotationTable:
        """The table of all annotations of the split."""
        path = _table_path(place(self.directory, DATASET_BUCKETS), self.split)
        with path.open("rb") as file, np.load(file) as table:
            tasks = tuple(str(task) for task in table["tasks"])
            columns = {name: table[name] for name in table.files if name != "tasks"}
        return AnnotationTable(**columns, tasks=tasks)

    @functools.cached_property
    def _examples(self) -> Sequence[Mapping[str, Any]]:
        return tfds.builder_from_directory(self.directory).as_data_source(split=self.split)

    def __getstate__(self) -> dict[str, Any]:  # open files stay behind
        return {key: value for key, value in vars(self).items() if key != "_examples"}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
        directory: where it lies.
        name: its name.
        description: what it is.
        splits: number of records of each split.
        labels: the label sets that annotations refer to as "@labels/NAME".
    """

    directory: str
    name: str
    description: str
    splits: Mapping[str, int]
    labels: Mapping[str, tuple[Label, ...]]

    def source(self, split: str) -> Source:
        """The records of one split.

        Raises:
            DatasetError: there is no such split.
        """
        if split not in self.splits:
            raise DatasetError(
                f"{self.directory}: has no split '{split}'{nearest(split, self.splits)}; "
                f"it has {', '.join(self.splits)}"
            )
        return Source(self.directory, split, self.splits[split])

    def candidates(self, annotation: Annotation) -> tuple[tuple[str, ...], ...]:
        """The candidate answers of an annotation, each with its texts."""
        if isinstance(annotation.candidates, str):
            labels = self.labels[annotation.candidates.removeprefix(LABELS_PREFIX)]
            return tuple(label.texts for label in labels)
        return tuple((text,) for text in annotation.candidates)

    def answer(self, annotation: Annotation) -> tuple[str, ...]:
        """The texts of the right candidate; the annotation must have ``gold``."""
        if isinstance(annotation.candidates, str):
            labels = self.labels[annotation.candidates.removeprefix(LABELS_PREFIX)]
            return labels[annotation.gold].texts
        return (annotation.candidates[annotation.gold],)


def open_dataset(directory: str | os.PathLike[str]) -> Dataset:
    """Opens a dataset that ``write_dataset`` wrote.

    Args:
        directory: on a disk or gs://.

    Raises:
        DatasetError: the directory is missing, or holds no such dataset.
    """
    path = place(directory, DATASET_BUCKETS)
    if in_bucket(path):
        if reason := complaint(path):
            raise DatasetError(f"{path}: {reason}")
    else:
        path = path.absolute()
        if not path.is_dir():
            raise DatasetError(f"{path}: no such directory; launch/prepare.py makes datasets")
    if not (path / "dataset_info.json").is_file():
        raise DatasetError(f"{path}: holds no dataset; launch/prepare.py makes datasets")
    info = tfds.builder_from_directory(str(path)).info
    metadata = info.metadata or {}
    if metadata.get("format") != _FORMAT:
        raise DatasetError(
            f"{path}: is a dataset of form {metadata.get('format')}, this version reads form "
            f"{_FORMAT}; prepare it again"
        )
    labels = {
        name: tuple(Label(entry["id"], tuple(entry["texts"])) for entry in entries)
        for name, entries in metadata["labels"].items()
    }
    splits = {name: split.num_examples for name, split in info.splits.items()}
    return Dataset(str(path), metadata["name"], info.description, splits, labels)


def write_dataset(
    directory: str | os.PathLike[str],
    splits: Mapping[str, Iterable[Record]],
    *,
    name: str,
    description: str,
    labels: Mapping[str, Sequence[Label]],
    license: str = "",
    approve: Callable[[], None] = lambda: None,
) -> None:
    """Writes a dataset; records are streamed, in their order, and never all in memory.

    The directory appears when all is written: a build that fails or is killed leaves nothing that
    opens.

    Args:
        directory: must not exist.
        splits: the records of each split; one without any is left out.
        labels: the label sets that annotations refer to as "@labels/NAME".
        approve: called when all is written and before the directory appears; what it raises leaves
            nothing.

    Raises:
        FileExistsError: the directory exists.
        DatasetError: there are no records, or one refers to a medium, candidate or label set that
            is not there.
    """
    target = pathlib.Path(directory).absolute()
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it or name another directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        builder = _RecordsBuilder(scratch, splits, name, description, labels, license, approve)
        builder.download_and_prepare(
            download_dir=str(scratch / "downloads"),
            download_config=tfds.download.DownloadConfig(compute_stats="skip"),
        )
        for split in builder.info.splits:
            rows = builder.tables[split]
            rows.save(_table_path(pathlib.Path(builder.data_dir), split))
        os.chmod(builder.data_dir, 0o755)
        os.rename(builder.data_dir, target)
    finally:
        shutil.rmtree(scratch)


class _RecordsBuilder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder.

    Only the writing of shards differs from its base: TFDS's writer holds a split in memory up to
    1 GB to shuffle it and beyond that needs TensorFlow's file system; this one writes records as
    they come, and readers shuffle.
    """

    name = "records"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        data_dir: pathlib.Path,
        splits: Mapping[str, Iterable[Record]],
        name: str,
        description: str,
        labels: Mapping[str, Sequence[Label]],
        license: str,
        approve: Callable[[], None],
    ):
        self._records = splits
        self._approve = approve
        self._texts = (description, license)
        self._dataset_metadata = {
            "format": _FORMAT,
            "name": name,
            "labels": {
                key: [dataclasses.asdict(label) for label in entries]
                for key, entries in labels.items()
            },
        }
        self.tables = {split: _TableRows() for split in splits}
        super().__init__(data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        description, license = self._texts
        return tfds.core.DatasetInfo(
            builder=self,
            description=description or "records",
            license=license or None,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._dataset_metadata),
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "media": tfds.features.Sequence(
                        tfds.features.Tensor(shape=(), dtype=np.object_)
                    ),
                    "spans": tfds.features.Text(),  # JSON, as 32-bit floats would blur seconds
                    "annotations": tfds.features.Text(),  # JSON
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, record in enumerate(self._records[split]):
            _check(record, self._dataset_metadata["labels"])
            self.tables[split].add(index, record)
            yield index, _to_example(record)

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> list[tfds.core.SplitInfo]:
        generators = self._split_generators(dl_manager)
        infos = [self._write_split(split, examples) for split, examples in generators.items()]
        self._approve()
        written = [info for info in infos if info is not None]
        if not written:
            raise DatasetError("no split has any records")
        return written

    def _write_split(
        self, split: str, examples: Iterator[tuple[int, dict[str, Any]]]
    ) -> tfds.core.SplitInfo | None:
        template = self._get_filename_template(split_name=split)
        lengths: list[int] = []
        parts: list[pathlib.Path] = []
        writer, in_shard, total = None, 0, 0
        for _, example in examples:
            if writer is None or in_shard >= _SHARD_BYTES:
                if writer is not None:
                    writer.close()
                parts.append(pathlib.Path(self.data_dir) / f"{split}.part-{len(parts)}")
                writer, in_shard = ArrayRecordWriter(str(parts[-1]), _ARRAY_RECORD_OPTIONS), 0
                lengths.append(0)
            data = self.info.features.serialize_example(example)
            writer.write(data)
            lengths[-1] += 1
            in_shard += len(data)
            total += len(data)
        if writer is None:
            return None
        writer.close()
        for index, part in enumerate(parts):
            part.rename(template.sharded_filepath(shard_index=index, num_shards=len(parts)))
        return tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=total, filename_template=template
        )

    # TFDS announces a download; nothing is downloaded here.
    def _log_download_bytes(self) -> None:
        pass

    def _log_download_done(self) -> None:
        pass


class _TableRows:
    """Collects an ``AnnotationTable`` in a few bytes a row."""

    def __init__(self):
        self._columns = {"record": array.array("I"), "annotation": array.array("H")}
        self._columns |= {"task": array.array("B"), "trainable": array.array("B")}
        self._tasks: dict[str, int] = {}

    def add(self, index: int, record: Record) -> None:
        for position, annotation in enumerate(record.annotations):
            task = self._tasks.setdefault(annotation.task, len(self._tasks))
            row = (index, position, task, annotation.trainable)
            for column, value in zip(self._columns.values(), row, strict=True):
                column.append(value)

    def save(self, path: pathlib.Path) -> None:
        columns = {name: np.array(column) for name, column in self._columns.items()}
        columns["trainable"] = columns["trainable"].astype(bool)
        np.savez(path, **columns, tasks=np.array(list(self._tasks), dtype=np.str_))


def _table_path(directory: AnyPath, split: str) -> AnyPath:
    return directory / f"annotations-{split}.npz"


def _check(record: Record, labels: Mapping[str, Sequence[Any]]) -> None:
    """Refuses a record whose annotations refer to what is not there."""
    media = len(record.media)
    for annotation in record.annotations:
        where = f"record '{record.id}', annotation '{annotation.id}'"
        if any(not 0 <= index < media for index in annotation.inputs + annotation.candidate_media):
            raise DatasetError(f"{where}: refers to a medium beyond its {media}")
        if isinstance(annotation.candidates, str):
            name = annotation.candidates.removeprefix(LABELS_PREFIX)
            if name not in labels:
                raise DatasetError(f"{where}: no label set '{name}'{nearest(name, labels)}")
            count = len(labels[name])
        else:
            count = len(annotation.candidates) or len(annotation.candidate_media)
        if annotation.gold is not None and not 0 <= annotation.gold < count:
            raise DatasetError(f"{where}: gold {annotation.gold} of {count} candidates")
        for field in ("times", "durations"):
            values = getattr(annotation, field)
            wanted = len(annotation.texts if field == "times" else annotation.times)
            if values and len(values) != wanted:
                raise DatasetError(f"{where}: {len(values)} {field} for {wanted}")


def _to_example(record: Record) -> dict[str, Any]:
    return {
        "id": record.id.encode(errors=_NAMES),
        "media": [medium.data for medium in record.media],
        "spans": json.dumps([[m.path, m.start, m.end] for m in record.media]),
        "annotations": json.dumps(
            [
                {
                    field.name: getattr(annotation, field.name)
                    for field in dataclasses.fields(Annotation)
                    if getattr(annotation, field.name) != _DEFAULTS.get(field.name)
                }
                for annotation in record.annotations
            ]
        ),
    }


def _to_record(example: Mapping[str, Any]) -> Record:
    spans = json.loads(example["spans"])
    return Record(
        id=example["id"].decode(errors=_NAMES),
        media=tuple(
            Medium(bytes(data), *span) for data, span in zip(example["media"], spans, strict=True)
        ),
        annotations=tuple(
            Annotation(**{key: _to_tuple(value) for key, value in fields.items()})
            for fields in json.loads(example["annotations"])
        ),
    )


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_DEFAULTS = {
    field.name: field.default_factory() if field.name == "tags" else field.default
    for field in dataclasses.fields(Annotation)
}

"""Datasets of records: one directory each, written once, read at random.

The directory holds ``dataset.json``, which tells all that opening needs, and the parts of each
split (``shards``): media in one set of ArrayRecord files, annotations in another. It is written to
a disk, and read there or, where it was copied to, on gs://.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dacite

from vljepa_jax.config import nearest
from vljepa_jax.data.part_writer import PartWriter
from vljepa_jax.data.parts import Part, Parts
from vljepa_jax.data.records import (
    LABELS_PREFIX,
    SPLIT_NAME,
    Annotation,
    Label,
    Record,
    shown,
)
from vljepa_jax.data.shards import Annotations, DatasetError, Media
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.ownership import new_directory
from vljepa_jax.places import (
    DATASET_BUCKETS,
    complaint,
    file_stamp,
    in_bucket,
    place,
    write_bytes,
)

# Of all files of a dataset. Raise it whenever they change: older datasets are refused then.
FORMAT = 2
_METADATA = "dataset.json"
_METADATA_1 = "dataset_info.json"  # of format 1, which TFDS wrote
_PART_BYTES = 512 << 20


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
        directory: where it lies.
        name: its name.
        description: what it is.
        license: of its contents; "" where nothing was said.
        metric: how its examples are scored, as text; "" likewise.
        sources: where its contents come from: one object each, as the manifests have them.
        parts: of each split.
        labels: the label sets that annotations refer to as "@labels/NAME".
    """

    directory: str
    name: str
    description: str
    license: str
    parts: Mapping[str, Parts]
    labels: Mapping[str, tuple[Label, ...]]
    metric: str = ""
    sources: tuple[Mapping[str, Any], ...] = ()

    @property
    def splits(self) -> dict[str, int]:
        """The number of media records of each split."""
        return {split: int(parts.media.sum()) for split, parts in self.parts.items()}

    @functools.cached_property
    def identity(self) -> str:
        """Changes when the dataset is made anew; that of a copy may differ."""
        files = sorted(place(self.directory, DATASET_BUCKETS).iterdir())
        stamps = [f"{path.name} {file_stamp(path)}" for path in files]
        return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]

    def media(self, split: str) -> Media:
        """The media records of one split.

        Raises:
            DatasetError: there is no such split.
        """
        return Media(self.directory, split, self._parts_of(split))

    def annotations(self, split: str) -> Annotations:
        """The annotations of one split; to read them reads no medium.

        Raises:
            DatasetError: there is no such split.
        """
        return Annotations(self.directory, split, self._parts_of(split))

    def records(self, split: str) -> Iterator[Record]:
        """All media records of a split with their annotations, in order."""
        media, annotations = self.media(split), self.annotations(split)
        for index in range(len(media)):
            record = media[index]
            yield Record(record.id, record.media, annotations.of(index))

    def candidates(self, annotation: Annotation) -> tuple[tuple[str, ...], ...]:
        """The candidate answers of an annotation, each with its texts; of a set, one object.

        Raises:
            DatasetError: the metadata lacks its label set.
        """
        if isinstance(annotation.candidates, str):
            name = annotation.candidates.removeprefix(LABELS_PREFIX)
            if name not in self._label_texts:
                self._label_set(annotation.candidates)  # raises
            return self._label_texts[name]
        return tuple((text,) for text in annotation.candidates)

    def answer(self, annotation: Annotation) -> tuple[str, ...]:
        """The texts of the correct candidate; the annotation must have ``gold``."""
        if isinstance(annotation.candidates, str):
            return self._label_set(annotation.candidates)[annotation.gold].texts
        return (annotation.candidates[annotation.gold],)

    @functools.cached_property
    def _label_texts(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        return {name: tuple(label.texts for label in own) for name, own in self.labels.items()}

    def _label_set(self, reference: str) -> tuple[Label, ...]:
        name = reference.removeprefix(LABELS_PREFIX)
        if name not in self.labels:
            raise DatasetError(
                f"{self.directory}: its metadata has no label set '{name}', which annotations ask "
                "for; copy the dataset or make it anew"
            )
        return self.labels[name]

    def _parts_of(self, split: str) -> Parts:
        if split not in self.parts:
            raise DatasetError(
                f"{self.directory}: has no split '{split}'{nearest(split, self.parts)}; "
                f"it has {', '.join(self.parts)}"
            )
        return self.parts[split]


@dataclasses.dataclass(frozen=True)
class _Metadata:
    """What ``dataset.json`` holds beside its format."""

    name: str
    description: str
    license: str
    splits: dict[str, list[Any]]  # of parts; there may be a hundred thousand
    labels: dict[str, tuple[Label, ...]]
    # Datasets of before have neither.
    metric: str = ""
    sources: tuple[dict[str, Any], ...] = ()


def is_dataset(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory of a disk holds a dataset, of this format or the one before."""
    return any(os.path.isfile(os.path.join(directory, name)) for name in (_METADATA, _METADATA_1))


def open_dataset(directory: str | os.PathLike[str]) -> Dataset:
    """Opens a dataset that ``write_dataset`` wrote.

    Args:
        directory: on a disk or gs://.

    Raises:
        DatasetError: the directory is missing, or holds no dataset of this format.
    """
    path = place(directory, DATASET_BUCKETS)
    if in_bucket(path):
        if reason := complaint(path):
            raise DatasetError(f"{path}: {reason}")
    else:
        path = path.absolute()
        if not path.is_dir():
            raise DatasetError(f"{path}: no such directory; launch/prepare.py makes datasets")
    if (path / _METADATA).is_file():
        try:
            metadata = read_json(path / _METADATA, dict)
        except JSONError as error:
            raise DatasetError(f"{error}; copy the dataset or make it anew") from error
    elif (path / _METADATA_1).is_file():
        metadata = {"format": 1}
    else:
        raise DatasetError(f"{path}: holds no dataset; launch/prepare.py makes datasets")
    if (form := metadata.get("format")) != FORMAT:
        raise DatasetError(
            f"{path}: is a dataset of format {form}, and this version reads format "
            f"{FORMAT}. Make it anew: python launch/prepare.py --manifest=... --output=..."
        )
    try:
        content = dacite.from_dict(_Metadata, metadata, dacite.Config(cast=[tuple]))
        parts = {split: Parts(map(Part.parse, own)) for split, own in content.splits.items()}
        for split in content.splits:
            check_split_name(split, path)
    except (dacite.DaciteError, TypeError, AttributeError, ValueError, LookupError) as error:
        raise DatasetError(
            f"{path / _METADATA}: is damaged ({str(error)[:200]}); copy the dataset or make it anew"
        ) from error
    return Dataset(
        directory=str(path),
        name=content.name,
        description=content.description,
        license=content.license,
        parts=parts,
        labels=content.labels,
        metric=content.metric,
        sources=content.sources,
    )


def write_dataset(
    directory: str | os.PathLike[str],
    splits: Mapping[str, Iterable[Record]],
    *,
    name: str,
    description: str,
    labels: Mapping[str, Sequence[Label]],
    license: str = "",
    metric: str = "",
    sources: Sequence[Mapping[str, Any]] = (),
    approve: Callable[[pathlib.Path], None] = lambda directory: None,
    wait: bool = False,
) -> None:
    """Writes a dataset; records are streamed, in their order, and never all in memory.

    The directory appears when all is written: a build that fails or is killed leaves nothing that
    opens.

    Args:
        directory: must not exist.
        splits: the records of each split; one without any is left out.
        labels: the label sets that annotations refer to as "@labels/NAME".
        license, metric, sources: as in ``Dataset``.
        approve: called when all is written and before the directory appears, with where it lies
            until then; what it raises leaves nothing.
        wait: for another process that is writing it.

    Raises:
        FileExistsError: the directory exists.
        InUse: another process is writing it, and is not waited for.
        DatasetError: there are no records, a split has a name that no file can have, or a record
            refers to a medium, candidate or label set that is not there.
    """
    target = pathlib.Path(directory).absolute()
    for split in splits:
        check_split_name(split, target)
    with new_directory(target, wait=wait) as scratch:
        parts = {
            split: list(_write_split(scratch, split, records, labels))
            for split, records in splits.items()
        }
        approve(scratch)
        written = {split: own for split, own in parts.items() if own}
        if not written:
            raise DatasetError("no split has any records")
        write_metadata(
            scratch,
            written,
            name=name,
            description=description,
            license=license,
            metric=metric,
            sources=sources,
            labels=labels,
        )


def write_metadata(
    directory: pathlib.Path,
    parts: Mapping[str, Sequence[Part]],
    *,
    name: str,
    description: str,
    labels: Mapping[str, Sequence[Label]],
    license: str = "",
    metric: str = "",
    sources: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Makes a dataset of parts that lie in a directory already; the fields are ``Dataset``'s."""
    metadata = {
        "format": FORMAT,
        "name": name,
        "description": description,
        "license": license,
        "metric": metric,
        "sources": list(sources),
        "splits": {split: list(map(dataclasses.asdict, own)) for split, own in parts.items()},
        "labels": {key: list(map(dataclasses.asdict, own)) for key, own in labels.items()},
    }
    write_bytes(directory / _METADATA, json.dumps(metadata, indent=1).encode())


def check_split_name(split: str, where: str | os.PathLike[str]) -> None:
    """Raises DatasetError for a name that no split can have: it begins the names of its files."""
    if not SPLIT_NAME.fullmatch(split):
        raise DatasetError(
            f"{where}: '{shown(split)}' is no name of a split, which has letters, digits, _ . and -"
        )


def _write_split(
    directory: pathlib.Path,
    split: str,
    records: Iterable[Record],
    labels: Mapping[str, Sequence[Label]],
) -> Iterator[Part]:
    writer, index = None, 0
    for record in records:
        _check(record, labels)
        if writer is None:
            writer = PartWriter(directory, split, index)
        writer.add(record)
        if writer.size >= _PART_BYTES:
            yield writer.close()
            writer, index = None, index + 1
    if writer is not None:
        yield writer.close()


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

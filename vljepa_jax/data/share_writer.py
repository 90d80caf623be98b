"""Shares of a source -> the parts of a dataset, each by a writer that knows of no other.

``write_share`` is a pure function of a share: it gives the same bytes on any machine, so that a
process pool, a job array and a Beam pipeline (``beam_pipeline``) make the same dataset, and what is
there already need not be made again. It holds one record, and the names and the places of a share's
rows, in memory. ``ShareJob.finish`` makes a dataset of the parts.

Until then they lie in ``.NAME.partial`` beside the output:

    job.json                the source, the options and the number of shares; it stays
    SPLIT-00000.*           of a share: its part, and at last SPLIT-00000.report.json
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from vljepa_jax.data.checked_media import MediaCheck, sound_part
from vljepa_jax.data.part_writer import PartWriter
from vljepa_jax.data.parts import Part
from vljepa_jax.data.process_pool import ProcessPool
from vljepa_jax.data.records import Record, shown
from vljepa_jax.data.shares import (
    RecordSource,
    Refused,
    Share,
    digest,
    divide,
    grouped,
    readable,
)
from vljepa_jax.data.storage import check_split_name, is_dataset, write_metadata
from vljepa_jax.json_text import read_json
from vljepa_jax.ownership import LOCK, owned
from vljepa_jax.places import write_bytes

# Bytes of a source's files that make a share, or a little more.
SHARE_BYTES = 512 << 20
_REPORT, _SKIPPED = "report.json", "skipped.jsonl"


class ShareError(ValueError):
    """A share, or a job, that cannot be written; the message names what is wrong and the mend."""


@dataclasses.dataclass(frozen=True)
class ShareOptions:
    """How shares are written.

    Attributes:
        split: whose parts they become.
        check: how media are written and looked at.
        on_error: with "refuse", a row that cannot be used ends its share, which is not written.
    """

    split: str
    check: MediaCheck
    on_error: Literal["skip", "refuse"]


def write_share(
    source: RecordSource,
    options: ShareOptions,
    directory: str,
    indexed: tuple[int, Share],
) -> dict[str, Any]:
    """Writes the part of a share; where it is written already, it only reads the report.

    Args:
        directory: where parts lie; it must exist.
        indexed: the share with its index in the job, and so that of its part in the split.

    Returns:
        The report: "rows", "skipped" (counts by kind), "files" (path, bytes and SHA-256 of each
        piece) and "part" (``shards.Part``).

    Raises:
        ShareError: a row cannot be used and is to be refused.
        OSError: the disk cannot be written to.
    """
    index, share = indexed
    target, begin = pathlib.Path(directory), f"{options.split}-{index:05d}."
    report = target / f"{begin}{_REPORT}"
    if report.exists():
        return read_json(report, dict)
    # In a folder of its own: several may write the same share, and each would give the same bytes.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{begin}", dir=directory))
    try:
        found = _write_part(source, options, scratch, index, share)
        for path in sorted(scratch.iterdir()):
            os.replace(path, target / path.name)
        write_bytes(scratch / report.name, json.dumps(found).encode())
        os.replace(scratch / report.name, report)  # last: the share is there
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def _write_part(
    source: RecordSource,
    options: ShareOptions,
    directory: pathlib.Path,
    index: int,
    share: Share,
) -> dict[str, Any]:
    writer = PartWriter(directory, options.split, index)
    skipped: collections.Counter[str] = collections.Counter()
    rows = 0
    with open(directory / f"{options.split}-{index:05d}.{_SKIPPED}", "w", encoding="utf-8") as told:
        for row in _sound_rows(source, options.check, share):
            if isinstance(row, Record):
                writer.add(row)
                rows += len(row.annotations)
                continue
            if options.on_error == "refuse":
                raise ShareError(
                    f"{row.kind}: {row.reason} (row '{shown(row.id)}' of share {index}). Parts"
                    " that are written stay: mend it and start again, or leave such rows out with"
                    " --on_error=skip"
                )
            rows += 1
            skipped[row.kind] += 1
            told.write(json.dumps(dataclasses.asdict(row)) + "\n")
    return {
        "rows": rows,
        "skipped": dict(sorted(skipped.items())),
        "files": [
            {"path": piece.path, "start": piece.start, "end": piece.end, "sha256": digest(piece)}
            for piece in share
        ],
        "part": dataclasses.asdict(writer.close()),
    }


def _sound_rows(
    source: RecordSource, check: MediaCheck, share: Share
) -> Iterator[Record | Refused]:
    seen: set[str] = set()  # of one share: its size bounds it
    rows = itertools.chain.from_iterable(map(functools.partial(readable, source), share))
    for row in grouped(rows):
        if isinstance(row, Refused):
            yield row
            continue
        kept, refused = sound_part(*check(row))
        if refused:
            there = all(not medium.path or os.path.isfile(medium.path) for medium in row.media)
            kind = "unreadable" if there else "missing file"
            yield from (Refused(id, kind, reason) for id, reason in refused.items())
        annotations = []
        for annotation in kept.annotations:
            if annotation.id in seen:
                yield Refused(annotation.id, "duplicate id", f"'{shown(annotation.id)}'")
            else:
                seen.add(annotation.id)
                annotations.append(annotation)
        if annotations:
            yield dataclasses.replace(kept, annotations=tuple(annotations))


@dataclasses.dataclass(frozen=True)
class ShareJob:
    """A source that becomes a dataset, share by share.

    Attributes:
        source, options: of all shares.
        output: the dataset's directory.
        name: of the dataset.
        shares: all of them; their indices are those of the parts.
    """

    source: RecordSource
    options: ShareOptions
    output: pathlib.Path
    name: str
    shares: list[Share]

    @classmethod
    def plan(
        cls,
        source: RecordSource,
        options: ShareOptions,
        output: str | os.PathLike[str],
        name: str,
        share_bytes: int = SHARE_BYTES,
    ) -> ShareJob:
        """Divides a source, or finds the same division begun.

        Raises:
            FileExistsError: ``output`` exists.
            ShareError: another job was begun there: other options, or the files are others now.
            SourceError: there are no files.
            DatasetError: no split can have such a name.
        """
        output = pathlib.Path(output).absolute()
        if output.exists():
            raise FileExistsError(f"{output} exists; remove it or name another directory")
        check_split_name(options.split, output)
        job = cls(source, options, output, name, divide(source.pieces(), share_bytes))
        job.partial.mkdir(parents=True, exist_ok=True)
        plan, path = job._plan(), job.partial / "job.json"
        with owned(job.partial, name=f"job{LOCK}", wait=True, tell=lambda text: None):
            if not path.exists():
                write_bytes(path, json.dumps(plan, indent=1).encode())
        if read_json(path, dict) != plan:
            raise ShareError(
                f"'{job.partial}' was begun with other options, or the source's files have changed"
                " since: give the same, or remove it"
            )
        return job

    @property
    def partial(self) -> pathlib.Path:
        """Where parts lie until all are there."""
        return self.output.with_name(f".{self.output.name}.partial")

    def _plan(self) -> dict[str, Any]:
        pieces = [[dataclasses.astuple(piece) for piece in share] for share in self.shares]
        return {
            "name": self.name,
            "source": repr(self.source),
            "options": repr(self.options),
            "shares": len(self.shares),
            "pieces": hashlib.sha256(json.dumps(pieces).encode()).hexdigest(),
        }

    def missing(self, part: int = 0, of: int = 1) -> list[tuple[int, Share]]:
        """The shares that are not written, of those whose index is ``part`` modulo ``of``."""
        if self._is_finished:  # and was ended before the directory had its name
            return []
        return [
            (index, share)
            for index, share in enumerate(self.shares)
            if index % of == part and not self._file(index, _REPORT).exists()
        ]

    def write(self, missing: list[tuple[int, Share]], num_workers: int) -> Iterator[dict[str, Any]]:
        """Writes shares in processes, and yields their reports; 0 writes in this one.

        Raises:
            ShareError, OSError: as ``write_share``; what is written stays.
        """
        function = functools.partial(write_share, self.source, self.options, str(self.partial))
        with ProcessPool(num_workers) as pool:
            yield from pool.map(function, missing)

    def finish(self) -> dict[str, Any]:
        """Makes the dataset of the parts, which must all be there.

        Returns:
            Its card, which lies in it as ``card.json``: of the source, how media are stored, rows,
            records, annotations, skipped rows by kind, files with their SHA-256. The dataset's
            ``skipped.jsonl`` tells of each skipped row.

        Raises:
            ShareError: parts are missing, or no row is left.
            InUse: another process finishes it.
        """
        with owned(self.partial, name=f"finish{LOCK}"):
            if not self._is_finished:
                self._put_together()
            self._clear()
            os.rename(self.partial, self.output)
        (self.output / f"finish{LOCK}").unlink(missing_ok=True)
        return read_json(self.output / "card.json", dict)

    @property
    def _is_finished(self) -> bool:
        return is_dataset(self.partial)

    def _put_together(self) -> None:
        """Writes what is beside the parts, ``dataset.json`` last."""
        if missing := self.missing():
            raise ShareError(f"{len(missing)} of {len(self.shares)} shares are not written")
        reports = [read_json(self._file(index, _REPORT), dict) for index in range(len(self.shares))]
        parts = [Part.parse(report.pop("part")) for report in reports]
        card = self._card(reports, parts)
        if not card["annotations"]:
            raise ShareError(f"none of {card['rows']} rows can be used: {card['skipped']}")
        self._collect_skipped()
        write_bytes(self.partial / "card.json", json.dumps(card, indent=1).encode())
        write_metadata(
            self.partial,
            {self.options.split: parts},
            name=self.name,
            description=f"Prepared from {card['source'].get('title', self.name)}",
            license=card["source"].get("licence", ""),
            sources=[{name: value for name, value in card.items() if name != "files"}],
            labels={},
        )

    def _card(self, reports: list[dict[str, Any]], parts: list[Part]) -> dict[str, Any]:
        skipped: collections.Counter[str] = collections.Counter()
        for report in reports:
            skipped.update(report["skipped"])
        return {
            "source": dict(self.source.card),
            "media": dataclasses.asdict(self.options.check),
            "rows": sum(report["rows"] for report in reports),
            "records": sum(part.media for part in parts),
            "annotations": sum(part.annotations for part in parts),
            "skipped": dict(skipped.most_common()),
            "files": [file for report in reports for file in report["files"]],
        }

    def _collect_skipped(self) -> None:
        with open(self.partial / _SKIPPED, "wb") as together:
            for index in range(len(self.shares)):
                with open(self._file(index, _SKIPPED), "rb") as file:
                    shutil.copyfileobj(file, together)

    def _clear(self) -> None:
        """Removes what only the job needs, and what killed writers have left."""
        for path in self.partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.startswith(f"{self.options.split}-") and path.name.endswith(
                (_REPORT, _SKIPPED)
            ):
                path.unlink()

    def _file(self, index: int, ending: str) -> pathlib.Path:
        return self.partial / f"{self.options.split}-{index:05d}.{ending}"


def describe(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of a table that shows a card."""
    counts = [(f"{name} written", card[name]) for name in ("records", "annotations")]
    skipped = [(f"skipped: {kind}", count) for kind, count in card["skipped"].items()]
    return [(what, f"{n:,}") for what, n in [("rows read", card["rows"]), *counts, *skipped]]

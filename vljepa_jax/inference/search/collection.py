"""Embeds a collection into an index: only what is new, a shard at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from vljepa_jax.config import ConfigError
from vljepa_jax.data.collection import Item, Span, decode_items, find_windows
from vljepa_jax.data.records import ClipError, shown
from vljepa_jax.data.workers import in_batches
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.search import SHARD_ROWS
from vljepa_jax.inference.search.index import Entry, IndexSettings, IndexWriter, VideoIndex
from vljepa_jax.parallel.processes import (
    first_process,
    gather,
    require_same,
    rounds,
    share,
    wait_for_all,
)
from vljepa_jax.places import write_text

_SHOWN = 20  # unreadable clips that are named on the screen; all are in the file


@dataclasses.dataclass(frozen=True)
class CollectionSummary:
    """Counts of what became of a collection's clips.

    Attributes:
        embedded: clips that were new or had changed.
        rows: embeddings of these: windows, or one a clip.
        unchanged: clips that were in the index already.
        removed: clips that are no longer in the collection, or no longer readable.
        unreadable: one line each.
        unlike: embeddings of what is unlike the training clips; ``None`` if nobody can tell.
    """

    embedded: int
    rows: int
    unchanged: int
    removed: int
    unreadable: tuple[str, ...]
    unlike: int | None = None


def embed_collection(
    model: Embedder,
    items: Sequence[Item],
    faults: Sequence[str],
    output: str | os.PathLike[str],
    *,
    query: str,
    window: float,
    stride: float,
    drop_missing: bool,
    shard_rows: int = SHARD_ROWS,
    num_workers: int,
    console: Console,
    bars: Progress | None = None,
) -> CollectionSummary:
    """Brings an index up to date with a collection; shows progress and a table.

    Killed at any point and started again, it goes on after the last whole shard. Several processes
    embed a share of the clips each; the first alone writes and speaks, and all get the summary.

    Args:
        items: the collection.
        faults: why parts of it could not be listed, to be told with the unreadable clips.
        output: the index's directory; made if it is not there.
        query: X_Q of all clips.
        window: seconds; 0 embeds clips whole.
        stride: seconds.
        drop_missing: removes from the index what ``items`` do not hold.
        shard_rows: embeddings after which a shard is written.
        num_workers: decoding processes.
        bars: told how far it is, for who shows that elsewhere than on the console.

    Raises:
        ConfigError: window or stride make no sense.
        SearchIndexError: the index was made by another model or in another way.
        ConfigError: processes of one job see different collections.
    """
    if window < 0 or (window > 0) != (stride > 0) or stride > window:
        raise ConfigError(
            f"window = {window}, stride = {stride}: give both in seconds, the stride no longer "
            "than the window, or neither"
        )
    settings = IndexSettings(
        model=model.fingerprint,
        size=model.embedding_size,
        query=query,
        frames=model.video.frames,
        window=window,
        stride=stride,
    )
    names = [item.name for item in items]
    digest = hashlib.sha256(os.fsencode("\0".join(names))).hexdigest()[:16]
    require_same("the clips that --videos names", f"{len(names)} ({digest})")
    unreadable: dict[str, str] = {}
    with (
        _opened(output, settings, model.card["source"]) as index,
        bars or _progress(console) as bars,
    ):
        stamps = {}
        for item in bars.track(share(items), description="Looking for changes"):
            try:
                stamps[item.name] = item.stamp()
            except ClipError as error:
                unreadable[item.name] = str(error)
        known = {name: entry.stamp for name, entry in index.entries.items()}
        # From here on the first may write: all of them have seen what is known.
        stamps = {name: stamp for part in gather(stamps) for name, stamp in part.items()}
        new = [i for i in items if i.name in stamps and stamps[i.name] != known.get(i.name)]
        requests = _requests(share(new), window, stride, num_workers, bars, unreadable)
        decoded = decode_items(requests, model.video, num_workers)
        vectors = in_batches(
            lambda _, clips: zip(
                *model.predict_and_judge(clips, [query] * len(clips)), strict=True
            ),
            zip(requests, decoded, strict=True),
            model.batch_size,
        )
        tracked = bars.track(vectors, len(requests), description="Embedding")
        embedded = rows = unlike = 0
        shards = _shards(requests, tracked, stamps, shard_rows, unreadable)
        for entries, embeddings in (shard for shards in rounds(shards) for shard in shards):
            if first_process():
                index.add(entries, embeddings)
            embedded += len(entries)
            rows += len(embeddings)
            unlike += sum(novelty > 1 for entry in entries for novelty in entry.novelty)
        unreadable = {name: why for part in gather(unreadable) for name, why in part.items()}
        # What can no longer be read is no longer what was embedded.
        gone = [name for name in unreadable if name in known]
        if drop_missing:
            gone += list(known.keys() - set(names))
        lines = (*faults, *unreadable.values())
        if first_process():
            index.remove(gone)
            write_text(Path(output) / "unreadable.txt", "".join(f"{line}\n" for line in lines))
    known_unlike = None if model.calibration is None else unlike
    summary = CollectionSummary(
        embedded, rows, len(stamps) - len(new), len(gone), lines, known_unlike
    )
    _show(summary, output, console)
    return summary


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _opened(
    output: str | os.PathLike[str], settings: IndexSettings, source: str
) -> contextlib.AbstractContextManager[IndexWriter | VideoIndex]:
    """The index: in the first process to write it, in the others to see what is in it."""
    if first_process():
        writer = IndexWriter(output, settings, source)
    wait_for_all()
    return writer if first_process() else contextlib.nullcontext(VideoIndex(output))


def _requests(
    items: Sequence[Item],
    window: float,
    stride: float,
    num_workers: int,
    bars: Progress,
    unreadable: dict[str, str],
) -> list[tuple[Item, Span | None]]:
    """The clips to decode: every item whole, or its windows."""
    if not window:
        return [(item, None) for item in items]
    found = find_windows(items, window, stride, num_workers)
    requests = []
    tracked = bars.track(found, len(items), description="Measuring lengths")
    for item, spans in zip(items, tracked, strict=True):
        if isinstance(spans, ClipError):
            unreadable[item.name] = str(spans)
        else:
            requests += [(item, span) for span in spans]
    return requests


def _shards(
    requests: Sequence[tuple[Item, Span | None]],
    vectors: Iterable[tuple[tuple[Item, Span | None], tuple[np.ndarray, np.float64] | ClipError]],
    stamps: dict[str, str],
    shard_rows: int,
    unreadable: dict[str, str],
) -> Iterator[tuple[list[Entry], np.ndarray]]:
    """Gathers whole clips until a shard is full; a clip with an unreadable window is left out."""
    entries: list[Entry] = []
    rows: list[np.ndarray] = []
    spans: list[Span | None] = []
    own: list[np.ndarray] = []
    novelty: list[float] = []
    for position, ((item, span), made) in enumerate(vectors):
        if isinstance(made, ClipError):
            unreadable[item.name] = str(made)
        else:
            own.append(made[0])
            novelty += [] if np.isnan(made[1]) else [round(float(made[1]), 3)]
        spans.append(span)
        if position + 1 < len(requests) and requests[position + 1][0] is item:
            continue
        if item.name not in unreadable:
            entries.append(Entry(item, stamps[item.name], tuple(spans), tuple(novelty)))
            rows += own
        spans, own, novelty = [], [], []
        if len(rows) >= shard_rows:
            yield entries, np.stack(rows)
            entries, rows = [], []
    if entries:
        yield entries, np.stack(rows)


def _show(summary: CollectionSummary, output: str | os.PathLike[str], console: Console) -> None:
    for line in summary.unreadable[:_SHOWN]:
        console.print(Text(line), style="yellow", soft_wrap=True)  # no markup, no :emoji: in it
    if len(summary.unreadable) > _SHOWN:
        more = len(summary.unreadable) - _SHOWN
        console.print(f"... and {more} more, see unreadable.txt in the index", style="yellow")
    table = Table(title=Text(shown(str(output)), "bold"), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, count in (
        ("clips embedded", summary.embedded),
        ("embeddings", summary.rows),
        ("  unlike the training clips", summary.unlike),
        ("clips that had not changed", summary.unchanged),
        ("clips removed", summary.removed),
        ("clips unreadable, skipped", len(summary.unreadable)),
    ):
        if count is not None:
            table.add_row(label, str(count))
    console.print(table)

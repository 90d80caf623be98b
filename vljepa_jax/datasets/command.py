"""The command ``launch/prepare.py --dataset``."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Literal

import rich.box
import rich.console
import rich.table
import rich.text

from vljepa_jax.data.manifest import open_manifest
from vljepa_jax.data.prepare import prepare
from vljepa_jax.data.records import shown
from vljepa_jax.datasets import conversion, registry
from vljepa_jax.datasets.adapter import Adapter, AdapterError
from vljepa_jax.datasets.conversion import SplitCount


def run(
    name: str,
    *,
    root: str | None,
    splits: Sequence[str],
    rows: str | None,
    output: str | None,
    check: bool,
    on_error: Literal["skip", "refuse"],
    embed: bool,
    num_workers: int,
    console: rich.console.Console,
) -> int:
    """Lists the datasets, counts one, writes its rows, or prepares it.

    Args:
        name: of a dataset, or "list".
        root: the folder with its official layout.
        splits: () for all.
        rows: a manifest to write; with several splits, NAME.SPLIT.jsonl of NAME.jsonl. Media are
            not opened; what is absent is listed in NAME.absent.txt.
        output: a dataset to write; what is absent is left out, and listed in its absent.txt.
        check: whether other counts than published are an error; neither rows nor a dataset are
            written then.
        on_error, embed, num_workers: as ``data.prepare.prepare``.

    Returns:
        The status to exit with: 1 if counts differ and are checked.

    Raises:
        AdapterError: there is no such dataset or split; an official file is missing, or has another
            format; or it is not said what to do.
        FileExistsError, ManifestError: as ``data.prepare.prepare``.
    """
    if name == "list":
        show_list(console)
        return 0
    adapter = registry.load(name)
    if root is None:
        raise AdapterError(f"{name}: give --root, the folder with its official files")
    if rows and output or not (rows or output or check):
        raise AdapterError(f"{name}: give one of --output and --rows, or --check alone")
    if rows and not rows.endswith(".jsonl"):
        raise AdapterError(f"--rows={rows}: the name of a manifest ends in .jsonl")
    if output and pathlib.Path(output).exists():
        raise FileExistsError(f"{output} exists; remove it or name another directory")
    chosen = list(splits) or [split.name for split in adapter.splits]
    with tempfile.TemporaryDirectory() as folder:
        counts, manifests = [], []
        for split in chosen:
            if output:
                conversion.unpack_media(adapter, root, split)
            manifest = pathlib.Path(folder, f"{name}.{split}.jsonl") if rows or output else None
            keep = not output or on_error == "refuse"  # so that a row without its file is refused
            count = conversion.convert(
                adapter, root, split, manifest, absent=keep, faulty=bool(output)
            )
            counts.append(count)
            manifests += [manifest] if manifest else []
        differing = conversion.differences(adapter, counts)
        console.print(_count_table(adapter, counts))
        for line in differing:
            console.print(rich.text.Text(f"otherwise than published: {line}", style="yellow"))
        faults = [f"split '{count.split}', {fault}" for count in counts for fault in count.faults]
        if faults and not output:  # else they are told, and counted, where they are refused
            left_out = " and are left out" if rows else ""
            told = f"{len(faults):,} rows cannot be used{left_out}, the first: {faults[0]}"
            console.print(rich.text.Text(told, style="yellow"))
        if check and (differing or faults):
            return 1
        if rows:
            _keep_rows(manifests, counts, pathlib.Path(rows), console)
        if output:
            _check_any_row(name, root, manifests, counts)
            prepare(
                [open_manifest(str(path), split=None, root=None) for path in manifests],
                output,
                name=name,
                on_error=on_error,
                embed=embed,
                num_workers=num_workers,
                console=console,
            )
            _list_absent(pathlib.Path(output, "absent.txt"), counts, console)
    return 0


def _check_any_row(
    name: str, root: str, manifests: Sequence[pathlib.Path], counts: Sequence[SplitCount]
) -> None:
    if not any(manifest.stat().st_size for manifest in manifests):
        absent = [path for count in counts for path in count.absent]
        raise AdapterError(
            f"{name}: no row can be used, and nothing was written:"
            f" {sum(count.rows for count in counts):,} rows, {len(absent):,} media files"
            f" absent below {root}{f', the first is {absent[0]}' if absent else ''}"
        )


def _keep_rows(
    manifests: Sequence[pathlib.Path],
    counts: Sequence[SplitCount],
    target: pathlib.Path,
    console: rich.console.Console,
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for manifest, count in zip(manifests, counts, strict=True):
        # NAME.jsonl, or NAME.SPLIT.jsonl where there are several.
        kept = target if len(counts) == 1 else target.with_suffix(f".{count.split}{target.suffix}")
        shutil.move(manifest, kept)
        shutil.move(_beside(manifest, "meta.json"), _beside(kept, "meta.json"))
        _list_absent(_beside(kept, "absent.txt"), [count], console)
        console.print(rich.text.Text(f"{count.rows - len(count.faults):,} rows in {kept}"))
    if (labels := manifests[0].parent / "labels").is_dir():
        shutil.copytree(labels, target.parent / "labels", dirs_exist_ok=True)


def _beside(manifest: pathlib.Path, ending: str) -> pathlib.Path:
    return manifest.with_name(f"{manifest.stem}.{ending}")


def _list_absent(
    file: pathlib.Path, counts: Sequence[SplitCount], console: rich.console.Console
) -> None:
    """Lists the media files that are not there, one a line; without any there is no list."""
    absent = list(dict.fromkeys(path for count in counts for path in count.absent))
    if absent:
        file.write_text("".join(f"{shown(path)}\n" for path in absent), encoding="utf-8")
        console.print(rich.text.Text(f"{len(absent):,} media files are absent, see {file}"))
    else:
        file.unlink(missing_ok=True)


def _count_table(adapter: Adapter, counts: Sequence[SplitCount]) -> rich.table.Table:
    table = rich.table.Table(title=adapter.title, box=rich.box.SIMPLE)
    for name in ("split", "rows", "published", "media files", "published", "absent", "labels"):
        table.add_column(name, justify="left" if name == "split" else "right")
    published = {split.name: split for split in adapter.splits}
    for count in counts:
        expected = published[count.split]
        table.add_row(
            count.split,
            f"{count.rows:,}",
            number(expected.rows),
            f"{count.media:,}",
            number(expected.media),
            f"{len(count.absent):,}",
            "\n".join(
                f"{name}: {size:,} ({number(adapter.label_counts[name])})"
                for name, size in count.labels.items()
            ),
        )
    return table


def number(count: int | None) -> str:
    """ "9,668"; "?" where no public source says."""
    return "?" if count is None else f"{count:,}"


def show_list(console: rich.console.Console) -> None:
    """Prints what there is, what it needs, and where that comes from."""
    table = rich.table.Table(box=rich.box.SIMPLE, show_lines=True)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is, needs below --root, and comes from", overflow="fold")
    for name in registry.names():
        adapter = registry.load(name)
        files = dict.fromkeys(file.paths[0] for file in adapter.files)
        lines = [
            adapter.title,
            ", ".join(f"{split.name} ({number(split.rows)} rows)" for split in adapter.splits),
            f"files: {', '.join(files)}",
            f"media: {', '.join(adapter.media[:1]) or 'none'}",
            adapter.home,
        ]
        table.add_row(name, rich.text.Text("\n".join(lines)))
    for dataset in registry.UNSETTLED:
        lines = [
            dataset.title,
            f"no adapter: {dataset.reason}",
            "--manifest of rows with:",
            *(f"  {name}: {what}" for name, what in dataset.columns.items()),
            dataset.home,
        ]
        table.add_row(dataset.name, rich.text.Text("\n".join(lines)))
    console.print(table)

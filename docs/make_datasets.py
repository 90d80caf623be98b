"""Writes docs/datasets.md from what the adapters declare: python docs/make_datasets.py"""

from pathlib import Path

from vljepa_jax.datasets import registry
from vljepa_jax.datasets.adapter import Adapter, OfficialFile, Unsettled
from vljepa_jax.datasets.command import number

PAGE = Path(__file__).parent / "datasets.md"

HEAD = """\
# Public datasets: from their official files to a dataset

This page is made by `python docs/make_datasets.py` from what the adapters in `vljepa_jax/datasets/`
declare.

    python launch/prepare.py --dataset=list                    # what there is, and what it needs
    python launch/prepare.py --dataset=pope --root=POPE --check
    python launch/prepare.py --dataset=pope --root=POPE --output=datasets/pope
    python launch/prepare.py --dataset=ssv2 --splits=validation --root=SSV2 --rows=ssv2.jsonl

Nothing is downloaded: `--root` is a folder where the files lie as their authors publish them,
archives unpacked. `--output` writes a dataset to train and evaluate on. `--rows` writes a manifest
instead (`vljepa_jax/data/manifest_row.py`), without opening any media, with its label sets. A
manifest's meta file, and a dataset's `dataset.json`, say where it comes from: citation, licence,
the official files and their SHA-256.

- A missing official file is an error that names where it may lie and where it comes from.
- Numbers of rows, media files and labels are compared with those published, and differences are
  told; with `--check` they end the command with status 1, before a dataset or rows are written.
- Media files that are absent are counted and listed, in `absent.txt` of the dataset or
  `NAME.absent.txt` beside the manifest. A dataset leaves their rows out, or with
  `--on_error=refuse` is not written; a manifest keeps them.
- A class that is none of the dataset's is an error. An answer to a question that is no candidate
  has no correct candidate, and counts as wrong.
- Equal captions of different videos stay apart: retrieval counts each of their videos as correct.

Queries, templates of labels and metrics belong to benchmarks, not to datasets. Where a format was
not seen, its entry below says so, and the counts that are compared are the dataset's published
ones; `?` is where no public source was found.

| name | dataset | splits: rows, media files | labels | licence |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    adapters = [registry.load(name) for name in registry.names()]
    parts = [HEAD, *map(_line, adapters), "\n", *map(_entry, adapters), _UNSETTLED]
    parts += [_unsettled(dataset) for dataset in registry.UNSETTLED]
    return "".join(parts).rstrip() + "\n"


def _line(adapter: Adapter) -> str:
    splits = "<br>".join(
        f"{split.name}: {number(split.rows)}, {number(split.media)}" for split in adapter.splits
    )
    labels = "<br>".join(f"{name}: {number(count)}" for name, count in adapter.label_counts.items())
    cells = (f"`{adapter.name}`", adapter.title, splits, labels, adapter.licence)
    return f"| {' | '.join(cells)} |\n"


def _entry(adapter: Adapter) -> str:
    files = [
        f"- {' or '.join(f'`{path}`' for path in file.paths)}{_of_splits(file)}: from {file.source}"
        for file in adapter.files
    ]
    media = [f"- media: {', '.join(f'`{pattern}`' for pattern in adapter.media)}"]
    return "\n".join(
        [
            f"## {adapter.name}",
            "",
            f"{adapter.title}. {adapter.citation}. <{adapter.home}>",
            "",
            f"Format known from {adapter.known_from}.",
            "",
            *files,
            *(media if adapter.media else ()),
            "",
            *(f"{note}\n" for note in adapter.notes),
            "",
        ]
    )


def _of_splits(file: OfficialFile) -> str:
    return f" ({', '.join(file.splits)})" if file.splits else ""


_UNSETTLED = """\
# Without an adapter

No public file settles the format of these. A manifest of one's own, prepared with `--manifest`,
needs the fields that are named.

"""


def _unsettled(dataset: Unsettled) -> str:
    columns = "".join(f"- `{name}`: {what}\n" for name, what in dataset.columns.items())
    return (
        f"## {dataset.name}\n\n{dataset.title}. {dataset.citation}. <{dataset.home}>\n\n"
        f"Not seen: {dataset.reason}.\n\n{columns}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

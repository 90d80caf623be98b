"""Small files in the official formats of datasets, made up for tests."""

import json
import pathlib
from collections.abc import Iterator

from vljepa_jax.data.manifest_row import ManifestRow
from vljepa_jax.datasets.adapter import Adapter


def write(root: pathlib.Path, files: dict) -> pathlib.Path:
    """Writes files below ``root``: bytes and text as they are, anything else as JSON.

    Args:
        files: path -> content.

    Returns:
        ``root``.
    """
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            file.write_bytes(text.encode())  # line ends as they are
    return root


def rows(adapter: Adapter, root: pathlib.Path, split: str) -> Iterator[dict]:
    """The rows of a split, as a manifest has them."""
    for row in adapter.rows(root, split):
        assert ManifestRow.from_json(row.as_json()) == row  # what is written is what is read
        yield row.as_json()

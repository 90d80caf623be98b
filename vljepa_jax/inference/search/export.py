"""An index as a Parquet file, which vector stores take in.

| column | type | |
|---|---|---|
| name | string | of the clip; a path, where it is a file. Bytes that are no UTF-8 as escapes |
| start, end | double | seconds of the window; null where the clip was embedded whole |
| embedding | fixed-size list of float | unit vector: cosine and inner product rank alike |
| model | string | fingerprint; embeddings of equal ones compare |
| novelty | float | over 1, it is unlike the training clips; null where nobody tells |

The file's metadata has the settings of the index as JSON, under ``vljepa_jax``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import numpy as np

from vljepa_jax.inference.search.hits import Row
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex


def export_parquet(index: VideoIndex, path: str | os.PathLike[str]) -> int:
    """Writes what counts in an index; the file appears when it is whole.

    Returns:
        Its rows.

    Raises:
        SearchIndexError: pyarrow is not installed.
        OSError: it cannot be written.
    """
    require_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    settings = index.settings
    schema = pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            ("start", pa.float64()),
            ("end", pa.float64()),
            pa.field("embedding", pa.list_(pa.float32(), settings.size), nullable=False),
            pa.field("model", pa.string(), nullable=False),
            ("novelty", pa.float32()),
        ],
        metadata={"vljepa_jax": json.dumps(dataclasses.asdict(settings))},
    )
    path, written = Path(path), 0
    temporary = path.with_name(path.name + ".tmp")
    with parquet.ParquetWriter(temporary, schema) as writer:
        for embeddings, rows in index.rows():
            starts, ends = zip(*(row.span or (None, None) for row in rows), strict=True)
            columns = {
                # As ``places.write_text``: lone surrogates are no text.
                "name": [n.encode(errors="backslashreplace").decode() for n in map(_name, rows)],
                "start": starts,
                "end": ends,
                "embedding": pa.FixedSizeListArray.from_arrays(np.ravel(embeddings), settings.size),
                "model": [settings.model] * len(rows),
                "novelty": [row.novelty for row in rows],
            }
            writer.write_table(pa.Table.from_pydict(columns, schema))
            written += len(rows)
    os.replace(temporary, path)
    return written


def require_parquet() -> None:
    """Raises SearchIndexError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise SearchIndexError("Parquet needs pip install 'vljepa_jax[parquet]'")


def _name(row: Row) -> str:
    return row.entry.item.name

"""An index as a Parquet file, read back by pyarrow and by a vector store."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pyarrow import parquet

from vljepa_jax.data.collection import Item
from vljepa_jax.data.records import Medium
from vljepa_jax.inference.search.export import export_parquet
from vljepa_jax.inference.search.index import Entry, IndexSettings, IndexWriter, VideoIndex

SETTINGS = IndexSettings(model="abc", size=8, query="", frames=4, window=2.0, stride=1.0)


@pytest.fixture
def index(tmp_path):
    rng = np.random.default_rng(0)
    with IndexWriter(tmp_path / "index", SETTINGS, "/runs/x") as writer:
        for shard, name in enumerate(["a", "caf\udce9", "b", "a"]):  # "a" is embedded anew
            spans = ((0.0, 2.0), (1.0, 3.0)) if shard % 2 else (None,)
            vectors = rng.normal(size=(len(spans), 8)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            novelty = (0.5, 1.5)[: len(spans)] if name == "a" else ()
            item = Item(name, (Medium(path=f"/{name}"),))
            writer.add([Entry(item, str(shard), spans, novelty)], vectors)
    return VideoIndex(tmp_path / "index")


def test_what_counts_is_written_with_its_columns(index, tmp_path):
    assert export_parquet(index, tmp_path / "index.parquet") == 5
    table = parquet.read_table(tmp_path / "index.parquet")
    assert table.schema.names == ["name", "start", "end", "embedding", "model", "novelty"]
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
    assert json.loads(table.schema.metadata[b"vljepa_jax"])["window"] == 2.0
    rows = table.to_pylist()
    assert [(row["name"], row["start"], row["end"], row["novelty"]) for row in rows] == [
        ("caf\\udce9", 0.0, 2.0, None),
        ("caf\\udce9", 1.0, 3.0, None),
        ("b", None, None, None),
        ("a", 0.0, 2.0, 0.5),
        ("a", 1.0, 3.0, 1.5),
    ]
    assert {row["model"] for row in rows} == {"abc"}
    embeddings = np.array([row["embedding"] for row in rows], np.float32)
    np.testing.assert_array_equal(embeddings, np.concatenate([part for part, _ in index.rows()]))
    with pytest.raises(FileNotFoundError):
        export_parquet(index, tmp_path / "no" / "index.parquet")


def test_a_vector_store_finds_what_search_finds(index, tmp_path):
    """The example of docs/search.md."""
    lancedb = pytest.importorskip("lancedb")
    export_parquet(index, tmp_path / "index.parquet")
    database = lancedb.connect(tmp_path / "store")
    windows = database.create_table("windows", parquet.read_table(tmp_path / "index.parquet"))
    query = np.concatenate([part for part, _ in index.rows()])[3]
    found = windows.search(query).distance_type("cosine").limit(5).to_list()
    (hits,) = index.search(query[None], 5)
    best = {(row["name"], row["start"]): 1 - row["_distance"] for row in found}
    assert (found[0]["name"], found[0]["start"]) == (hits[0].name, hits[0].start) == ("a", 0.0)
    for hit in hits:  # of rows that overlap, search shows the best
        name = hit.name.encode(errors="backslashreplace").decode()
        assert best[name, hit.start] == pytest.approx(hit.score, abs=1e-5)


def test_what_parquet_needs_is_told_before_anything_is_embedded(tmp_path):
    program = (
        "import sys; sys.modules['pyarrow'] = None; "
        "from vljepa_jax.commands import embed; embed.run()"
    )
    flags = [f"--{flag}={tmp_path / flag}" for flag in ("checkpoint", "videos", "output")]
    command = [sys.executable, "-c", program, *flags, f"--parquet={tmp_path / 'index.parquet'}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr == "error: Parquet needs pip install 'vljepa_jax[parquet]'\n"

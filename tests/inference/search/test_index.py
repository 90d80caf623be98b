import dataclasses
import json
import os

import numpy as np
import pytest

from vljepa_jax.data.collection import Item
from vljepa_jax.data.records import Medium
from vljepa_jax.inference.search.index import (
    Entry,
    IndexSettings,
    IndexWriter,
    SearchIndexError,
    VideoIndex,
)
from vljepa_jax.ownership import InUse

SETTINGS = IndexSettings(model="abc", size=3, query="", frames=4, window=2.0, stride=1.0)
UNIT = np.eye(3, dtype=np.float32)


def entry(name, *spans, stamp="1"):
    return Entry(Item(name, (Medium(path=f"/{name}.mp4", start=0.5),)), stamp, spans)


def write(directory, *shards):
    with IndexWriter(directory, SETTINGS, "/runs/x") as index:
        for entries, rows in shards:
            index.add(entries, np.array(rows, np.float32).reshape(-1, 3))


def found(directory, query, top=9, **kwargs):
    hits = VideoIndex(directory).search(np.array([query], np.float32), top, **kwargs)[0]
    return [(hit.name, hit.start, hit.end, pytest.approx(hit.score)) for hit in hits]


def test_search_ranks_every_row_by_cosine(tmp_path):
    write(
        tmp_path,
        (
            [entry("a", (0.0, 2.0), (2.0, 4.0)), entry("b", None)],
            [[1, 0, 0], [0.6, 0.8, 0], UNIT[2]],
        ),
        ([entry("c", None)], [[0.8, 0, 0.6]]),
    )
    expected = [
        ("a", 0.0, 2.0, 1.0),
        ("c", None, None, 0.8),
        ("a", 2.0, 4.0, 0.6),
        ("b", None, None, 0.0),
    ]
    assert found(tmp_path, [1, 0, 0]) == expected
    assert found(tmp_path, [1, 0, 0], top=2) == expected[:2]
    assert found(tmp_path, [1, 0, 0], each_once=True) == [expected[i] for i in (0, 1, 3)]
    index = VideoIndex(tmp_path)
    assert (len(index), index.settings, index.checkpoint) == (4, SETTINGS, "/runs/x")
    assert index.entries["a"] == entry("a", (0.0, 2.0), (2.0, 4.0))
    several = index.search(UNIT, 1)
    assert [hits[0].name for hits in several] == ["a", "a", "b"]


def test_of_windows_that_overlap_the_best_is_a_hit(tmp_path):
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.0, 5.0)]
    scores = [0.6, 0.8, 0.7, 0.5]
    rows = [[score, (1 - score**2) ** 0.5, 0] for score in scores]
    write(tmp_path, ([entry("a", *spans)], rows))
    # 1 to 3 is the best; it takes 0 to 2 and 2 to 4 with it, which share a second with it each.
    assert [hit[1:] for hit in found(tmp_path, UNIT[0])] == [(1.0, 3.0, 0.8), (3.0, 5.0, 0.5)]


def greedy(rows, query, top, fold, threshold, names):
    """The rule, a row at a time over all scores: (name, start, the starts folded into it)."""
    hits = []
    for _, name, span, vector in sorted(rows, key=lambda row: -float(row[3] @ query)):
        score = float(vector @ query)
        if (threshold is not None and score < threshold) or name not in names:
            continue
        for hit in hits:
            same = hit["name"] == name and hit["span"][0] < span[1] and span[0] < hit["span"][1]
            if same:
                break
        else:
            near = [float(hit["vector"] @ vector) for hit in hits]
            if near and max(near) >= fold:
                hit = hits[int(np.argmax(near))]
            elif len(hits) < top:
                hits.append({"name": name, "span": span, "vector": vector, "folded": []})
                continue
            else:
                continue
        hit["folded"].append((name, span[0]))
    return [(hit["name"], hit["span"][0], hit["folded"]) for hit in hits]


@pytest.mark.parametrize("resident", [False, True])
def test_near_equal_rows_are_folded_into_the_best(tmp_path, resident):
    """Ten meanings, forty rows each: many more near ones than are looked at in one pass."""
    rng = np.random.default_rng(0)
    meanings = rng.normal(size=(10, 3))
    rows, shards = [], []
    for clip in range(20):
        vectors = meanings[rng.integers(0, 10, 20)] + 0.01 * rng.normal(size=(20, 3))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        name, spans = f"{clip % 2}/{clip}", [(float(i), i + 1.5) for i in range(20)]
        rows += [(len(rows) + i, name, spans[i], vectors[i]) for i in range(20)]
        shards.append(([entry(name, *spans)], vectors))
    write(tmp_path, *shards)
    index = VideoIndex(tmp_path, resident=resident)
    everything = {row[1] for row in rows}
    for query, top, fold, threshold, names in (
        (meanings[0], 8, 0.995, None, None),
        (meanings[1], 3, 0.9, None, None),
        (meanings[2], 10, 0.995, 0.2, None),
        (meanings[3], 5, 0.99, -0.5, "1/*"),
    ):
        query = (query / np.linalg.norm(query)).astype(np.float32)
        (hits,) = index.search(query[None], top, fold=fold, threshold=threshold, names=names)
        chosen = {name for name in everything if names is None or name.startswith("1/")}
        expected = greedy(rows, query, top, fold, threshold, chosen)
        assert [(hit.name, hit.start) for hit in hits] == [own[:2] for own in expected]
        for hit, (*_, folded) in zip(hits, expected, strict=True):
            told = [(other.name, other.start) for other in hit.folded]
            assert told == folded[: len(told)]  # the best of them, as far as they are looked at
    assert len(hits[0].folded) > 10
    (alone,) = index.search(query[None], 3, names="nobody")
    assert alone == []


@pytest.mark.parametrize(
    "limit", [{"threshold": np.nan}, {"threshold": 1.1}, {"fold": 0.0}, {"fold": np.nan}]
)
def test_limits_that_are_no_cosines_are_refused(tmp_path, limit):
    write(tmp_path, ([entry("a", None)], UNIT[:1]))
    with pytest.raises(ValueError, match="where a cosine"):
        VideoIndex(tmp_path).search(UNIT, 1, **limit)


def test_the_novelty_of_rows_is_kept(tmp_path):
    known = dataclasses.replace(entry("a", (0.0, 2.0), (2.0, 4.0)), novelty=(0.5, 1.5))
    write(tmp_path, ([known, entry("b", None)], UNIT))
    (hits,) = VideoIndex(tmp_path).search(UNIT[1:2], 3)
    assert {(hit.name, hit.start): hit.novelty for hit in hits} == {
        ("a", 0.0): 0.5,
        ("a", 2.0): 1.5,
        ("b", None): None,  # its model had no calibration
    }


def test_names_are_kept_as_they_are(tmp_path):
    names = ["caf\udce9", "a\nb\t\x1b[31m", "[b]:x:"]
    write(tmp_path, ([entry(name, None) for name in names], UNIT))
    index = VideoIndex(tmp_path)
    assert list(index.entries) == names
    assert [e.item.media[0].path for e in index.entries.values()] == [f"/{n}.mp4" for n in names]
    assert (tmp_path / "000000.json").read_bytes().isascii()


def test_later_entries_replace_and_remove(tmp_path):
    write(
        tmp_path,
        ([entry("a", None), entry("b", None)], UNIT[:2]),
        ([entry("a", None, stamp="2")], UNIT[2:]),
    )
    assert found(tmp_path, UNIT[0], top=1)[0][0] != "c"
    assert {hit[0]: hit[3] for hit in found(tmp_path, UNIT[2])} == {"a": 1, "b": 0}
    assert VideoIndex(tmp_path).entries["a"].stamp == "2"
    with IndexWriter(tmp_path, SETTINGS, "/runs/x") as index:
        index.remove(["b", "unknown"])
        assert list(index.entries) == ["a"]
    assert [hit[0] for hit in found(tmp_path, UNIT[1])] == ["a"]
    # What no longer counts is deleted when the index is opened for changes next: here the first
    # shard, then the entry that removed what only that shard had.
    write(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("0*")) == ["000001.json", "000001.npy"]
    assert [hit[0] for hit in found(tmp_path, UNIT[1])] == ["a"]
    with IndexWriter(tmp_path, SETTINGS, "/runs/x") as index:
        index.remove(["a"])
    assert found(tmp_path, UNIT[0]) == []


def test_a_removal_stays_as_long_as_it_is_needed(tmp_path):
    write(tmp_path, ([entry("a", None), entry("b", None)], UNIT[:2]))
    with IndexWriter(tmp_path, SETTINGS, "") as index:
        index.remove(["b"])
    for _ in range(2):
        write(tmp_path)
        assert [hit[0] for hit in found(tmp_path, UNIT[1])] == ["a"]


def test_a_writer_killed_at_any_point_loses_at_most_its_shard(tmp_path, monkeypatch):
    """Stops before every change to the file system in turn; the next writer finishes."""

    class Killed(BaseException):
        pass

    shards = [([entry("a", None)], UNIT[:1]), ([entry("b", None)], UNIT[1:2])]
    real, point = os.replace, 0
    while True:
        directory, calls = tmp_path / str(point), 0

        def fatal(*arguments, point=point):
            nonlocal calls
            calls += 1
            if calls > point:
                raise Killed
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fatal)
            try:
                write(directory, *shards)
                break
            except Killed:
                pass
        if (directory / "index.json").exists():
            assert len(VideoIndex(directory)) in (0, 1)  # readable as it is
        with IndexWriter(directory, SETTINGS, "/runs/x") as index:
            for entries, rows in shards:
                if entries[0].item.name not in index.entries:
                    index.add(entries, rows)
        assert [hit[0] for hit in found(directory, UNIT[1])] == ["b", "a"]
        assert not list(directory.glob("*.tmp"))
        assert len(list(directory.glob("*.npy"))) == 2
        point += 1
    assert point == 5  # the header, and two files a shard


def test_one_writer_at_a_time(tmp_path):
    with (
        IndexWriter(tmp_path, SETTINGS, ""),
        pytest.raises(InUse, match="is writing to"),
    ):
        IndexWriter(tmp_path, SETTINGS, "")
    IndexWriter(tmp_path, SETTINGS, "").__exit__()


def test_another_model_is_refused(tmp_path):
    write(tmp_path)
    other = dataclasses.replace(SETTINGS, model="xyz", window=3.0)
    with pytest.raises(SearchIndexError) as refused:
        IndexWriter(tmp_path, other, "/runs/y")
    assert "from '/runs/x'" in str(refused.value)
    assert "model: 'abc' in the index, 'xyz' here" in str(refused.value)
    assert "window: 2.0 in the index, 3.0 here" in str(refused.value)
    assert "query" not in str(refused.value)


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(SearchIndexError, match="is no index; launch/embed.py makes one"):
        VideoIndex(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SearchIndexError, match="is not empty and holds no index"):
        IndexWriter(tmp_path, SETTINGS, "")
    index = tmp_path / "index"
    write(index, ([entry("a", None)], UNIT[:1]))
    np.save(index / "000000.npy", UNIT)
    with pytest.raises(SearchIndexError, match=r"npy: has shape \[3, 3\], where .* \[1, 3\]"):
        VideoIndex(index)
    (index / "000000.npy").write_bytes(b"torn")
    with pytest.raises(SearchIndexError, match="000000.npy: cannot be read"):
        VideoIndex(index)
    (index / "000000.json").write_text("[{}]")
    with pytest.raises(SearchIndexError, match="000000.json: is no shard"):
        VideoIndex(index)
    header = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps(header | {"format": 9}))
    with pytest.raises(SearchIndexError, match="is of form 9, this version reads form 1"):
        VideoIndex(index)
    (index / "index.json").write_text("{}")
    with pytest.raises(SearchIndexError, match="is of form None, this version reads form 1"):
        VideoIndex(index)
    (index / "index.json").write_text('{"format": 1}')
    with pytest.raises(SearchIndexError, match="is no header of an index"):
        VideoIndex(index)

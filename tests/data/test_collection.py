import dataclasses
import json
import os

import pytest

from tests.helpers.sample_media import encode, numbered_frames, numbers, png
from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import ConfigError, VideoInput, VJEPA2Config
from vljepa_jax.data.collection import Item, decode_items, find_windows, list_items
from vljepa_jax.data.manifest import ManifestError
from vljepa_jax.data.records import Annotation, ClipError, Medium, Record
from vljepa_jax.data.storage import write_dataset

VIDEO = VideoInput(2, 48, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)


@pytest.fixture
def folder(tmp_path):
    """Twenty frames at ten a second, each telling its index."""
    (tmp_path / "sub").mkdir()
    encode(tmp_path / "a.mp4", numbered_frames(20))
    encode(tmp_path / "sub" / "b.gif", numbered_frames(20))
    (tmp_path / "still.png").write_bytes(png(numbered_frames(1)[0]))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def names(*sources):
    items, faults = list_items(list(map(str, sources)), tiny_world_config())
    assert not faults
    return [item.name for item in items]


def file_item(path, **span):
    return Item(str(path), (Medium(path=str(path), **span),))


def test_files_directories_and_globs(folder):
    paths = [str(folder / name) for name in ("a.mp4", "broken.mp4", "still.png", "sub/b.gif")]
    assert names(folder) == paths
    assert names(folder / "*.mp4", folder / "a.mp4") == paths[:2]
    assert names(folder / "**/*.gif") == paths[3:]
    with pytest.raises(ConfigError, match=r"--videos: '.*\*\.avi' names no video"):
        names(folder / "*.avi")
    (folder / "link").symlink_to("sub")
    (folder / "broken").symlink_to("gone")
    sources = [f"{folder}/link/b.gif", f"{folder}/sub/*.gif", str(folder)]
    items, faults = list_items(sources, tiny_world_config())
    assert [item.name for item in items] == paths
    assert faults == [f"{folder}/broken: links to what is not there"]
    (folder / "texts.jsonl").write_text(json.dumps({"id": "t", "texts": ["a", "b", "c"]}))
    with pytest.raises(ConfigError, match="texts.jsonl' holds no video or image"):
        names(folder / "texts.jsonl")
    with pytest.raises(ConfigError, match="avi"):  # whatever others had to be told
        list_items([*sources, f"{folder}/*.avi"], tiny_world_config())


def test_what_is_there_is_not_taken_for_a_dataset_or_a_manifest(folder):
    for name in ("a:train", "[cam 1]", "x.jsonl"):
        (folder / name).mkdir()
        (folder / name / "c.mp4").symlink_to(folder / "a.mp4")
        assert names(folder / name) == [f"{folder / name}/c.mp4"]


def test_manifests_need_no_texts_and_their_faults_are_told(folder):
    rows = [
        {"id": "1", "media": [{"path": "a.mp4", "start": 0.5, "end": 1}]},
        {"id": "2", "media": [{"path": "a.mp4", "start": 0.5, "end": 1}], "texts": ["again"]},
        {"id": "3", "media": [{"path": "a.mp4"}, {"path": "still.png"}]},
        {"id": "4", "media": [{"path": "gone.mp4"}]},
    ]
    manifest = folder / "clips.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, faults = list_items([str(manifest)], tiny_world_config())
    a, still = f"{folder}/a.mp4", f"{folder}/still.png"
    assert [item.name for item in items] == [f"{a} + {still}", f"{a} [0.5-1 s]"]
    assert numbers(items[1].decode(VIDEO, None)) == [6, 8]
    assert len(faults) == 1
    assert "clips.jsonl, row 4: missing file" in faults[0]


def test_the_encoding_of_manifests_can_be_named(folder):
    (folder / "é.mp4").symlink_to(folder / "a.mp4")
    manifest = folder / "clips.jsonl"
    row = {"id": "1", "media": [{"path": "é.mp4"}]}
    manifest.write_bytes(json.dumps(row, ensure_ascii=False).encode("cp1252"))
    with pytest.raises(ManifestError, match="clips.jsonl: is not in utf-8 .*--encoding=cp1252"):
        list_items([str(manifest)], None)
    (item,), faults = list_items([str(manifest)], None, "cp1252")
    assert (item.name, faults) == (f"{folder}/é.mp4", [])


def test_datasets(folder):
    cut = Medium(data=(folder / "a.mp4").read_bytes(), start=0.3, end=1.7)
    records = [
        Record("r", (cut, cut), (Annotation("1", "caption", texts=("x",)),) * 2),
        Record("s", (cut, cut), (Annotation("3", "state", inputs=(0, 1), texts=("x",)),)),
    ]
    path = folder / "toy"
    splits = {"train": iter(records[:1]), "test": iter(records[1:])}
    write_dataset(path, splits, name="toy", description="", labels={})
    assert names(path) == [f"{path}:test/s[0, 1]", f"{path}:train/r"]
    assert names(f"{path}:train") == [f"{path}:train/r"]
    (item,), _ = list_items([f"{path}:train"], tiny_world_config())
    assert item.media == ()  # bytes stay where they are
    assert numbers(item.decode(VIDEO, None)) == [6, 13]
    # Times count from where the record's part begins.
    assert item.windows(0.8, 0.4) == [(0.0, 0.8), (0.4, 1.2), (0.6, 1.4)]
    assert numbers(item.decode(VIDEO, (0.6, 1.4))) == [11, 15]
    before = item.stamp()
    changed = [Record("r", (Medium(data=cut.data, start=0.4),), records[0].annotations[:1])]
    write_dataset(folder / "other", {"train": changed}, name="toy", description="", labels={})
    (other,), _ = list_items([f"{folder}/other"], tiny_world_config())
    assert other.stamp() != before


def test_windows_cover_a_video_to_its_end(folder):
    whole = file_item(folder / "a.mp4")
    assert whole.windows(0.8, 0.5) == [(0.0, 0.8), (0.5, 1.3), (1.0, 1.8), (1.2, 2.0)]
    assert whole.windows(1.0, 0.5) == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)]
    assert whole.windows(0.99, 0.5) == [(0.0, 0.99), (0.5, 1.49), (1.01, 2.0)]
    assert whole.windows(2.0, 1.0) is None
    assert numbers(whole.decode(VIDEO, (1.2, 2.0))) == [14, 18]
    part = file_item(folder / "a.mp4", start=1.0, end=1.9)  # times are those of the file
    assert part.windows(0.5, 0.5) == [(1.0, 1.5), (1.4, 1.9)]
    assert numbers(part.decode(VIDEO, (1.4, 1.9))) == [15, 17]
    assert file_item(folder / "sub/b.gif").windows(1.5, 1.0) == [(0.0, 1.5), (0.5, 2.0)]
    assert file_item(folder / "still.png").windows(1.0, 1.0) is None
    with pytest.raises(ClipError, match="broken.mp4"):
        file_item(folder / "broken.mp4").windows(1.0, 1.0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_take_the_place_of_what_cannot_be_read(folder, num_workers):
    items = [file_item(folder / name) for name in ("a.mp4", "broken.mp4", "still.png")]
    spans = list(find_windows(items, 1.5, 1.0, num_workers))
    assert spans[0] == [(0.0, 1.5), (0.5, 2.0)]
    assert isinstance(spans[1], ClipError)
    assert spans[2] == [None]
    requests = [(items[0], (0.5, 2.0)), (items[1], None), (items[2], None)]
    clips = list(decode_items(requests, VIDEO, num_workers))
    assert numbers(clips[0]) == [8, 16]
    assert isinstance(clips[1], ClipError)
    assert numbers(clips[2]) == [0, 0]


def test_a_stamp_changes_with_the_file(folder):
    item = file_item(folder / "a.mp4")
    before = item.stamp()
    assert item.stamp() == before
    os.utime(folder / "a.mp4", ns=(0, 0))
    assert item.stamp() != before
    with pytest.raises(ClipError, match="gone.mp4: cannot be opened"):
        file_item(folder / "gone.mp4").stamp()


def test_several_media_share_the_frames(folder):
    pair = Item("pair", (Medium(path=f"{folder}/a.mp4"), Medium(path=f"{folder}/still.png")))
    assert pair.windows(0.5, 0.5) is None
    assert numbers(pair.decode(VIDEO, None)) == [10, 0]
    with pytest.raises(ClipError, match="pair: 2 media cannot share 3 frames"):
        pair.decode(dataclasses.replace(VIDEO, frames=3), None)

"""Media inside an archive are read where they lie, as the files themselves would be."""

import dataclasses
import os
import tarfile

import numpy as np
import pytest

from tests.data.test_prepare import VIDEO, caption, run, write_manifest
from tests.helpers.sample_media import encode, numbered_frames, png
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.media_bytes import embedded, find_member, open_bytes, read_bytes
from vljepa_jax.data.records import ClipError, Medium
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.data.video import load_clip, play, play_time

NAMES = ["a.mp4", "b.webm", "c.avi", "d.mov", "e.gif", "f.animated.webp", "still.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files, and clips.tar with the same ones after each other."""
    folder = tmp_path_factory.mktemp("media")
    for name in NAMES[:-1]:
        encode(folder / name, numbered_frames(24))
    (folder / "still.png").write_bytes(png(numbered_frames(8)[7]))
    with tarfile.open(folder / "clips.tar", "w") as archive:
        for name in NAMES:
            archive.add(folder / name, arcname=f"sub/{name}")
    return folder


def member(folder, name, **span):
    offset, length = find_member(str(folder / "clips.tar"), f"sub/{name}")
    return Medium(path=str(folder / "clips.tar"), offset=offset, length=length, **span)


@pytest.mark.parametrize("name", NAMES)
def test_a_member_is_read_as_the_file_is(folder, name):
    for span in ({}, {"start": 0.8, "end": 1.6}) if name != "still.png" else ({},):
        inside, apart = member(folder, name, **span), Medium(path=str(folder / name), **span)
        clip = load_clip([apart], VIDEO, None)
        np.testing.assert_array_equal(load_clip([inside], VIDEO, None), clip)
        np.testing.assert_array_equal(load_clip([embedded(inside)], VIDEO, None), clip)
        assert play_time(inside) == play_time(apart)
        assert read_bytes(inside) == (folder / name).read_bytes()
        assert read_bytes(inside, 10) == (folder / name).read_bytes()[:10]
    if name != "still.png":
        assert [f.begin for f in play(inside)] == [f.begin for f in play(apart)]


def test_a_member_is_a_file_that_ends_where_the_member_does(folder):
    data = (folder / "a.mp4").read_bytes()
    with open_bytes(member(folder, "a.mp4")) as file:
        assert file.seek(0, os.SEEK_END) == len(data)
        assert file.read() == b""
        assert file.seek(-7, os.SEEK_END) == len(data) - 7
        assert file.read() == data[-7:]
        assert file.seek(100) == 100
        assert file.read(5) == data[100:105]
        assert file.seek(3, os.SEEK_CUR) == 108
        assert file.read(2) == data[108:110]
        with pytest.raises(ValueError, match="-1"):
            file.raw.seek(-1)


def test_members_in_manifests(folder, tmp_path):
    """Without embedding a dataset refers to the archive, with it the bytes are copied."""
    span = {"start": 0.8, "end": 1.6}
    rows = [
        caption(name, {"path": "clips.tar", "member": f"sub/{name}"} | span) for name in NAMES[:-1]
    ]
    rows.append(caption("still.png", {"path": "clips.tar", "member": "sub/still.png"}))
    manifest = write_manifest(folder / "m.jsonl", rows)
    for embed in (True, False):
        run(tmp_path / f"{embed}", manifest, embed=embed, on_error="refuse")
        for record in open_dataset(tmp_path / f"{embed}").records("train"):
            (medium,) = record.media
            assert bool(medium.data) == embed
            assert (medium.path == str(folder / "clips.tar")) != embed
            asked = Medium(
                path=str(folder / record.id), **(span if "still" not in record.id else {})
            )
            np.testing.assert_array_equal(
                load_clip([medium], VIDEO, None), load_clip([asked], VIDEO, None)
            )
    items, faults = list_items([str(folder / "m.jsonl")], None)
    assert len({item.name for item in items}) == len(NAMES)
    assert len({item.stamp() for item in items}) == 1  # that of the archive's state
    assert not faults


def test_what_an_archive_does_not_hold_is_named(folder, tmp_path):
    with tarfile.open(tmp_path / "clips.tar.gz", "w:gz") as archive:
        archive.add(folder / "a.mp4", arcname="a.mp4")
    (tmp_path / "clips.tar").write_bytes((folder / "clips.tar").read_bytes())
    rows = [
        caption("1", {"path": "clips.tar", "member": "sub/a.mp5"}),
        caption("2", {"path": "clips.tar.gz", "member": "a.mp4"}),
        caption("3", {"path": "clips.tar", "member": ""}),
        caption("4", {"path": "clips.tar", "member": 4}),
        caption("5", {"path": "clips.tar", "member": "sub/a.mp4"}),
    ]
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    faults = [row.reason for row in manifest.rows() if row.__class__.__name__ == "Fault"]
    assert len(faults) == 4
    assert "clips.tar: has no file 'sub/a.mp5' (did you mean 'sub/a.mp4'?)" in faults[0]
    assert "clips.tar.gz: is no uncompressed tar archive" in faults[1]
    assert "has no file ''" in faults[2]
    assert "'member' must be text" in faults[3]


def test_an_archive_that_shrank_or_is_gone_is_told(folder, tmp_path):
    short = tmp_path / "clips.tar"
    medium = dataclasses.replace(member(folder, "still.png"), path=str(short))
    with pytest.raises(
        ClipError, match=r"clips\.tar \[bytes \d+-\d+\]: cannot be opened \(No such"
    ):
        load_clip([medium], VIDEO, None)
    short.write_bytes((folder / "clips.tar").read_bytes()[: medium.offset + medium.length - 1])
    with pytest.raises(ClipError, match="the archive is shorter than that"):
        load_clip([medium], VIDEO, None)

import pytest

from tests.helpers.official_files import rows, write
from vljepa_jax.data.manifest_row import TASKS, MediaEntry
from vljepa_jax.datasets import registry
from vljepa_jax.datasets.action_clips import SSV2
from vljepa_jax.datasets.adapter import AdapterError, camel_words, manifest_row
from vljepa_jax.datasets.procedures import COIN_STEP


@pytest.mark.parametrize("name", registry.names())
def test_every_adapter_is_declared_whole(name):
    adapter = registry.load(name)
    assert adapter.name == name
    assert adapter.task in TASKS
    assert adapter.title
    assert adapter.citation
    assert adapter.licence
    assert adapter.known_from
    assert adapter.home.startswith("http")
    splits = [split.name for split in adapter.splits]
    assert len(set(splits)) == len(splits) > 0
    assert (adapter.task == "triplet") == (not adapter.media)
    # Where no medium is there, the first pattern names one.
    assert not any("*" in pattern for pattern in adapter.media[:1])
    assert all("*" not in pattern.rpartition("/")[0] for pattern in adapter.media)
    assert all(pattern.count("*") <= 1 for pattern in adapter.media)
    for split in splits:
        needed = adapter.official(".", split).needed()
        assert needed
        assert len({file.role for file in needed}) == len(needed)
    for file in adapter.files:
        assert set(file.splits) <= set(splits)
    assert bool(adapter.label_counts) == (adapter.read_labels is not None)


@pytest.mark.parametrize("name", registry.names())
def test_missing_files_are_named_with_where_they_come_from(name, tmp_path):
    adapter = registry.load(name)
    for split in adapter.splits:
        with pytest.raises(AdapterError) as caught:
            list(rows(adapter, tmp_path, split.name))
        message = str(caught.value)
        assert message.startswith(f"{name}, split '{split.name}': there is no ")
        assert any(
            f"{' nor '.join(file.paths)} below {tmp_path}; it comes from {file.source}" in message
            for file in adapter.files
        )


def test_names_that_are_not_there():
    with pytest.raises(AdapterError, match=r"no dataset 'ssv' \(did you mean 'ssv2'\?\)"):
        registry.load("ssv")
    with pytest.raises(AdapterError, match="pvd_bench: no public file settles its format.*texts"):
        registry.load("pvd_bench")
    with pytest.raises(AdapterError, match="ssv2 has no split 'val'.*it has train, validation"):
        SSV2.official(".", "val")


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        ([{"id": "1"}], "KeyError: 'template'"),
        ({"1": "x"}, "TypeError"),
        ("[{", "JSONDecodeError"),
        (b"\xff\xfe", "UnicodeDecodeError"),
    ],
)
def test_other_formats_are_named(tmp_path, annotations, fault):
    write(tmp_path, {"labels/labels.json": {"a": "0"}, "labels/train.json": annotations})
    pattern = f"ssv2, split 'train': labels/labels.json, labels/train.json below .*{fault}"
    with pytest.raises(AdapterError, match=pattern):
        list(rows(SSV2, tmp_path, "train"))


def test_media_are_found_by_a_pattern(tmp_path):
    official = COIN_STEP.official(tmp_path, "testing")
    present = ("videos/ab.info.json", "videos/ab.mp4.part", "videos/ab.WebM", "videos/abc.mkv")
    write(tmp_path, dict.fromkeys((*present, "videos/7/[x]*.mov"), b""))
    assert official.medium(video="ab", recipe=7).as_json() == {"path": "videos/ab.WebM"}
    assert official.medium(video="abc", recipe=7).as_json() == {"path": "videos/abc.mkv"}
    assert official.medium(video="[x]*", recipe=7).as_json() == {"path": "videos/7/[x]*.mov"}
    assert official.medium(video="a", recipe=7, end=2.5).as_json() == {
        "path": "videos/a.mp4",
        "end": 2.5,
    }


def test_a_row_leaves_out_what_is_empty():
    assert manifest_row("a", texts=["b"]).as_json() == {"id": "a", "texts": ["b"]}
    row = manifest_row(
        "a", media=[MediaEntry("x")], labels="set", gold=0, times=[0.0], texts=["t"], tags={"n": 3}
    )
    assert row.as_json() == {
        "id": "a",
        "media": [{"path": "x"}],
        "texts": ["t"],
        "cand": "@labels/set",
        "gold": 0,
        "times": [0.0],
        "tags": {"n": "3"},
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("ReplaceSIMCard", "replace SIM card"),
        ("ReplaceCDDriveWithSSD", "replace CD drive with SSD"),
        ("YoYo", "yo yo"),
    ],
)
def test_camel_words(name, words):
    assert camel_words(name) == words

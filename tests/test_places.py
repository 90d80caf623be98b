import importlib.util
import pathlib

import pytest
from etils import epath

from tests.helpers.small_run import small_evaluation
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, parse
from vljepa_jax.places import place, without_login, write_text


@pytest.fixture(autouse=True)
def clients(monkeypatch):
    """As if gcsfs were installed and s3fs were not."""
    found = {"gcsfs": True, "s3fs": None}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)


def test_an_address_stays_one_and_a_path_too():
    inside = place("gs://bucket/a/") / "b"
    assert isinstance(inside, epath.Path)
    assert str(inside) == "gs://bucket/a/b"
    assert place("a/gs") == pathlib.Path("a/gs")
    assert isinstance(place(inside), epath.Path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (pathlib.Path("gs://bucket/a"), "'gs:/bucket/a' is an address"),
        ("az://bucket/a", "must lie on a disk or gs:// or s3://"),
        ("x=gs://bucket/a", "is an address"),
        ("s3://bucket/a", "needs the package s3fs"),
    ],
)
def test_what_is_no_place_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        place(path)


def test_a_recipe_may_name_runs_and_datasets_in_a_bucket_and_nothing_else_there():
    recipe = as_dict(tiny_train_config())
    starts = "gs://bucket/a:x_encoder,gs://bucket/b:y_encoder"
    assert parse(TrainConfig, recipe | {"init_from": starts}).init_from == starts
    with pytest.raises(ConfigError, match="init_from: 's3://bucket/a' needs the package s3fs"):
        parse(TrainConfig, recipe | {"init_from": "s3://bucket/a"})
    dataset = recipe["data"]["sources"][0] | {"path": "gs://bucket/clips"}
    data = recipe["data"] | {"sources": [dataset]}
    assert parse(TrainConfig, recipe | {"data": data}).data.sources[0].path == "gs://bucket/clips"
    benchmark = as_dict(small_evaluation(tiny_train_config()).benchmarks[0])
    benchmark |= {"path": "gs://bucket/clips"}
    plan = {"every": 1, "benchmarks": [benchmark], "batch_size": 1, "num_workers": 0}
    (parsed,) = parse(TrainConfig, recipe | {"evaluations": [plan]}).evaluations
    assert parsed.benchmarks[0].path == "gs://bucket/clips"
    data["sources"][0] = dataset | {"path": "s3://bucket/clips"}
    with pytest.raises(ConfigError, match=r"sources\[0\].path: .* on a disk or gs://: mount"):
        parse(TrainConfig, recipe | {"data": data})
    world = recipe["world"] | {"cache_dir": "gs://bucket/cache"}
    with pytest.raises(ConfigError, match="world.cache_dir: 'gs://bucket/cache' is an address"):
        parse(TrainConfig, recipe | {"world": world})


def test_a_text_replaces_a_file_whole(tmp_path):
    write_text(tmp_path / "a", "first\n")
    write_text(tmp_path / "a", "second \udcff\n")
    assert (tmp_path / "a").read_text() == "second \\udcff\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("'rtsp://me:secret@host:554/x' is lost", "'rtsp://host:554/x' is lost"),
        ("rtsp://me:se@cret@host/x@1", "rtsp://host/x@1"),
        ("rtsp://me:se/cret@host/x", "rtsp://host/x"),
        ("rtsp://me:se#cret@host", "rtsp://host"),
        ("rtsp://me:se?cret@host", "rtsp://host"),
        ("rtsp://me:se@c#r?et@host/x", "rtsp://host/x"),
        ("http://secret@host", "http://host"),
        ("/runs/https:/me:secret@host/x", "/runs/https:/host/x"),  # what a path makes of one
        ("a=gs://secret@b,s3://secret@c/d", "a=gs://b,s3://c/d"),
        *((kept, kept) for kept in ("a@b.mp4", "http://host:80/x@y", "http://[::1]:80/x@y")),
        *((kept, kept) for kept in ("http://host/@me", "http://host of me@host", "http://a?b@c")),
    ],
)
def test_texts_for_people_do_not_say_how_an_address_lets_one_in(text, told):
    assert without_login(text) == told


def test_a_place_that_is_refused_is_named_without_its_password():
    with pytest.raises(ValueError, match="'ftp://host/a' is an address"):
        place("ftp://me:secret@host/a")

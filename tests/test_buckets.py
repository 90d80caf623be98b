"""Runs in buckets of Google's and Amazon's kind, which emulators on loopback hold."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers.evaluated import evaluate_run
from tests.helpers.small_run import computed, small_config, small_evaluation, write_clips
from tests.helpers.subprocesses import PROGRAMS, free_port, serving
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, parse
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.storage import DatasetError, open_dataset
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.places import place
from vljepa_jax.run_dir import CheckpointError, load_config, load_params, newest, save_params
from vljepa_jax.training.train_loop import train
from vljepa_jax.training.train_step import Trainer

pytestmark = pytest.mark.buckets
ON_GS = pytest.mark.parametrize("bucket", ["gs"], indirect=True)  # array_record reads no S3
KILLER = PROGRAMS / "interrupted_run.py"
EMULATOR = PROGRAMS / "gcs_emulator.py"
AMAZON = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module", params=["gs", "s3"])
def bucket(request):
    """The address of an empty bucket; environment variables lead to its emulator."""
    pytest.importorskip({"gs": "gcp_storage_emulator", "s3": "moto"}[request.param])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if request.param == "gs":
        command = [sys.executable, EMULATOR, str(port)]
        names = (  # of gcsfs, TensorStore and array_record
            "STORAGE_EMULATOR_HOST",
            "TENSORSTORE_GCS_HTTP_URL",
            "CLOUD_STORAGE_EMULATOR_ENDPOINT",
        )
        variables = dict.fromkeys(names, url)
    else:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        variables = {"AWS_ENDPOINT_URL": url, **AMAZON}
    with pytest.MonkeyPatch.context() as patch, serving(command, url):
        for name, value in variables.items():
            patch.setenv(name, value)
        if request.param == "s3":
            make = urllib.request.Request(f"{url}/bucket", method="PUT")
            urllib.request.urlopen(make)
        yield f"{request.param}://bucket"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    dataset = tmp_path_factory.mktemp("data") / "clips"
    write_clips(dataset)
    config = small_config(dataset, steps=4)
    every_step = dataclasses.replace(config.checkpoint, every=1, keep=2)
    return dataclasses.replace(config, log_every=1, checkpoint=every_step)


@pytest.fixture(scope="module")
def on_disk(config, tmp_path_factory):
    """The same run, never interrupted, on a disk."""
    workdir = tmp_path_factory.mktemp("disk") / "run"
    train(config, workdir)
    return workdir


def files(directory):
    return sorted(path.name for path in place(directory).iterdir())


def reports_of(directory):
    return [
        json.loads((directory / name / "report.json").read_text()) for name in ("bucket", "disk")
    ]


def test_a_run_is_killed_resumed_and_evaluated(bucket, config, on_disk, tmp_path):
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps(as_dict(config)))
    workdir = f"{bucket}/runs/killed"
    # Killed when all of step 3 is written but the file that says so.
    command = [sys.executable, KILLER, config_path, workdir, "complete", "3"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "3" in files(f"{workdir}/checkpoints")
    assert "commit_success.txt" not in files(f"{workdir}/checkpoints/3")
    assert newest(workdir).name == "2"
    assert not [name for name in os.listdir(tmp_path) if name != "config.json"]

    train(config, workdir)
    assert files(f"{workdir}/checkpoints") == ["3", "4"]  # keep=2: the others are gone
    assert "train.json" in files(workdir)
    assert files(f"{workdir}/tensorboard")
    assert computed(place(workdir)) == computed(on_disk)
    jax.tree.map(
        np.testing.assert_array_equal,
        load_params(workdir)[1],
        load_params(on_disk)[1],
    )

    evaluation = small_evaluation(config)
    for run, name in ((place(workdir), "bucket"), (on_disk, "disk")):
        evaluate_run(run, evaluation, evaluation.benchmarks, tmp_path / name)
    reports = reports_of(tmp_path)
    assert reports[0]["metrics"] == reports[1]["metrics"]


def test_a_run_starts_from_another_in_the_bucket(bucket, config, tmp_path):
    start = f"{bucket}/runs/start"
    other = dataclasses.replace(config, seed=config.seed + 1)  # not those of a fresh start
    params = Trainer(other, make_objective(other), make_mesh(other.sharding)).init().params
    save_params(place(start), other, params)
    with pytest.raises(CheckpointError, match="holds a run already"):
        save_params(place(start), config, params)
    after = dataclasses.replace(config, steps=1, init_from=f"{start}:params")
    train(after, tmp_path / "after")
    # A step changes a number by the learning rate, 1e-3, and its multiples.
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=5e-3),
        load_params(tmp_path / "after")[1],
        load_params(start)[1],
    )


@pytest.fixture
def dataset(bucket, config):
    """The address of the dataset, copied to the bucket."""
    (source,) = config.data.sources
    address = f"{bucket}/datasets/clips"
    for path in Path(source.path).iterdir():
        (place(address) / path.name).write_bytes(path.read_bytes())
    return address


@ON_GS
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_in_the_bucket_trains_and_evaluates(
    dataset, config, on_disk, tmp_path, num_workers
):
    (source,) = config.data.sources
    there = (dataclasses.replace(source, path=dataset),)
    data = dataclasses.replace(config.data, sources=there, num_workers=num_workers)
    there = parse(TrainConfig, as_dict(dataclasses.replace(config, data=data)))
    train(there, tmp_path / "run")
    assert computed(tmp_path / "run") == computed(on_disk)
    for run, config_of, name in (
        (tmp_path / "run", there, "bucket"),
        (on_disk, config, "disk"),
    ):
        evaluation = small_evaluation(config_of)
        evaluate_run(run, evaluation, evaluation.benchmarks, tmp_path / name)
    values = [
        {name: (metric["value"], metric["n"]) for name, metric in report["metrics"].items()}
        for report in reports_of(tmp_path)
    ]
    assert values[0] == values[1] != {}


@ON_GS
def test_a_dataset_in_the_bucket_is_embedded(dataset, config):
    (source,) = config.data.sources
    items = [
        list_items([f"{path}:train", path], config.world)[0] for path in (dataset, source.path)
    ]
    assert [item.stamp() for item in items[0]] == [item.stamp() for item in items[1]]
    assert len(items[0]) == 12
    with pytest.raises(DatasetError, match="has no split 'trian' .did you mean 'train'"):
        list_items([f"{dataset}:trian"], config.world)


@ON_GS
def test_a_dataset_that_is_not_in_the_bucket_is_named(dataset, config, tmp_path):
    (source,) = config.data.sources

    def fails(path, **settings):
        sources = (dataclasses.replace(source, path=path),)
        data = dataclasses.replace(config.data, sources=sources, **settings)
        with pytest.raises(ConfigError) as caught:
            train(dataclasses.replace(config, data=data), tmp_path / "run")
        return str(caught.value)

    assert "there is no bucket 'gs://other'" in fails("gs://other/clips")
    assert f"data.sources[0].path: '{dataset}x'" in fails(f"{dataset}x")
    assert "on a disk" in fails(dataset, visual_tokens="cache")
    with pytest.raises(DatasetError, match="holds no dataset"):
        open_dataset(f"{dataset}x")


def test_what_is_not_there_is_named(bucket, config):
    with pytest.raises(CheckpointError, match="it has no config.json"):
        load_config(f"{bucket}/runs/none")
    scheme = bucket.split("://")[0]
    with pytest.raises(CheckpointError, match="there is no bucket '.*://other'"):
        train(config, f"{scheme}://other/run")

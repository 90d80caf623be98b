"""No flag makes a directory "gs:": what cannot lie in a bucket is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vljepa_jax.commands import COMMANDS

ROOT = Path(__file__).parents[2]
CLIENTS = {"gs://bucket/x": "gcsfs", "s3://bucket/x": "s3fs"}
NO_BUCKETS = ["https://host/x", "train=gs://bucket/x", "gs:/bucket/x"]
# All flags but these refuse every address.
NO_PATHS = {
    "app": {"host"},
    "compare": {"only"},
    "convert": {"license"},
    "embed": {"encoding", "query"},
    "eval": {"benchmarks"},
    "finetune": {"columns"},
    "plan": {"topology"},
    "prepare": {
        "codec",
        "columns",
        "dataset",
        "encoding",
        "name",
        "shard",
        "split",
        "splits",
        "task",
    },
    "probe": {"probes", "splits"},
    "search": {"names"},
    "stream": {
        "encoding",
        "on_event",
        "query",
        "size",
        "source",
    },  # a source may be an address, of a camera say
    "tables": {"compare"},
    "train": {"profile", "wandb"},
}
# And these that of a place in a bucket, unless the bucket's client is installed.
IN_BUCKETS = {
    "app": {"checkpoint", "y_decoder"},
    "calibrate": {"checkpoint"},
    "convert": {"checkpoint", "output"},
    "embed": {"checkpoint"},
    "eval": {"checkpoint"},
    "noise": {"checkpoint"},
    "probe": {"checkpoint"},
    "search": {"checkpoint"},
    "stream": {"checkpoint", "y_decoder"},
    "train": {"workdir"},
}
# These that of one on gs:// alone.
DATASETS = {"app": {"videos"}, "embed": {"videos"}, "eval": {"data"}}
# What each flag of a command answers to each value: "" where it takes it.
ASK = """
import importlib, importlib.util, json, sys
command, installed, *values = sys.argv[1:]
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *of: (
    name in installed or None if name in ("gcsfs", "s3fs") else find_spec(name, *of)
)
from absl import flags
module = importlib.import_module("vljepa_jax.commands." + command)
answers = {}
for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
    for value in values if flag.name != "config" else ():
        try:
            flag.parse(value)
            answers.setdefault(flag.name, {})[value] = ""
        except flags.Error as error:
            answers.setdefault(flag.name, {})[value] = str(error)
print(json.dumps(answers))
"""


def run(*arguments, cwd=ROOT):
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def answers(command, values, installed=()):
    answer = run("-c", ASK, command, ",".join(installed), *values)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_flag_refuses_an_address_by_name(command):
    told = answers(command, [*CLIENTS, *NO_BUCKETS])
    assert {name for name in told if not all(told[name].values())} == NO_PATHS.get(command, set())
    paths = {name for name in told if "mount the bucket" in told[name][NO_BUCKETS[0]]}
    assert paths >= IN_BUCKETS.get(command, set())
    assert paths or command == "plan"
    for name in paths:
        for address, reason in told[name].items():
            assert f"--{name}={address}: " in reason
            accepted = [*CLIENTS] if name in IN_BUCKETS.get(command, ()) else []
            if name in DATASETS.get(command, ()):
                accepted = ["gs://bucket/x"]
            if address in accepted:
                assert f"needs the package {CLIENTS[address]}: pip install" in reason
            else:
                assert "is an address, but this must lie on a disk" in reason
                assert "mount the bucket" in reason


@pytest.mark.parametrize("command", sorted(IN_BUCKETS))
def test_runs_may_lie_in_a_bucket_whose_client_is_installed(command):
    told = answers(command, [*CLIENTS, *NO_BUCKETS], CLIENTS.values())
    taken = {name for name in told if not any(told[name][bucket] for bucket in CLIENTS)}
    assert taken == IN_BUCKETS[command] | NO_PATHS.get(command, set())
    for name in DATASETS.get(command, ()):
        assert told[name]["gs://bucket/x"] == ""
        assert "must lie on a disk or gs://: mount" in told[name]["s3://bucket/x"]
    for name in IN_BUCKETS[command]:
        assert all("is an address" in told[name][address] for address in NO_BUCKETS)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --config={root}/configs/demo.py --workdir=gs:/bucket/run", "flag --workdir=gs:/"),
        ("train --config=gs://bucket/demo.py --workdir=run", "--config=gs://bucket/demo.py is an"),
        (
            "train --config={root}/configs/demo.py --workdir=run --config.world.cache_dir=s3://b/x",
            "config: world.cache_dir: 's3://b/x' is an address",
        ),
        ("stream --checkpoint=run --source=gs://bucket/x.mp4", "'gs://bucket/x.mp4' is an address"),
    ],
)
def test_the_commands_say_it_in_a_line_and_make_nothing(tmp_path, command, message):
    name, *arguments = command.format(root=ROOT).split()
    answer = run(ROOT / f"launch/{name}.py", *arguments, cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert "mount the bucket" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_plain_paths_are_taken():
    told = answers("train", ["/a/b", "a:b", "runs/x=1,y"])
    assert set(told["workdir"].values()) == {""}

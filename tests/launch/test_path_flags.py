"""No flag makes a directory "gs:": what cannot lie in a bucket is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(path.stem for path in ROOT.glob("launch/*.py"))
# All flags but these refuse an address.
NO_PATHS = {
    "embed": {"query"},
    "eval": {"benchmarks"},
    "plan": {"topology"},
    "prepare": {"name", "split"},
    "probe": {"probes", "splits"},
    "stream": {"query", "size", "source"},  # a source may be an address, of a camera say
    "train": {"profile", "wandb"},
}
# What each flag of a command answers to each value: "" where it takes it.
ASK = """
import json, runpy, sys
from absl import flags
path, *values = sys.argv[1:]
runpy.run_path(path, run_name="command")
answers = {}
for flag in flags.FLAGS.get_key_flags_for_module("command"):
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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_flag_refuses_an_address_by_name(command):
    addresses = ["gs://bucket/x", "s3://bucket/x", "https://host/x", "train=gs://bucket/x", "gs:/x"]
    answer = run("-c", ASK, f"launch/{command}.py", *addresses)
    assert answer.returncode == 0, answer.stderr
    answers = json.loads(answer.stdout)
    taken = {name for name, told in answers.items() if not all(told.values())}
    assert taken == NO_PATHS.get(command, set())
    paths = {name: told for name, told in answers.items() if "mount" in told[addresses[0]]}
    assert paths or command == "plan"
    for name, told in paths.items():
        for address in addresses:
            assert f"--{name}={address}: is an address" in told[address]
            assert "mount the bucket" in told[address]


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
    told = json.loads(run("-c", ASK, "launch/train.py", "/a/b", "a:b", "runs/x=1,y").stdout)
    assert set(told["workdir"].values()) == {""}

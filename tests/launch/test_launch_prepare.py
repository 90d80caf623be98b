import json
import pathlib
import subprocess
import sys

import pytest

from tests.helpers.sample_media import encode, numbered_frames
from vljepa_jax.data.storage import open_dataset

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "prepare.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path):
    encode(tmp_path / "a.mp4", numbered_frames(20))
    rows = [
        {"id": "1", "media": [{"path": "a.mp4", "end": 1}], "texts": ["one"]},
        {"id": "2", "media": [{"path": "b.mp4"}], "texts": ["two"]},
    ]
    for name, lines in {"good": rows[:1], "bad": rows}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_prepare(folder):
    done = run(f"--manifest=test={folder}/good.jsonl", f"--root={folder}", f"--output={folder}/toy")
    assert done.returncode == 0, done.stderr
    assert "records written, split 'test'" in done.stdout
    dataset = open_dataset(folder / "toy")
    assert (dataset.name, dataset.splits) == ("toy", {"test": 1})


def test_refusal_exits_with_an_error(folder):
    arguments = f"--manifest={folder}/bad.jsonl", f"--output={folder}/toy"
    done = run(*arguments, "--on_error=refuse")
    assert done.returncode == 1
    assert "row 2: missing file: media[0]: there is no file" in done.stdout
    assert done.stderr.startswith("error: 1 of 2 rows are faulty")
    assert not (folder / "toy").exists()


def test_help_shows_an_example():
    done = run("--help")
    assert done.returncode == 0
    assert "python launch/prepare.py --manifest=clips.jsonl --root=videos" in done.stdout

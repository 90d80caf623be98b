"""Two steps of the 1B model at full size, as the command line runs them: make test-full-size."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GIB = 2**30
# Data that need not be there: the bundled world for both of the recipe's sources, its tokenizer for
# both texts. Every size of the model is the recipe's.
SYNTHETIC = {
    "init_from": "",
    "data.sources[0].path": "@world",
    "data.sources[1].path": "@world",
    "data.text.query_tokenizer": "@world",
    "data.text.target_tokenizer": "@world",
    "data.num_workers": 0,
    "world.train_clips": 16,
    "world.test_clips": 8,
    "world.compositional_clips": 8,
    "world.streams": 1,
    "world.frames": 8,
}


@pytest.mark.slow
@pytest.mark.full_size
def test_two_steps_of_the_1b_model_fit_in_24_gib(tmp_path):
    overrides = SYNTHETIC | {"world.cache_dir": tmp_path / "world", "batch_size": 2, "steps": 2}
    command = [
        *(sys.executable, "launch/train.py", "--config=configs/vljepa_1b.py"),
        f"--workdir={tmp_path / 'run'}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    # A model that knows nothing has loss ln 2; two steps of warm-up change it, and little.
    assert len(losses) == 2
    assert losses[0] != losses[1]
    assert all(0.0 < loss < 10.0 for loss in losses)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"most memory held: {most / GIB:.1f} GiB; losses {losses}")
    assert most < 24 * GIB

"""The commands, started as several processes on this machine: equal to one, and ending together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.random_run import random_params, save_run
from tests.helpers.subprocesses import PROGRAMS, free_port
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.search.index import VideoIndex

ROOT = Path(__file__).parents[2]
MINUTE = 60.0
SMALL_WORLD = [
    f"--config.world.{name}"
    for name in ("train_clips=64", "test_clips=16", "compositional_clips=0", "streams=0")
]
_TOLD = re.compile(r"^(joined|writing|\[Gloo\].*)\n", re.MULTILINE)


def record(index):
    frames = np.random.default_rng(index).integers(0, 256, (6, 32, 32, 3), np.uint8)
    data = b"no video" if index == 5 else write_mp4(frames, 6)
    texts = (f"clip number {index}", f"the clip of number {index}")
    return Record(
        str(index), (Medium(data=data),), (Annotation(f"{index}", "caption", texts=texts),)
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "clips"
    splits = {"train": map(record, range(12)), "test": map(record, range(12))}
    write_dataset(directory, splits, name="clips", description="", labels={})
    return directory


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    config = tiny_train_config()
    save_run(directory, config, random_params(config))
    return directory


class Job:
    """A command in several processes.

    Args:
        each: of every process, the flags that it alone has.
        slow: seconds that the first one works for itself.
    """

    def __init__(self, script, flags, count=2, each=None, slow=0.0):
        address = f"127.0.0.1:{free_port()}"
        joint = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
        command = [
            sys.executable,
            PROGRAMS / "impatient_command.py",
            str(slow),
            f"launch/{script}.py",
        ]
        self.processes = [
            subprocess.Popen(
                [*command, *map(str, flags), *map(str, each[index] if each else ())],
                cwd=ROOT,
                env=os.environ | joint | {"JAX_PROCESS_ID": str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]

    def await_joined(self):
        for process in self.processes:
            assert process.stdout.readline() == "joined\n", process.communicate()

    def ended(self, timeout=15 * MINUTE):
        """Of each process its status, and what it wrote to stdout and stderr."""
        latest = time.monotonic() + timeout
        try:
            told = [p.communicate(timeout=latest - time.monotonic()) for p in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [
            (process.returncode, _TOLD.sub("", out), errors)
            for process, (out, errors) in zip(self.processes, told, strict=True)
        ]


def alone(script, *flags):
    command = [sys.executable, f"launch/{script}.py", *map(str, flags)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluation(dataset, run_dir):
    return [
        f"--config=configs/eval/clips.py:{dataset}",
        f"--checkpoint={run_dir}",
        "--benchmarks=clips/t2v",
    ]


def measured(directory):
    metrics = json.loads((directory / "report.json").read_text())["metrics"]
    return {name: (metric["value"], metric["n"]) for name, metric in metrics.items()}


def test_two_evaluate_and_the_first_writes_alone(dataset, run_dir, tmp_path):
    """It does so for three times as long as the others' end would wait for it."""
    flags = evaluation(dataset, run_dir)
    outputs = [tmp_path / "first", tmp_path / "second"]
    job = Job("eval", flags, each=[[f"--output={output}"] for output in outputs], slow=6)
    first, second = job.ended()
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "clips/t2v_r1" in first[1]
    assert "clips/t2v_r1" not in second[1]
    # Each process keeps what it embeds; here they have been told different places.
    assert [path.name for path in outputs[1].iterdir()] == ["embeddings"]
    alone("eval", *flags, f"--output={tmp_path / 'alone'}")
    assert measured(outputs[0]) == measured(tmp_path / "alone")


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_one_that_is_told_to_end_ends_the_others(dataset, run_dir, tmp_path, victim):
    """While the first works, and the other waits for it."""
    flags = [*evaluation(dataset, run_dir), f"--output={tmp_path}"]
    job = Job("eval", flags, slow=20 * MINUTE)
    assert "writing\n" in iter(job.processes[0].stdout.readline, "")
    time.sleep(1)
    job.processes[victim].send_signal(signal.SIGTERM)
    ended = job.ended(10 * MINUTE)
    assert [status for status, *_ in ended] == [1, 1], ended
    assert "error: ended by SIGTERM" in ended[victim][2]
    message = rf"process {victim} of 2 on \S+ has failed: error: ended by SIGTERM"
    assert re.search(message, ended[1 - victim][2]), ended


def test_an_error_in_one_of_four_ends_the_others(dataset, run_dir, tmp_path):
    """A host that does not see the run."""
    flags = evaluation(dataset, run_dir)[::2]
    each = [[f"--checkpoint={run_dir}"]] * 2 + [
        [f"--checkpoint={tmp_path}"],
        [f"--checkpoint={run_dir}"],
    ]
    ended = Job("eval", flags, 4, each).ended(10 * MINUTE)
    assert [status for status, *_ in ended] == [1] * 4, ended
    for _, _, errors in ended:
        assert f"'{tmp_path}' holds no model that can be loaded" in errors


def test_another_output_is_seen_at_once(dataset, run_dir, tmp_path):
    flags = [f"--checkpoint={run_dir}", f"--videos={dataset}:test", "--num_workers=0"]
    each = [[f"--output={tmp_path / name}"] for name in ("a", "b")]
    for status, _, errors in Job("embed", flags, each=each).ended():
        assert status == 1
        assert "is not one directory for all processes of the job" in errors
        assert "is not seen by 1 on" in errors


def test_four_embed_one_index(dataset, run_dir, tmp_path):
    flags = [f"--checkpoint={run_dir}", f"--videos={dataset}:test", "--num_workers=0"]
    flags += ["--shard_rows=2"]
    ended = Job("embed", [*flags, f"--output={tmp_path / 'index'}"], 4).ended()
    assert [status for status, *_ in ended] == [0] * 4, ended
    assert "clips embedded" in ended[0][1]
    assert [out for _, out, _ in ended[1:]] == [""] * 3
    alone("embed", *flags, f"--output={tmp_path / 'alone'}")
    index, other = VideoIndex(tmp_path / "index"), VideoIndex(tmp_path / "alone")
    assert index.entries.keys() == other.entries.keys()
    assert len(index) == 11
    unreadable = [(tmp_path / name / "unreadable.txt").read_text() for name in ("index", "alone")]
    assert unreadable[0] == unreadable[1] != ""
    # An embedding is found by itself: every row is that of one process, to 1e-5.
    for shard, live in other._shards:
        for row, (entry, _) in zip(shard.embeddings(), live, strict=True):
            (hit,) = index.search(row[None], 1)[0]
            assert (hit.name, hit.score) == (entry.item.name, pytest.approx(1, abs=1e-5))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_the_others(dataset, run_dir, tmp_path, victim):
    """JAX's coordination service says who it was."""
    flags = [*evaluation(dataset, run_dir), f"--output={tmp_path}"]
    job = Job("eval", flags, 4, slow=20 * MINUTE)
    job.await_joined()
    job.processes[victim].kill()
    ended = job.ended(10 * MINUTE)
    told = r"stopped sending heartbeats\):\n1\n" if victim else "the leader task was preempted/died"
    for index, (status, _, errors) in enumerate(ended):
        assert status != 0
        assert index == victim or re.search(told, errors), errors


@pytest.mark.slow
def test_two_measure_the_noise(dataset, run_dir):
    flags = evaluation(dataset, run_dir)[:2]
    first, second = Job("noise", flags).ended()
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert first[1] == alone("noise", *flags)
    assert second[1] == ""


@pytest.mark.slow
def test_two_train_and_score_probes(run_dir, tmp_path):
    flags = ["--config=configs/probe.py", *SMALL_WORLD, "--config.steps=4", "--probes=linear"]
    flags += ["--config.sharding.data=-1", "--config.batch_size=4", "--config.data.num_workers=0"]
    flags += ["--config.optimizer.warmup_steps=1", f"--checkpoint={run_dir}"]
    flags += [f"--config.world.cache_dir={tmp_path / 'world'}"]
    alone("probe", *flags, f"--output={tmp_path / 'alone'}")
    first, second = Job("probe", [*flags, f"--output={tmp_path / 'two'}"]).ended()
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "report:" in first[1]
    assert second[1] == ""
    assert measured(tmp_path / "two") == measured(tmp_path / "alone")


@pytest.mark.slow
def test_a_training_process_that_is_killed_ends_the_others(tmp_path):
    """They fail in a collective, and wait to be told why."""
    flags = ["--config=configs/demo.py:captions", *SMALL_WORLD, "--config.sharding.data=-1"]
    flags += [f"--workdir={tmp_path / 'run'}", f"--config.world.cache_dir={tmp_path / 'world'}"]
    job = Job("train", [*flags, "--config.data.num_workers=0", "--config.batch_size=16"])
    assert any("step 1/" in line for line in job.processes[0].stdout)
    job.processes[1].kill()
    first, _ = job.ended(10 * MINUTE)
    assert first[0] != 0
    assert re.search(r"stopped sending heartbeats\):\n1\n", first[2]), first

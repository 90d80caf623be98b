import threading

import grain
import numpy as np
import pytest

from tests.helpers.sample_media import numbered_frames, numbers, png
from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data.records import ClipError, Medium, Record
from vljepa_jax.data.storage import open_dataset, write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.data.workers import decode_media, in_batches, in_thread, in_workers


def image(value):
    return Medium(data=png(np.full((16, 16, 3), value, np.uint8)))


@pytest.mark.parametrize("workers", [0, 1])
def test_decode_media_gives_clips_and_errors_in_order(tmp_path, workers):
    video = Medium(data=write_mp4(numbered_frames(20), 10))
    records = [Record("a", (image(3), image(9), video), ()), Record("b", (Medium(data=b"?"),), ())]
    write_dataset(tmp_path / "d", {"test": records}, name="d", description="", labels={})
    media = open_dataset(tmp_path / "d").media("test")
    config = VideoInput(4, 32, "jittered", "random", (0.2, 0.5), VJEPA2Config.preprocessing)
    requests = [(0, (1, 0)), (1, (0,)), (0, (2,))] * 6
    decoded = list(decode_media(media, requests, config, workers))
    assert len(decoded) == 18
    for pair, error, clip in zip(*[iter(decoded)] * 3, strict=True):
        assert pair.mean((1, 2, 3)).tolist() == [9, 9, 3, 3]
        assert isinstance(error, ClipError)
        assert "record 'b'" in str(error)
        assert numbers(clip) == [2, 7, 12, 17]


def test_processes_of_a_host_share_its_workers(monkeypatch):
    started = []
    in_a_thread = grain.MultiprocessingOptions(num_workers=0)

    def options(num_workers):
        started.append(num_workers)
        return in_a_thread

    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "8(x2)")
    monkeypatch.setenv("SLURM_NODEID", "1")
    monkeypatch.setattr(grain, "MultiprocessingOptions", options)
    assert [int(x) for x in in_workers(list, np.arange(20), num_workers=16)] == list(range(20))
    assert started == [2]


def test_batches_hold_readable_clips_and_results_keep_their_order():
    broken = ClipError("no video")
    clips = [np.full((1, 2, 2, 3), value, np.uint8) for value in range(5)]
    decoded = [*zip("ab", clips, strict=False), ("x", broken), *zip("cde", clips[2:], strict=True)]
    batches = []

    def total(keys, batch):
        batches.append((keys, batch.shape))
        return [f"{key}{clip.sum()}" for key, clip in zip(keys, batch, strict=True)]

    found = list(in_batches(total, [("y", broken), *decoded], size=3))
    expected = [("y", broken), ("a", "a0"), ("b", "b12"), ("x", broken), ("c", "c24")]
    assert found == [*expected, ("d", "d36"), ("e", "e48")]
    assert batches == [(["a", "b", "c"], (3, 1, 2, 2, 3)), (["d", "e"], (2, 1, 2, 2, 3))]
    assert list(in_batches(total, [("x", broken)], size=3)) == [("x", broken)]


def test_a_thread_makes_items_while_those_before_are_used():
    made = threading.Event()

    def items():
        yield from "abc"
        made.set()
        yield "d"
        raise ValueError("the fifth")

    taken = in_thread(items(), 2)
    assert next(taken) == "a"
    assert made.wait(timeout=60)  # "b" was not asked for
    assert [next(taken) for _ in range(3)] == ["b", "c", "d"]
    with pytest.raises(ValueError, match="the fifth"):
        next(taken)
    assert list(in_thread(range(7), 3)) == list(range(7))
    assert list(in_thread([], 3)) == []

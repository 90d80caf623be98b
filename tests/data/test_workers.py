import grain
import numpy as np
import pytest

from tests.helpers.sample_media import numbered_frames, numbers, png
from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data.records import ClipError, Medium, Record
from vljepa_jax.data.storage import open_dataset, write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.data.workers import decode_media, in_workers


def image(value):
    return Medium(data=png(np.full((16, 16, 3), value, np.uint8)))


@pytest.mark.parametrize("workers", [0, 1])
def test_decode_media_gives_clips_and_errors_in_order(tmp_path, workers):
    video = Medium(data=write_mp4(numbered_frames(20), 10))
    records = [Record("a", (image(3), image(9), video), ()), Record("b", (Medium(data=b"?"),), ())]
    write_dataset(tmp_path / "d", {"test": records}, name="d", description="", labels={})
    source = open_dataset(tmp_path / "d").source("test")
    config = VideoInput(4, 32, "jittered", "random", (0.2, 0.5), VJEPA2Config.preprocessing)
    requests = [(0, (1, 0)), (1, (0,)), (0, (2,))] * 6
    decoded = list(decode_media(source, requests, config, workers))
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

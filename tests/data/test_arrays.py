"""Headers of arrays are parsed by one thread at a time, as Python 3.11 may fail otherwise."""

import concurrent.futures
import time

import numpy as np

from vljepa_jax.data import arrays


def test_one_thread_parses_at_a_time(tmp_path, monkeypatch):
    path, load, parsing, most = tmp_path / "a.npy", np.load, [], []
    np.save(path, np.arange(3))

    def slow(*args, **options):
        parsing.append(None)
        most.append(len(parsing))
        time.sleep(0.05)
        parsing.pop()
        return load(*args, **options)

    monkeypatch.setattr(arrays.np, "load", slow)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: arrays.load_array(path, mmap_mode="r"), range(4)))
    assert most == [1] * 4
    assert all((array == [0, 1, 2]).all() for array in found)

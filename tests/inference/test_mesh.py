"""A loaded model on several devices: rows divided, results those of one."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.subprocesses import run_on_devices

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the program has written, by the number of devices."""
    directory = tmp_path_factory.mktemp("found")
    run_on_devices("sharded_inference.py", directory)
    return {devices: np.load(directory / f"{devices}.npz") for devices in (1, 6, 8)}


@pytest.mark.parametrize("devices", [6, 8])
def test_several_devices_give_the_embeddings_of_one(found, devices):
    """To 1e-5, with 7 clips, 5 texts and 3 pairs, none of which share out."""
    for name, rows in (("texts", 5), ("videos", 7), ("pairs", 3)):
        assert len(found[devices][name]) == rows
        np.testing.assert_allclose(found[devices][name], found[1][name], atol=1e-5)


@pytest.mark.parametrize("devices", [6, 8])
def test_several_devices_give_the_likelihoods_of_one(found, devices):
    assert found[devices]["likelihoods"].shape == (3, 5)
    np.testing.assert_allclose(found[devices]["likelihoods"], found[1]["likelihoods"], rtol=1e-5)


@pytest.mark.parametrize("devices", [6, 8])
def test_several_devices_write_the_texts_of_one(found, devices):
    """Whichever way they are chosen."""
    for method in ("greedy", "beam", "top_p", "vlm"):
        assert found[devices][method].tolist() == found[1][method].tolist()
        assert len(set(found[1][method])) > 1

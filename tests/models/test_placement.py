import jax
import numpy as np
import pytest

from vljepa_jax.config import ShardingConfig
from vljepa_jax.models.placement import bucket_rows, pad_rows
from vljepa_jax.parallel.sharding import make_mesh


@pytest.mark.parametrize(
    ("rows", "largest", "expected"), [(1, 8, 1), (3, 8, 4), (8, 8, 8), (5, 6, 6), (9, 8, 8)]
)
def test_few_sizes_of_batches(rows, largest, expected):
    mesh = make_mesh(ShardingConfig(data=1, fsdp=1, tensor=1, rules=()), jax.devices()[:1])
    assert bucket_rows(rows, largest, mesh) == expected


def test_the_last_row_is_repeated():
    array = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(pad_rows(array, 4), array[[0, 1, 1, 1]])
    assert pad_rows(array, 2).shape == (2, 3)

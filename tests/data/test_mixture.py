import collections
import pickle

import grain
import numpy as np
import pytest

from vljepa_jax.data.mixture import MixedSource, Mixture


def mixture(weights, batch_size, records=100, seed=0, limit=0):
    sources = [MixedSource(records + i, weight, limit) for i, weight in enumerate(weights)]
    return Mixture(sources, batch_size, seed)


@pytest.mark.parametrize(
    ("weights", "batch_size"),
    [
        ((25.0, 2.8, 1.8, 1.5, 0.1, 1.6), 96),  # the shares of the 1B recipe's fine-tuning
        ((14.0, 1.0), 24),
        ((3, 1), 8),
        ((1, 1, 1), 7),
        ((0.001, 1), 1),
    ],
)
def test_every_batch_has_the_weights_to_within_a_row_and_all_of_them_do(weights, batch_size):
    batches, shares = 300, np.array(weights) / sum(weights)
    found = mixture(weights, batch_size)
    before = np.zeros(len(weights), int)
    for batch in range(batches):
        drawn = [found._place(batch * batch_size + row) for row in range(batch_size)]
        counts = np.bincount([source for source, _ in drawn], minlength=len(weights))
        assert np.abs(counts - batch_size * shares).max() < 1
        for source, count in enumerate(counts):  # the places that come next, each once
            places = sorted(place for own, place in drawn if own == source)
            assert places == list(range(before[source], before[source] + count))
        before += counts
        assert found.rows(batch + 1) == before.tolist()
    assert np.abs(before - batches * batch_size * shares).max() < 3


def test_an_epoch_has_each_record_once_and_the_next_another_order():
    found = mixture((2, 1), 6, records=20)
    order = [found[index] for index in range(240)]
    first = [record for source, record in order if source == 0]
    assert sorted(first[:20]) == sorted(first[20:40]) == list(range(20))
    assert first[:20] != first[20:40]
    assert [mixture((2, 1), 6, records=20)[index] for index in range(240)] == order
    assert [mixture((2, 1), 6, 20, seed=1)[index] for index in range(240)] != order


def test_a_source_alone_has_grains_order():
    """That of runs before there were batches with exact shares."""
    seeds = np.random.SeedSequence(7).generate_state(1)
    former = grain.MapDataset.range(50).shuffle(seed=int(seeds[0])).repeat()
    found = mixture((3,), 8, records=50, seed=7)
    assert [found[index] for index in range(130)] == [(0, former[index]) for index in range(130)]
    assert found.rows(3) == [24]


def test_a_limit_leaves_the_same_records_in_every_epoch():
    found = mixture((1,), 4, records=50, limit=12)
    drawn = [found[index][1] for index in range(36)]
    kept = set(drawn)
    assert len(kept) == 12
    assert kept != set(range(12))
    assert all(set(drawn[first : first + 12]) == kept for first in (0, 12, 24))
    assert {found.any_record(0, np.random.default_rng(seed)) for seed in range(200)} == kept
    assert {mixture((1,), 4, 50, seed=1, limit=12)[index][1] for index in range(12)} != kept
    assert sorted({mixture((1,), 4, 5, limit=12)[index][1] for index in range(5)}) == list(range(5))


def test_rows_of_a_source_are_spread_over_a_batch():
    found = mixture((1, 1), 1024)
    sources = [found[index][0] for index in range(1024)]
    for first in range(0, 1024, 128):  # what one of eight processes holds
        assert 40 < sum(sources[first : first + 128]) < 88


def test_a_billion_records_take_no_more_memory_and_any_place_is_reached():
    sources = [MixedSource(1_400_000_000, 14.0), MixedSource(99_000_000, 1.0)]
    found = Mixture(sources, 24_576, 0)
    assert len(pickle.dumps(found)) < 10_000
    drawn = collections.Counter(found[24_576 * 99_999 + row][0] for row in range(24_576))
    assert abs(drawn[1] - 24_576 / 15) < 1
    assert all(0 <= found[10**12 + row][1] < 1_400_000_000 for row in range(20))

"""Online segmentation: it finds changes, at the rate asked for, and never looks ahead."""

import tracemalloc

import numpy as np
import pytest

from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.segmentation import unit, ward_tree


def steps(lengths, size=16, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.normal(size=(len(lengths), size)), lengths, axis=0)
    return unit(means + noise * rng.normal(size=means.shape))


def run(embeddings, **settings):
    segmenter = OnlineSegmenter(**{"window": 8, "delay": 1} | settings)
    changes = [change for e in embeddings if (change := segmenter.update(e))]
    return segmenter, changes


def test_clear_steps_are_found_where_they_are():
    lengths = [9, 4, 15, 7, 30, 5]
    _, changes = run(steps(lengths), threshold=0.3)
    bounds = np.cumsum(lengths)[:-1]
    assert [change.end for change in changes] == list(bounds)
    assert [change.start for change in changes] == [0, *bounds[:-1]]
    assert all(0 <= change.decided - change.end <= 2 for change in changes)


def test_a_change_carries_the_mean_and_the_midpoint_of_its_segment():
    embeddings = steps([9, 4, 15, 7])
    segmenter, changes = run(embeddings, delay=2, threshold=0.3)
    changes.append(segmenter.so_far())
    assert len(changes) > 3
    assert changes[-1].end == len(embeddings)
    for change in changes:
        part = embeddings[change.start : change.end]
        np.testing.assert_allclose(change.averaged, unit(part.mean(axis=0)), atol=1e-6)
        np.testing.assert_array_equal(change.exact, part[(len(part) - 1) // 2])


def test_a_change_by_hand():
    """0 0 0 1 1: the best split is before the fourth tick, with gains 3·1/4 and then 3·2/5."""
    segmenter = OnlineSegmenter(window=8, delay=2, threshold=1.0)
    gains, found = [], []
    for value in (0.0, 0.0, 0.0, 1.0, 1.0):
        found.append(segmenter.update(np.array([value])))
        gains.append(segmenter.gain)
    assert gains == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.2])  # 0.75 is not two ticks old
    assert found[:4] == [None] * 4
    assert (found[4].start, found[4].end, found[4].decided) == (0, 3, 4)
    assert (segmenter.start, segmenter.so_far().averaged) == (3, [1.0])


def squares(part):
    return ((part - part.mean(axis=0)) ** 2).sum()


def by_definition(embeddings, window, delay, threshold):
    """Segments' ends and every gain, from all that was seen, by sums of squared distances."""
    start, ends, gains = 0, [], []
    for now in range(1, len(embeddings) + 1):
        whole = squares(embeddings[start:now])
        splits = {
            split: whole - squares(embeddings[start:split]) - squares(embeddings[split:now])
            for split in range(max(start + 1, now - window), now)
        }
        best = max(splits, key=splits.get, default=now)
        gains.append(splits[best] if now - best >= delay else 0.0)
        if gains[-1] > threshold:
            ends.append(best)
            start = best
    return ends, gains


@pytest.mark.parametrize(("window", "delay"), [(8, 2), (3, 1), (5, 5), (400, 3)])
def test_gains_and_ends_are_those_of_the_definition(window, delay):
    embeddings = steps([5, 8, 3, 12, 6, 20, 4, 40, 9], noise=0.7).astype(np.float64)
    ends, gains = by_definition(embeddings, window, delay, threshold=1.2)
    segmenter = OnlineSegmenter(window=window, delay=delay, threshold=1.2)
    found = []
    for embedding, gain in zip(embeddings, gains, strict=True):
        change = segmenter.update(embedding)
        found += [] if change is None else [change.end]
        assert segmenter.gain == pytest.approx(gain, abs=1e-9)
    assert found == ends
    assert len(ends) > 3


@pytest.mark.parametrize("setting", [{"threshold": 0.2}, {"rate": 0.1}])
def test_the_future_does_not_alter_decisions(setting):
    embeddings = steps([5, 8, 3, 12, 6, 20, 4], noise=0.4)
    for now in (10, 25, 40):
        other = embeddings.copy()
        other[now:] = steps([3] * 20, noise=1.0, seed=1)[: len(other) - now]
        one, two = (
            [
                (c.start, c.end, c.decided, c.exact.tobytes(), c.averaged.tobytes())
                for c in run(stream, delay=2, **setting)[1]
                if c.decided < now
            ]
            for stream in (embeddings, other)
        )
        assert one == two
        assert one


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.25])
def test_the_controller_reaches_its_rate(rate):
    rng = np.random.default_rng(4)
    stream = steps(rng.integers(2, 12, 800), noise=0.4)
    # Also where the stream becomes ten times quieter.
    quiet = unit(stream[0] + 0.1 * stream)
    _, changes = run(np.concatenate([stream, quiet]), delay=2, rate=rate)
    decided = np.array([change.decided for change in changes])
    half = len(stream) // 2  # the controller may take the other half to get there
    for end in (len(stream), 2 * len(stream)):
        reached = np.mean((decided >= end - half) & (decided < end)) * len(decided) / half
        assert abs(reached - rate) < 0.1 * rate


def test_a_still_stream_never_changes():
    stream = np.tile(steps([1]), (50, 1))
    assert run(stream, rate=0.5)[1] == []
    assert run(stream, threshold=1e-9)[1] == []


def test_memory_is_constant_while_nothing_changes():
    segmenter = OnlineSegmenter(window=8, delay=4, threshold=np.inf)
    rng = np.random.default_rng(5)
    tracemalloc.start()
    held = []
    for _ in range(4):
        for _ in range(2_000):
            segmenter.update(rng.normal(size=64))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[-1] < 1.5 * held[0]
    assert segmenter.so_far().end == 8_000


def test_it_finds_much_of_what_the_offline_tree_finds():
    lengths = np.random.default_rng(6).integers(4, 20, 40)
    stream = steps(lengths, noise=0.3)
    offline = ward_tree(stream).segments(len(lengths))[1:, 0]
    np.testing.assert_array_equal(offline, np.cumsum(lengths)[:-1])
    _, changes = run(stream, delay=2, rate=len(lengths) / len(stream))
    ends = np.array([change.end for change in changes])
    found = [np.abs(ends - bound).min() <= 1 for bound in offline]
    assert np.mean(found) > 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.1, "rate": 0.1}, "either"),
        ({}, "either"),
        ({"threshold": -1.0}, "negative"),
        ({"rate": 1.0}, "between 0 and 1"),
        ({"rate": 0.1, "delay": 9}, "window = 8 and delay = 9"),
        ({"rate": 0.1, "delay": 0}, "delay = 0"),
    ],
)
def test_settings_out_of_range_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        OnlineSegmenter(**{"window": 8, "delay": 1} | settings)


def test_a_rate_is_kept_from_the_beginning():
    """A static start sets a threshold that anything exceeds; without ``ahead`` texts pour out."""
    rng = np.random.default_rng(0)
    noise = unit(np.ones(8) + rng.normal(size=(40, 8)))
    stream = np.concatenate(
        [np.repeat(noise[:1], 4, axis=0) + 1e-4 * rng.normal(size=(4, 8)), noise]
    )

    def ended(**settings):
        segmenter = OnlineSegmenter(window=8, delay=2, rate=0.175, **settings)
        return np.cumsum([segmenter.update(row) is not None for row in stream])

    ticks = np.arange(1, len(stream) + 1)
    assert (ended() > 0.175 * ticks + 1).any()
    kept = ended(ahead=1.0)
    assert (kept <= 0.175 * ticks + 1).all()
    assert kept[-1] >= 3

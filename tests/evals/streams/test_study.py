"""The study on made-up streams, where the right answers are known."""

import dataclasses
import math
import re

import numpy as np
import pytest

from vljepa_jax.config import ConfigError, StreamSet, StreamStudyConfig
from vljepa_jax.evals.streams.curves import (
    FEWEST_STREAMS,
    Curve,
    Study,
    gain,
    rate_at,
    reduction,
)
from vljepa_jax.evals.streams.run import scorer
from vljepa_jax.evals.streams.study import STRATEGIES, EmbeddedStream, run_study
from vljepa_jax.inference.streams.segmentation import unit

TICKS = 4.0
CONFIG = StreamStudyConfig(
    sets=(StreamSet("poisson", 0.4, 3),),
    query="",
    window=2.0,
    ticks_per_second=TICKS,
    rates=(2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.06),
    change_window=3.0,
    change_delay=0.5,
    forms=("averaged", "exact", "clip"),
    bank_texts=10,
)
WORDS = ("red", "green", "blue", "pink", "grey")
VERBS = ("jumps high", "rolls away", "falls down", "turns round", "grows fast")
TEXTS = tuple(f"a {word} ball {verb}" for word in WORDS for verb in VERBS)
RNG = np.random.default_rng(0)
MEANINGS = unit(RNG.normal(size=(len(TEXTS), 24)))


def made_up(seed, noise, seconds=240.0, lasting=(3.0, 12.0)):
    """Events one after the other, each of one meaning from its start to its end."""
    rng = np.random.default_rng(seed)
    bounds = [0.0]
    while bounds[-1] < seconds:
        bounds.append(bounds[-1] + rng.uniform(*lasting))
    chosen = rng.integers(len(TEXTS), size=len(bounds) - 1)
    times = np.arange(int(seconds * TICKS)) / TICKS + 1.0
    event = np.searchsorted(bounds, times, side="right") - 1
    event = np.minimum(event, len(chosen) - 1)
    embeddings = unit(MEANINGS[chosen[event]] + noise * rng.normal(size=(len(times), 24)))
    starts, ends = np.array(bounds[:-1]), np.array(bounds[1:])
    inside = ends < seconds
    return EmbeddedStream(
        f"stream-{seed}",
        times,
        embeddings,
        ((starts + ends) / 2)[inside],
        tuple(TEXTS[c] for c, kept in zip(chosen, inside, strict=True) if kept),
        (ends - starts)[inside],
    )


def decode(embeddings):
    return [TEXTS[index] for index in (embeddings @ MEANINGS.T).argmax(axis=1)]


def embed_spans(stream, spans):
    """The mean of the ticks in each span: the same as averaged, for spans of whole ticks."""
    inside = [(begin <= stream.times) & (stream.times < end) for begin, end in spans]
    return unit(np.stack([stream.embeddings[ticks].mean(axis=0) for ticks in inside]))


@pytest.fixture(scope="module")
def study():
    streams = [made_up(seed, 0.45) for seed in range(FEWEST_STREAMS)]
    return run_study(streams, CONFIG, decode, scorer, embed_spans)


def test_there_is_a_curve_for_every_strategy_and_form(study):
    assert set(study.curves) == {(s, f) for s in STRATEGIES for f in CONFIG.forms}
    for strategy in ("uniform", "offline"):
        rates = [rate for rate, _ in study.points(strategy, "averaged")]
        np.testing.assert_allclose(rates, CONFIG.rates, rtol=0.05)
    assert all(0 <= cider <= 1000 for key in study.curves for _, cider in study.points(*key))


def test_a_clean_stream_is_told_whole_at_its_rate_of_events():
    clean = run_study(
        [made_up(seed, 0.0) for seed in range(2)], CONFIG, decode, scorer, embed_spans
    )
    events, seconds = clean.annotations.sum(), clean.seconds.sum()
    needed = events / seconds
    offline = dict(zip(CONFIG.rates, clean.points("offline", "averaged"), strict=True))
    uniform = dict(zip(CONFIG.rates, clean.points("uniform", "exact"), strict=True))
    assert 0.12 < needed < 0.18
    assert offline[0.18][1] > 999  # every annotation gets its own text
    assert uniform[0.18][1] < 980
    assert uniform[0.12][1] < offline[0.12][1] - 50  # too few for all: the tree wastes fewer
    assert clean.reductions["offline", "averaged"].value > 2.85  # the paper's figure


def test_selective_needs_fewer_decodings_and_averaging_helps(study):
    offline = study.reductions["offline", "averaged"]
    assert offline.undefined == ""
    assert math.isclose(offline.over_uniform, offline.uniform_rate / offline.rate)
    assert offline.interval[0] <= offline.value <= offline.interval[1]
    assert offline.interval[0] > 1
    assert math.isclose(offline.value, 1 / offline.rate)
    streams = [made_up(seed, 0.6) for seed in range(2)]
    noisy = run_study(streams, CONFIG, decode, scorer, embed_spans)
    points = {form: dict(noisy.points("offline", form)) for form in CONFIG.forms}
    rate = min(points["exact"], key=lambda rate: abs(rate - 0.25))
    assert points["averaged"][rate] > points["exact"][rate] + 50


def test_a_segment_is_embedded_as_a_clip_of_its_own_once_a_stream():
    """Where a clip is the mean of its ticks, this form is the averaged one."""
    config = dataclasses.replace(CONFIG, window=1 / TICKS)
    calls = []

    def counted(stream, spans):
        calls.append((stream.name, len(spans), len(np.unique(spans, axis=0))))
        return embed_spans(stream, spans)

    streams = [made_up(seed, 0.3, seconds=60.0) for seed in range(2)]
    found = run_study(streams, config, decode, scorer, counted)
    assert [name for name, _, _ in calls] == ["stream-0", "stream-1"]
    assert all(spans == distinct > 20 for _, spans, distinct in calls)
    for strategy in STRATEGIES:
        clip, averaged = (found.curves[strategy, form].scores for form in ("clip", "averaged"))
        np.testing.assert_allclose(clip, averaged, rtol=1e-6)
    assert not np.allclose(averaged, found.curves[strategy, "exact"].scores)


def test_forms_that_are_not_asked_for_cost_nothing():
    def refuse(stream, spans):
        raise AssertionError("no clips are wanted")

    config = dataclasses.replace(CONFIG, forms=("exact",))
    found = run_study([made_up(0, 0.3, seconds=30.0)], config, decode, scorer, refuse)
    assert set(found.curves) == {(strategy, "exact") for strategy in STRATEGIES}
    with pytest.raises(ConfigError, match="forms: name at least one of clip, averaged, exact"):
        dataclasses.replace(CONFIG, forms=())


def test_the_online_strategy_comes_near_the_rate_it_is_asked_for(study):
    curve = study.curves["online", "averaged"]
    reached = curve.decodings.sum(axis=1) / study.seconds.sum()
    for asked, rate in zip(curve.asked, reached, strict=True):
        if 0.1 < asked < 1.0:
            assert 0.75 < rate / asked < 1.35


def test_pairs_are_with_the_nearest_text_and_all_in_one_corpus():
    """By hand: two ticks, one segment each; three annotations."""
    stream = EmbeddedStream(
        "by-hand",
        np.array([1.0, 2.0]),
        MEANINGS[[0, 7]],
        np.array([0.0, 1.4, 1.6]),
        ("x", "y", "z"),
        np.ones(3),
    )
    config = dataclasses.replace(CONFIG, ticks_per_second=1.0, rates=(1.0, 0.5))
    seen = []

    def remember(references):
        def score(candidates):
            seen.append((list(candidates), references))
            return np.arange(len(candidates), dtype=float)

        return score

    found = run_study([stream], config, decode, remember, embed_spans)
    assert seen[0] == ([TEXTS[0], TEXTS[0], TEXTS[7]], [["x"], ["y"], ["z"]])
    assert found.points("uniform", "exact")[0] == (1.0, 1.0)  # the mean of 0, 1 and 2


def test_blind_is_the_score_of_texts_of_other_annotations(study):
    at_one = dict(study.points("uniform", "averaged"))[1.0]
    assert study.blind < 0.5 * at_one


@pytest.mark.parametrize(
    ("target", "expected", "bounded"),
    [
        (15.0, math.sqrt(0.5), ""),
        (10.0, 0.5, "already at the lowest rate"),
        (25.0, 2.0, "at no rate"),
        (20.0, 1.0, ""),
    ],
)
def test_a_curve_is_read_off_in_the_logarithm_of_the_rate(target, expected, bounded):
    rates, quality = np.array([0.5, 1.0, 2.0]), np.array([10.0, 20.0, 12.0])
    rate, note = rate_at(rates, quality, target)
    assert math.isclose(rate, expected, rel_tol=1e-6)
    assert bounded in note
    assert bool(bounded) == bool(note)


def test_a_config_without_the_reference_rate_is_refused():
    with pytest.raises(ConfigError, match="must hold 1.0"):
        dataclasses.replace(CONFIG, rates=(2.0, 0.5))
    with pytest.raises(ConfigError, match="no rate may exceed ticks_per_second = 0.5"):
        dataclasses.replace(CONFIG, ticks_per_second=0.5)


def curves_by_hand(good, bad):
    """Streams whose selective curve is, and never is, as good as the uniform at 1 per second."""
    rates, seconds = np.array([2.0, 1.0, 0.5]), np.full(good + bad, 100.0)
    scores = [(60, 50, 20), (80, 80, 30), (40, 40, 10)]
    uniform, better, worse = np.array(scores)[:, :, None]
    selective = np.concatenate([better.repeat(good, 1), worse.repeat(bad, 1)], axis=1)
    decodings = rates[:, None] * seconds
    curves = {
        ("uniform", "clip"): Curve(rates, decodings, uniform.repeat(good + bad, 1)),
        ("offline", "clip"): Curve(rates, decodings, selective),
    }
    return Study(seconds, np.full(good + bad, 10), curves, 0.0, {}, {})


def by_hand(good, bad):
    return reduction(curves_by_hand(good, bad), "offline", "clip")


def test_the_gain_at_half_the_rate_has_an_interval_where_the_reduction_has_none():
    """At 0.5 per second the good streams have 1 CIDEr more, the bad ones 1 less."""
    study = curves_by_hand(3, 5)
    assert reduction(study, "offline", "clip").interval is None
    found = gain(study, "offline", "clip")
    assert (found.value, found.uniform) == pytest.approx((-0.25, 2.0))
    low, high = found.interval
    # Of eight streams drawn n are good, and the gain is n / 4 - 1: P(n = 0) = 2.3 %,
    # P(n > 5) = 3.6 %, P(n > 6) = 0.6 %.
    assert low in (-1.0, -0.75)
    assert high == 0.5
    few = gain(curves_by_hand(3, 0), "offline", "clip")
    assert (few.value, few.interval) == (pytest.approx(1.0), None)
    assert "3 streams are too few" in few.caveat
    short = dataclasses.replace(
        study,
        curves={
            key: Curve(curve.asked[:2], curve.decodings[:2], curve.scores[:2])
            for key, curve in study.curves.items()
        },
    )
    assert gain(short, "offline", "clip").undefined == "the sweep does not reach 0.5 per second"


def test_what_has_no_value_and_what_has_no_interval_say_why():
    """Most streams never are as good: a resample with too many of these has no value."""
    found = by_hand(3, 5)
    assert 1 < found.value < 2
    assert found.interval is None
    assert found.over_uniform_interval is None
    assert re.fullmatch(r"no interval: \d\d% of resampled streams have no value", found.caveat)
    never = by_hand(0, 8)
    assert (never.value, never.rate, never.interval) == (None, None, None)
    assert never.undefined == "at no rate of the sweep as good"
    few = by_hand(FEWEST_STREAMS - 1, 0)
    assert few.value == by_hand(FEWEST_STREAMS, 0).value
    assert few.caveat == "7 streams are too few for an interval, which takes 8"
    assert by_hand(FEWEST_STREAMS, 0).interval is not None


def test_a_model_that_knows_nothing_is_not_praised():
    """Random embeddings: fewer decodings are as good, for the uniform strategy too."""
    streams = [
        dataclasses.replace(stream, embeddings=unit(RNG.normal(size=stream.embeddings.shape)))
        for stream in (made_up(seed, 0.0, seconds=60.0) for seed in range(FEWEST_STREAMS))
    ]
    found = run_study(streams, CONFIG, decode, scorer, embed_spans)
    for form in CONFIG.forms:
        reduction = found.reductions["offline", form]
        assert reduction.undefined or reduction.caveat
        assert reduction.quality < 2 * found.blind + 50

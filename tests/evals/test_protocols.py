"""Protocols on embeddings written by hand, in the plane."""

import dataclasses
import math

import numpy as np
import pytest

from vljepa_jax.config import (
    PROTOCOLS,
    AnyProtocol,
    BenchmarkConfig,
    CaptionConfig,
    ChooseConfig,
    ConfigError,
    MatchConfig,
    RetrieveConfig,
    TripletsConfig,
    parse,
)
from vljepa_jax.data.records import Annotation
from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.examples import ClipRef, EvaluationError, make_example
from vljepa_jax.evals.protocols.base import Embeddings, score_choices
from vljepa_jax.evals.protocols.registry import make_protocol

CAPTION = "Describe."


def direction(degrees: float) -> np.ndarray:
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def clip(record: int, *media: int) -> ClipRef:
    return ClipRef("data", "test", record, media or (0,))


def benchmark(protocol: AnyProtocol, **fields) -> BenchmarkConfig:
    settings = {
        "name": "set/name",
        "suffix": "",
        "protocol": protocol,
        "path": "data",
        "split": "test",
        "filter": {},
        "query": None,
        "limit": 0,
    }
    return BenchmarkConfig(**(settings | fields))


def examples(config: BenchmarkConfig, annotations, labels=()):
    made = [
        make_example(config, i, a, tuple((c,) for c in a.candidates) or labels)
        for i, a in enumerate(annotations)
    ]
    return make_protocol(config).keep(made)


def items(outcome):
    return tuple(option.item for option in outcome.options)


def run(config, annotations, videos, texts, labels=()):
    chosen = examples(config, annotations, labels)
    protocol = make_protocol(config)
    needs = protocol.needs(chosen)
    assert needs.videos == videos.keys()  # nothing missing, nothing embedded in vain
    assert needs.texts == texts.keys()
    scores = protocol.score(chosen, Embeddings(videos, texts))
    assert set(scores.metrics) == set(protocol.suffixes)
    return scores


# ---------------------------------------------------------------------------------------------
# choose
# ---------------------------------------------------------------------------------------------
def test_choose_takes_the_nearest_candidate():
    def asked(name, gold):
        return Annotation(name, "vqa", "What?", candidates=("dog", "cat"), gold=gold)

    texts = {"dog": direction(0), "cat": direction(90)}
    videos = {
        (clip(0), "What?"): direction(30),  # dog, right
        (clip(1), "What?"): direction(30),  # dog, but it is a cat
        (clip(2), "What?"): direction(30),  # what it is, is not among the candidates: wrong
        (clip(3), "What?"): None,  # unreadable: wrong
    }
    annotations = [asked("a", 0), asked("b", 1), asked("c", None), asked("d", 0)]
    scores = run(benchmark(ChooseConfig()), annotations, videos, texts)
    metric = scores.metrics["_top1"]
    assert (metric.value, metric.n) == (0.25, 4)
    assert metric.chance == 0.5  # always "dog": 2 of 4; uniform: (3 * 1/2) / 4
    right, wrong, absent, unreadable = scores.outcomes
    assert right.correct
    assert items(right) == ("dog", "cat")
    assert [option.correct for option in right.options] == [True, False]
    assert not wrong.correct
    assert (wrong.rank, wrong.gold) == (1, "cat")
    assert (absent.rank, absent.gold) == (None, None)
    assert (unreadable.rank, unreadable.gold) == (None, "dog")
    assert unreadable.unreadable == (clip(3),)


def test_choose_averages_the_texts_of_a_label():
    labels = (("far", "near"), ("middle",))
    annotation = Annotation("a", "classification", gold=0)
    # "near" alone is nearest to the clip, but the mean of "far" and "near" lies at 45 degrees.
    texts = {"far": direction(90), "near": direction(0), "middle": direction(20)}
    scores = run(
        benchmark(ChooseConfig()), [annotation], {(clip(0), ""): direction(5)}, texts, labels
    )
    assert items(scores.outcomes[0]) == ("middle", "far")
    assert scores.outcomes[0].options[1].score == pytest.approx(math.cos(math.radians(40)))


def test_the_benchmarks_query_replaces_the_examples_own():
    annotation = Annotation("a", "vqa", "What?", candidates=("x", "y"), gold=0)
    texts = {"x": direction(0), "y": direction(90)}
    run(benchmark(ChooseConfig(), query=""), [annotation], {(clip(0), ""): direction(0)}, texts)


# ---------------------------------------------------------------------------------------------
# retrieve
# ---------------------------------------------------------------------------------------------
def test_retrieval_ranks_clips_for_a_caption():
    # Text to video: "zero" finds clip 0 (25 degrees off), "sixty" clip 0 as well (35 against 40).
    # Video to text: clip 0 finds "zero" (25 against 35), clip 1 "sixty": that would be 2 of 2.
    annotations = [
        Annotation("a", "caption", CAPTION, texts=("zero",)),
        Annotation("b", "caption", CAPTION, texts=("sixty",)),
    ]
    videos = {(clip(0), CAPTION): direction(25), (clip(1), CAPTION): direction(100)}
    texts = {"zero": direction(0), "sixty": direction(60)}
    scores = run(benchmark(RetrieveConfig()), annotations, videos, texts)
    assert [outcome.correct for outcome in scores.outcomes] == [True, False]
    assert items(scores.outcomes[1]) == (clip(0), clip(1))
    assert scores.outcomes[1].gold == clip(1)
    assert scores.metrics["_r1"].value == 0.5
    assert scores.metrics["_r1"].chance == 0.5
    assert scores.metrics["_r5"].value == 1


def test_retrieval_over_clips_with_several_captions_and_shared_captions():
    annotations = [
        Annotation("a", "caption", texts=("dog", "pup")),
        Annotation("b", "caption", texts=("dog",)),
        Annotation("c", "caption", texts=("cat",)),
    ]
    videos = {(clip(i), ""): direction(angle) for i, angle in enumerate([0, 10, 90])}
    texts = {"dog": direction(12), "pup": direction(3), "cat": direction(80)}
    scores = run(benchmark(RetrieveConfig()), annotations, videos, texts)
    # "dog" finds clip 1, which is right for both clips' "dog"
    assert [outcome.question for outcome in scores.outcomes] == ["dog", "pup", "dog", "cat"]
    assert [outcome.correct for outcome in scores.outcomes] == [True] * 4
    assert scores.metrics["_r1"].n == 4
    # two of three clips are right for "dog", one for the others
    assert scores.metrics["_r1"].chance == pytest.approx((2 / 3 + 1 / 3 + 2 / 3 + 1 / 3) / 4)


def test_retrieval_keeps_one_example_of_each_meaning():
    def said(name, text, meaning):
        return Annotation(name, "caption", texts=(text, text + "!"), tags={"meaning": meaning})

    annotations = [said("a", "dog", "D"), said("b", "hound", "D"), said("c", "cat", "C")]
    videos = {(clip(0), ""): direction(0), (clip(2), ""): direction(90)}
    texts = {"dog": direction(10), "cat": direction(80)}
    scores = run(benchmark(RetrieveConfig()), annotations, videos, texts)
    assert [outcome.id for outcome in scores.outcomes] == ["a", "c"]
    assert scores.metrics["_r1"].chance == 0.5


def test_a_caption_of_an_unreadable_clip_is_wrong_and_the_clip_is_never_found():
    annotations = [Annotation(name, "caption", texts=(name,)) for name in ("dog", "cat")]
    videos = {(clip(0), ""): None, (clip(1), ""): direction(90)}
    texts = {"dog": direction(0), "cat": direction(90)}
    scores = run(benchmark(RetrieveConfig()), annotations, videos, texts)
    assert [outcome.rank for outcome in scores.outcomes] == [None, 0]
    assert scores.outcomes[0].unreadable == (clip(0),)
    assert items(scores.outcomes[1]) == (clip(1),)
    assert scores.metrics["_r5"].value == 0.5


# ---------------------------------------------------------------------------------------------
# match
# ---------------------------------------------------------------------------------------------
def test_match_compares_the_state_pair_with_the_candidate_clips():
    def state(name, gold):
        return Annotation(
            name, "state", "Between?", inputs=(0, 1), candidate_media=(2, 3, 4, 5), gold=gold
        )

    videos = {
        **{(clip(r, 0, 1), "Between?"): direction(50) for r in (0, 1)},
        **{(clip(r, 2 + i), CAPTION): direction(60 * i) for r in (0, 1) for i in range(4)},
        (clip(2, 0, 1), "Between?"): direction(0),
        **{(clip(2, 2 + i), CAPTION): direction(60 * i) for i in range(3)},
        (clip(2, 5), CAPTION): None,
    }
    annotations = [state("a", 1), state("b", 0), state("c", 0)]
    scores = run(benchmark(MatchConfig(candidate_query=CAPTION)), annotations, videos, {})
    assert [outcome.rank for outcome in scores.outcomes] == [0, 1, None]
    assert scores.outcomes[0].options[0].item == clip(0, 3)
    assert scores.outcomes[2].unreadable == (clip(2, 5),)  # one lost candidate: wrong
    assert scores.metrics["_top1"].value == pytest.approx(1 / 3)
    assert scores.metrics["_top1"].chance == 0.25


# ---------------------------------------------------------------------------------------------
# triplets
# ---------------------------------------------------------------------------------------------
def test_triplets_use_texts_alone():
    texts = {"p1": direction(0), "p2": direction(20), "far": direction(90), "near": direction(35)}
    annotations = [
        Annotation("a", "triplet", texts=("p1", "p2", "far"), inputs=()),
        Annotation("b", "triplet", texts=("p1", "p2", "near"), inputs=()),  # 15 from p2 < 20
        Annotation("c", "triplet", texts=("p2", "p1", "near"), inputs=()),
        Annotation("d", "triplet", texts=("p1", "p2", "p2"), inputs=()),  # a tie fails
    ]
    scores = run(benchmark(TripletsConfig()), annotations, {}, texts)
    assert [outcome.correct for outcome in scores.outcomes] == [True, False, False, False]
    assert items(scores.outcomes[1]) == ("near", "p2")
    assert scores.metrics[""].value == 0.25
    assert scores.metrics[""].chance == pytest.approx(1 / 3)


# ---------------------------------------------------------------------------------------------
# examples that do not fit
# ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("protocol", "annotation", "fault"),
    [
        (ChooseConfig(), Annotation("x", "vqa", candidates=("yes",), gold=0), "has fewer than two"),
        (ChooseConfig(), Annotation("x", "vqa", candidates=("a", "b"), inputs=()), "has no media"),
        (RetrieveConfig(), Annotation("x", "caption"), "has no caption"),
        (MatchConfig(candidate_query=""), Annotation("x", "state"), "has no candidate clips"),
        (TripletsConfig(), Annotation("x", "triplet", texts=("a", "b")), "is not a triplet"),
    ],
)
def test_an_example_that_does_not_fit_is_named(protocol, annotation, fault):
    config = benchmark(protocol)
    with pytest.raises(EvaluationError, match=f"'set/name' .* example 'x' {fault}"):
        make_protocol(config).needs(examples(config, [annotation]))


# ---------------------------------------------------------------------------------------------
# caption
# ---------------------------------------------------------------------------------------------
def caption_scores(written):
    """Three clips, the last one unreadable; a bank of two captions."""
    config = benchmark(CaptionConfig(bank_split="train"))
    bank = (("a dog spins",), ("a red car drives off",))
    annotations = [
        Annotation("a", "caption", "Describe.", texts=("a dog spins", "a spinning dog")),
        Annotation("b", "caption", "Describe.", texts=("a blue car drives off",)),
        Annotation("c", "caption", "Describe.", texts=("a cat jumps",)),
    ]
    chosen = examples(config, annotations, bank)
    videos = {
        (clip(0), "Describe."): direction(10),
        (clip(1), "Describe."): direction(80),
        (clip(2), "Describe."): None,
    }
    texts = {"a dog spins": direction(0), "a red car drives off": direction(90)}
    protocol = make_protocol(config)
    needs = protocol.needs(chosen)
    assert needs.written == needs.videos == videos.keys()
    assert needs.texts == texts.keys()
    return protocol.score(chosen, Embeddings(videos, texts, written))


def test_captions_are_scored_in_one_corpus_beside_the_nearest_text():
    said = ["A dog spins.", "a blue car drives off"]
    scores = caption_scores({(clip(i), "Describe."): text for i, text in enumerate(said)})
    references = [
        [["a", "dog", "spins"], ["a", "spinning", "dog"]],
        [["a", "blue", "car", "drives", "off"]],
        [["a", "cat", "jumps"]],
    ]

    def cider(*texts):
        return CiderD(references)([tokenise(text) for text in texts])

    found = cider(*said, "")
    metric = scores.metrics["_cider"]
    assert metric.value == pytest.approx(found.mean())
    assert (metric.n, metric.unit) == (3, "cider")
    assert metric.interval[0] <= metric.value <= metric.interval[1]
    nearest = scores.metrics["_cider_nearest_neighbour"]
    assert nearest.value == pytest.approx(cider("a dog spins", "a red car drives off", "").mean())
    assert nearest.value < metric.value
    assert nearest.chance == metric.chance < metric.value
    first, second, third = scores.outcomes
    assert items(first) == ("A dog spins.", "a dog spins", "a dog spins")
    label = f"nearest {first.options[1].score:.0f}"
    assert [option.label for option in first.options[1:]] == [label, "reference"]
    beside = cider("", second.options[1].item, "")[1]
    expected = [pytest.approx(found[1]), pytest.approx(beside), None]
    assert [option.score for option in second.options] == expected
    assert items(third) == ("", "", "a cat jumps")
    assert third.unreadable == (clip(2),)


def test_without_a_y_decoder_the_nearest_text_is_scored_alone():
    scores = caption_scores(None)
    assert scores.metrics.keys() == {"_cider_nearest_neighbour"}
    nearest = [outcome.options[0].item for outcome in scores.outcomes]
    assert nearest == ["a dog spins", "a red car drives off", ""]
    assert scores.notes == ("this model writes no texts: captions are the nearest texts alone",)


# ---------------------------------------------------------------------------------------------
# parameters
# ---------------------------------------------------------------------------------------------
def test_choices_are_made_from_scores_of_any_origin():
    """Log-likelihoods, say, which are no cosines; by hand."""
    annotations = [
        Annotation(name, "vqa", candidates=("x", "y", "z"), gold=gold)
        for name, gold in (("a", 0), ("b", 1), ("c", 2), ("d", None))
    ]
    chosen = examples(benchmark(ChooseConfig()), annotations)
    options = [("x", "y", "z")] * 4
    likelihoods = np.array([[-1, -9, -8], [-1, -7, -9], [-1, -2, -30], [-1, -2, -3.0]])
    scores = score_choices(chosen, options, likelihoods, [()] * 4, {1: 0.3, 2: 0.6})
    assert [outcome.rank for outcome in scores.outcomes] == [0, 1, 2, None]
    assert [scores.metrics[name].value for name in ("_top1", "_top2")] == [0.25, 0.5]
    assert [scores.metrics[name].chance for name in ("_top1", "_top2")] == [0.3, 0.6]


def test_k_names_the_metrics():
    assert make_protocol(benchmark(ChooseConfig(k=(1, 3)))).suffixes == ("_top1", "_top3")
    assert make_protocol(benchmark(RetrieveConfig())).suffixes == ("_r1", "_r5")
    annotations = [
        Annotation("a", "vqa", "What?", candidates=("dog", "cat", "cow"), gold=gold)
        for gold in (0, 2)
    ]
    texts = {"dog": direction(0), "cat": direction(60), "cow": direction(90)}
    videos = {(clip(0), "What?"): direction(40), (clip(1), "What?"): direction(40)}
    scores = run(benchmark(ChooseConfig(k=(1, 2))), annotations, videos, texts)
    # 40 degrees: "cat" (20 off), then "dog" (40), then "cow" (50)
    assert [scores.metrics[name].value for name in ("_top1", "_top2")] == [0, 0.5]
    # one answer is correct for half of them, two for all
    assert [scores.metrics[name].chance for name in ("_top1", "_top2")] == [0.5, 1]


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"name": "chose"}, "'protocol.name' is 'chose', not one of choose, retrieve, match"),
        ({"name": "match"}, "missing field 'protocol.candidate_query'"),
        ({"name": "choose", "bank_split": "train"}, "unknown field 'protocol.bank_split'"),
        ({"name": "choose", "k": (0, 1)}, r"'protocol': k = \(0, 1\) must be different numbers"),
        ({"name": "retrieve", "k": (5, 5)}, r"'protocol': k = \(5, 5\) must be"),
        ("choose", "'protocol' is 'choose', not a ConfigDict"),
    ],
)
def test_wrong_parameters_are_named(protocol, message):
    fields = dataclasses.asdict(benchmark(ChooseConfig())) | {"protocol": protocol}
    with pytest.raises(ConfigError, match=message):
        parse(BenchmarkConfig, fields)


def test_parameters_are_told_apart_by_the_name_of_their_row():
    required = {"match": {"candidate_query": "?"}, "caption": {"bank_split": "train"}}
    for name, entry in PROTOCOLS.items():
        given = {"name": name} | required.get(name, {})
        fields = dataclasses.asdict(benchmark(ChooseConfig())) | {"protocol": given}
        assert isinstance(parse(BenchmarkConfig, fields).protocol, entry.parameters)

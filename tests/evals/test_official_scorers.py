"""Protocols against the formulas of the benchmarks' own scorers, written anew from their papers.

Each reference takes answers or a matrix of scores, as the official files have them, and none of
our code. Embeddings are random, so that many an answer is wrong.
"""

import dataclasses
import math

import numpy as np
import pytest

from vljepa_jax.config import (
    BenchmarkConfig,
    CaptionConfig,
    ChooseConfig,
    ConfigError,
    RetrieveConfig,
    TripletsConfig,
    YesNoConfig,
)
from vljepa_jax.data.records import Annotation
from vljepa_jax.evals.captions import CiderD, tokenise, tokenise_ptb
from vljepa_jax.evals.examples import ClipRef, EvaluationError, fits, make_example
from vljepa_jax.evals.metrics import group_mean, median_rank
from vljepa_jax.evals.protocols.base import Embeddings
from vljepa_jax.evals.protocols.registry import make_protocol

SIZE = 6  # of an embedding: small, so that right answers are common


def benchmark(protocol, **fields):
    settings = {"suffix": "", "split": "test", "filter": {}, "query": None, "limit": 0}
    return BenchmarkConfig(**{"name": "b", "protocol": protocol, "path": "d", **settings, **fields})


class Scored:
    """A protocol's result on random embeddings, and the scores as an official file has them."""

    def __init__(self, config, annotations, labels=(), *, seed=0, lost=()):
        rng = np.random.default_rng(seed)
        protocol = make_protocol(config)
        self.examples = protocol.keep(
            [
                make_example(config, i, a, labels or tuple((c,) for c in a.candidates))
                for i, a in enumerate(annotations)
                if fits(config, a)
            ]
        )
        needs = protocol.needs(self.examples)

        def drawn():
            vector = rng.normal(size=SIZE)
            return vector / np.linalg.norm(vector)

        self.texts = {text: drawn() for text in sorted(needs.texts)}
        self.videos = {
            item: None if item[0].record in lost else drawn()
            for item in sorted(needs.videos, key=str)
        }
        self.scores = protocol.score(self.examples, Embeddings(self.videos, self.texts))
        assert set(self.scores.metrics) == set(protocol.suffixes)

    def __getitem__(self, name):
        return self.scores.metrics[name].value

    def video(self, example):
        return self.videos[example.clip, example.query]

    def answers(self, among):
        """The nearest of some texts to each example's clip."""
        return [max(among, key=lambda t: self.video(e) @ self.texts[t]) for e in self.examples]


# ---------------------------------------------------------------------------------------------
# Questions
# ---------------------------------------------------------------------------------------------
def questions(answers, among, n=200, seed=1, **tags):
    rng = np.random.default_rng(seed)
    said = [str(a) for a in rng.choice(answers, n)]
    return said, [
        Annotation(
            str(i),
            "vqa",
            f"{i}?",
            texts=(answer,),
            candidates=tuple(among),
            gold=list(among).index(answer) if answer in among else None,
            tags={name: str(values[i % len(values)]) for name, values in tags.items()},
        )
        for i, answer in enumerate(said)
    ]


def test_gqa_is_exact_match():
    among = ("left", "right", "a car")
    said, annotations = questions((*among, "bicycle"), among)  # one is no candidate: wrong
    scored = Scored(benchmark(ChooseConfig()), annotations)
    matches = [found == answer for found, answer in zip(scored.answers(among), said, strict=True)]
    assert "bicycle" in said
    assert 0.1 < scored["_top1"] == sum(matches) / len(matches)
    assert scored.scores.metrics["_top1"].n == len(said)


def test_tallyqa_is_simple_complex_and_pooled_by_their_sizes():
    among = tuple(map(str, range(16)))
    said, annotations = questions(among, among, subset=("simple", "complex", "simple"))
    right = {}
    for subset in ("simple", "complex"):
        config = benchmark(ChooseConfig(), filter={"subset": subset})
        scored = Scored(config, annotations)
        answers = [e.texts[0] for e in scored.examples]
        hits = [a == b for a, b in zip(scored.answers(among), answers, strict=True)]
        right[subset] = (sum(hits), len(hits))
        assert scored["_top1"] == sum(hits) / len(hits)
    pooled = Scored(benchmark(ChooseConfig()), annotations)
    hits = [a == b for a, b in zip(pooled.answers(among), said, strict=True)]
    assert pooled["_top1"] == sum(hits) / len(hits)
    assert right["simple"][1] + right["complex"][1] == len(said)
    assert right["simple"][1] > right["complex"][1]


def pope(answers, labels):
    """Li et al. 2023: "yes" is positive."""
    pairs = list(zip(answers, labels, strict=True))
    tp, fp = pairs.count(("yes", "yes")), pairs.count(("yes", "no"))
    tn, fn = pairs.count(("no", "no")), pairs.count(("no", "yes"))
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return {
        "_accuracy": (tp + tn) / (tp + tn + fp + fn),
        "_precision": precision,
        "_recall": recall,
        "_f1": 2 * precision * recall / (precision + recall),
        "_yes_ratio": (tp + fp) / len(pairs),
    }


POPE_SETTINGS = ("random", "popular", "adversarial")


def test_pope_has_the_five_figures_of_each_setting_and_their_means():
    said, annotations = questions(("yes", "no"), ("yes", "no"), subset=POPE_SETTINGS, n=150)
    every = Scored(benchmark(YesNoConfig(macro="subset")), annotations)
    answers, figures = every.answers(("yes", "no")), []
    for number, subset in enumerate(POPE_SETTINGS):
        own = slice(number, None, 3)
        figures.append(pope(answers[own], said[own]))
        alone = benchmark(YesNoConfig(), filter={"subset": subset})
        metrics = make_protocol(alone).score(
            [e for e in every.examples if e.tags["subset"] == subset],
            Embeddings(every.videos, every.texts),
        )
        found = {name: metric.value for name, metric in metrics.metrics.items()}
        assert found == pytest.approx(figures[-1], abs=1e-12)
    for name in figures[0]:
        assert every[name] == pytest.approx(np.mean([f[name] for f in figures]), abs=1e-12)
    assert len({round(f["_f1"], 3) for f in figures}) == 3
    metric = every.scores.metrics["_f1"]
    assert metric.interval[0] < metric.value < metric.interval[1]
    assert every.scores.metrics["_yes_ratio"].better == "neither"


def test_pope_by_hand():
    """Said yes, yes, no, no; it is yes, no, no, yes; a fifth image is lost, and so said wrongly:
    no. One of three yes is found, one of two said is right: F1 2 x 1/2 x 1/3 / (5/6) = 0.4."""

    def asked(name, gold):
        return Annotation(name, "vqa", "?", candidates=("yes", "no"), gold=gold)

    config = benchmark(YesNoConfig())
    annotations = [asked("a", 0), asked("b", 1), asked("c", 1), asked("d", 0), asked("e", 0)]
    made = [make_example(config, i, a, (("yes",), ("no",))) for i, a in enumerate(annotations)]
    yes, no = np.array([1.0, 0]), np.array([0, 1.0])
    clips = [(e.clip, "?") for e in made]
    videos = dict(zip(clips, (yes, yes, no, no, None), strict=True))
    found = make_protocol(config).score(made, Embeddings(videos, {"yes": yes, "no": no})).metrics
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx(
        {"_accuracy": 0.4, "_precision": 0.5, "_recall": 1 / 3, "_f1": 0.4, "_yes_ratio": 0.4}
    )
    # No yes at all: the official formulas divide by 0.
    videos = dict.fromkeys(clips, no)
    found = make_protocol(config).score(made, Embeddings(videos, {"yes": yes, "no": no})).metrics
    assert [found[name].value for name in ("_precision", "_recall", "_f1")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("annotation", "fault"),
    [
        (Annotation("x", "vqa", candidates=("yes", "maybe"), gold=0), "other candidates than"),
        (Annotation("x", "vqa", candidates=("no", "yes")), "no correct candidate"),
        (Annotation("x", "vqa", candidates=("no", "yes"), gold=0), "no tag 'subset'"),
        (Annotation("x", "vqa", candidates=("no", "yes"), gold=0, inputs=()), "no media"),
    ],
)
def test_questions_that_are_not_yes_or_no_are_named(annotation, fault):
    with pytest.raises(EvaluationError, match=f"'b' .yes_no.: example 'x' has {fault}"):
        Scored(benchmark(YesNoConfig(macro="subset")), [annotation])


@pytest.mark.parametrize("view", ["both", "counterfactual"])
def test_popev2_is_read_over_both_images_and_over_the_counterfactual_alone(view):
    """The normal image shows the object, the other does not."""
    annotations = [
        Annotation(
            f"{pair}/{name}",
            "vqa",
            f"{pair}?",
            candidates=("yes", "no"),
            gold=number,
            tags={"pair": str(pair), "view": name},
        )
        for pair in range(40)
        for number, name in enumerate(("normal", "counterfactual"))
    ]
    selection = {} if view == "both" else {"view": view}
    scored = Scored(benchmark(ChooseConfig(), filter=selection), annotations)
    wanted = ["yes", "no"] * 40 if view == "both" else ["no"] * 40
    hits = [a == b for a, b in zip(scored.answers(("yes", "no")), wanted, strict=True)]
    assert scored["_top1"] == sum(hits) / len(hits)


# ---------------------------------------------------------------------------------------------
# Classes
# ---------------------------------------------------------------------------------------------
def mean_top5_recall(scores, gold):
    """EPIC-KITCHENS: of each class that occurs, how often it is among the first five; the mean."""
    recalls = []
    for name in set(gold):
        own = [row for row, label in zip(scores, gold, strict=True) if label == name]
        recalls.append(np.mean([name in np.argsort(-row)[:5] for row in own]))
    return float(np.mean(recalls))


@pytest.mark.parametrize("classes", [3_806, 3_568])
def test_epic_kitchens_recall_is_a_mean_over_the_classes_that_occur(classes):
    """With the 3,568 actions of training, items of the others are left out, as V-JEPA 2 does."""
    labels = tuple((f"action {i}", f"narration {i}") for i in range(3_806))
    rng = np.random.default_rng(3)
    # Few classes, of which some occur often; two are beyond the actions of training.
    gold = rng.choice([5, 5, 5, 80, 900, 3_000, 3_567, 3_568, 3_805], 120)
    annotations = [
        Annotation(str(i), "classification", candidates="@labels/x", gold=int(g))
        for i, g in enumerate(gold)
    ]
    config = ChooseConfig(k=(1, 5), recall=(5,), candidates=0 if classes == 3_806 else classes)
    scored = Scored(benchmark(config), annotations, labels)
    kept = [int(g) for g in gold if g < classes]
    assert [example.gold for example in scored.examples] == kept
    assert scored.scores.metrics["_r5"].n == len(kept)
    assert (len(kept) < len(gold)) == (classes == 3_568)

    def predict(embeddings):
        """Embeddings that lie near those of the right class, at times."""
        videos = {}
        for example in scored.examples:
            target = np.mean([embeddings.texts[t] for t in labels[example.gold]], axis=0)
            noise = rng.normal(size=SIZE) * rng.choice([0.01, 0.3])
            vector = target / np.linalg.norm(target) + noise
            videos[example.clip, ""] = vector / np.linalg.norm(vector)
        return dataclasses.replace(embeddings, videos=videos)

    embeddings = predict(Embeddings({}, scored.texts))
    found = make_protocol(benchmark(config)).score(scored.examples, embeddings).metrics
    means = [np.mean([scored.texts[t] for t in own], axis=0) for own in labels[:classes]]
    matrix = np.stack([mean / np.linalg.norm(mean) for mean in means])
    scores = np.stack([embeddings.videos[e.clip, ""] for e in scored.examples]) @ matrix.T
    assert found["_r5"].value == pytest.approx(mean_top5_recall(scores, kept), abs=1e-12)
    plain = np.mean([g in np.argsort(-row)[:5] for row, g in zip(scores, kept, strict=True)])
    assert found["_top5"].value == pytest.approx(plain)
    assert 0.2 < found["_r5"].value < 0.95
    assert found["_r5"].value != pytest.approx(plain, abs=1e-3)  # or it would show nothing
    # Blind: always the same five classes of those that occur.
    assert found["_r5"].chance == pytest.approx(5 / len(set(kept)))


def test_mean_class_accuracy_by_hand():
    """Right in 3 of 4 of one class, in 0 of 1 of another: 3/8, not 3/5."""
    metric = group_mean([True, True, True, False, False], ["a"] * 4 + ["b"], 0.5)
    assert (metric.value, metric.chance, metric.n) == (0.375, 0.5, 5)
    with pytest.raises(ValueError, match="at least one"):
        group_mean([], [], 0.5)


def test_classes_in_templates_are_ensembles():
    """Perception Encoder: embeddings in all templates, normalised, their mean, normalised."""
    labels = (("run",), ("jump",))
    templates = ("a video of {}.", "a photo of a person doing {}.")
    annotations = [Annotation(str(i), "classification", gold=0) for i in range(50)]
    scored = Scored(benchmark(ChooseConfig(), templates=templates), annotations, labels)
    assert set(scored.texts) == {t.format(name) for t in templates for (name,) in labels}
    means = [np.mean([scored.texts[t.format(name)] for t in templates], 0) for (name,) in labels]
    matrix = np.stack([mean / np.linalg.norm(mean) for mean in means])
    hits = [np.argmax(matrix @ scored.video(e)) == 0 for e in scored.examples]
    assert 0 < scored["_top1"] == np.mean(hits) < 1
    options = [option.item for option in scored.scores.outcomes[0].options]
    assert set(options) == {"run", "jump"}  # shown bare
    with pytest.raises(ConfigError, match="the template 'a video' must have one {}"):
        benchmark(ChooseConfig(), templates=("a video",))


# ---------------------------------------------------------------------------------------------
# Retrieval
# ---------------------------------------------------------------------------------------------
def recall_at_k(scores, positives, k):
    """Perception Encoder: a query is found if any of its positives is among its k highest."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(positives, top, 1).any(1).mean())


def median(scores, positives):
    order = np.argsort(-scores, axis=1, kind="stable")
    return float(np.median(1 + np.argmax(np.take_along_axis(positives, order, 1), 1)))


def test_retrieval_with_equal_captions_in_both_directions():
    rng = np.random.default_rng(5)
    words = [f"caption {i}" for i in range(25)]
    # Clips of one to four captions, as MSVD's; 25 texts for about 75 captions.
    annotations = [
        Annotation(str(i), "caption", texts=tuple(map(str, rng.choice(words, rng.integers(1, 5)))))
        for i in range(30)
    ]
    config = RetrieveConfig(k=(1, 5, 10), video_to_text=True, median_rank=True)
    scored = Scored(benchmark(config), annotations)
    captions = [(t, i) for i, a in enumerate(annotations) for t in a.texts]
    owners = {t: {i for own, i in captions if own == t} for t, _ in captions}
    positives = np.array([[i in owners[t] for i in range(30)] for t, _ in captions])
    videos = np.stack([scored.videos[ClipRef("d", "test", i, (0,)), ""] for i in range(30)])
    scores = np.stack([scored.texts[t] for t, _ in captions]) @ videos.T
    assert positives.sum() > len(captions)  # some are shared
    for k in (1, 5, 10):
        assert scored[f"_r{k}"] == pytest.approx(recall_at_k(scores, positives, k))
        assert scored[f"_v2t_r{k}"] == pytest.approx(recall_at_k(scores.T, positives.T, k))
    assert scored["_median_rank"] == median(scores, positives)
    assert scored["_v2t_median_rank"] == median(scores.T, positives.T)
    assert scored.scores.metrics["_v2t_r1"].n == 30
    assert scored.scores.metrics["_r1"].n == len(captions)
    assert 0 < scored["_v2t_r1"] < scored["_v2t_r10"] < 1


def test_a_clip_that_cannot_be_read_is_last_in_both_directions():
    annotations = [Annotation(str(i), "caption", texts=(f"caption {i}",)) for i in range(3)]
    config = RetrieveConfig(k=(1, 3), video_to_text=True, median_rank=True)
    scored = Scored(benchmark(config), annotations, lost={1})
    assert scored["_r3"] == pytest.approx(2 / 3)
    assert scored["_v2t_r3"] == pytest.approx(2 / 3)
    assert scored.scores.metrics["_v2t_r3"].n == 3
    assert median_rank([None, None, 0], 7).value == 7


def test_rows_of_one_clip_are_one_item():
    """YouCook2 has two rows of one clip: either text finds it, and it is there once."""
    config = benchmark(RetrieveConfig(k=(1,), video_to_text=True))
    rows = [(0, "stir"), (0, "mix"), (1, "cut")]
    made = [
        make_example(config, record, Annotation(text, "caption", texts=(text,)), ())
        for record, text in rows
    ]
    east, north = np.array([1.0, 0]), np.array([0, 1.0])
    videos = {(made[0].clip, ""): east, (made[2].clip, ""): north}
    texts = {"stir": east, "mix": east, "cut": east}
    protocol = make_protocol(config)
    assert protocol.needs(made).videos == videos.keys()
    found = protocol.score(made, Embeddings(videos, texts)).metrics
    assert found["_r1"].value == pytest.approx(2 / 3)  # "cut" finds the other clip
    # Both of its texts count for the first clip, but "cut" is as near; a tie does not help.
    assert (found["_v2t_r1"].value, found["_v2t_r1"].n) == (0, 2)


def test_the_median_rank_by_hand():
    metric = median_rank([0, 2, 9, 4], 21)
    assert (metric.value, metric.chance, metric.n) == (4.0, 11.0, 4)  # of places 1, 3, 5, 10
    assert (metric.unit, metric.better) == ("rank", "lower")
    with pytest.raises(ValueError, match="at least one"):
        median_rank([], 3)


# ---------------------------------------------------------------------------------------------
# Triplets, captions
# ---------------------------------------------------------------------------------------------
def test_triplets_are_averaged_over_subsets_and_over_triplets():
    """SugarCrepe++ and VISLA: the strict rule, of one subset; the paper's table has the mean."""
    sizes = {"swap": 7, "replace": 60, "generic": 20}
    rows = [(subset, i) for subset, count in sizes.items() for i in range(count)]
    annotations = [
        Annotation(
            f"{subset}/{i}",
            "triplet",
            texts=tuple(f"{subset} {i} {role}" for role in "abn"),
            inputs=(),
            tags={"subset": subset},
        )
        for subset, i in rows
    ]
    scored = Scored(benchmark(TripletsConfig(macro="subset")), annotations)
    right = {subset: [] for subset in sizes}
    for subset, i in rows:
        a, b, n = (scored.texts[f"{subset} {i} {role}"] for role in "abn")
        right[subset].append(float(a @ b) > float(a @ n) and float(a @ b) > float(b @ n))
    micro = sum(map(sum, right.values())) / len(rows)
    macro = sum(sum(own) / len(own) for own in right.values()) / 3
    assert scored[""] == pytest.approx(micro)
    assert scored["_macro"] == pytest.approx(macro)
    assert abs(micro - macro) > 1e-3
    with pytest.raises(EvaluationError, match="has no tag 'topic'"):
        Scored(benchmark(TripletsConfig(macro="topic")), annotations)


# What pycocoevalcap 1.2 gave for each: Stanford's tokenizer in Java, then its punctuation dropped.
TREEBANK = {
    "A RED-car, it’s big_one!": "a red-car it 's big_one",
    "The man isn't running and can't stop.": "the man is n't running and ca n't stop",
    "“Hello”, he said; 'fine' -- (very) [odd] {signs}...": (
        "hello he said fine -lrb- very -rrb- -lsb- odd -rsb- -lcb- signs -rcb-"
    ),
    "Mr. Smith's flag of the U.S. costs $3.99 & 50% off": (
        "mr. smith 's flag of the u.s. costs $ 3.99 & 50 % off"
    ),
    "I'm gonna say they'd've cannot: we'll, you're": (
        "i 'm gon na say they 'd 've can not we 'll you 're"
    ),
    "1,000 people at 10:30 a.m., an 8-wheeler and the 2nd t-shirt": (
        "1,000 people at 10:30 a.m. an 8-wheeler and the 2nd t-shirt"
    ),
    "the dogs' tails and a/b c_d e@f.com #tag #10": "the dogs tails and a/b c_d e@f.com #tag # 10",
    "What?! No!! rock 'n' roll in the '90s": "what ?! no !! rock 'n' roll in the '90s",
    "café naïve — 猫": "café naïve 猫",
    "": "",
}


@pytest.mark.parametrize("text", TREEBANK)
def test_tokens_of_the_treebank(text):
    assert " ".join(tokenise_ptb(text)) == TREEBANK[text]


@pytest.mark.parametrize("tokens", ["words", "ptb"])
def test_cider_is_of_the_tokens_that_are_asked_for(tokens):
    references = ("a man isn't singing", "two dogs don't run", "it's a cat")
    written = ("a man is n't singing", "two dogs do n't run", "it 's a cat")
    annotations = [Annotation(str(i), "caption", texts=(t,)) for i, t in enumerate(references)]
    config = benchmark(CaptionConfig(bank_split="", tokens=tokens))
    made = [make_example(config, i, a, ()) for i, a in enumerate(annotations)]
    protocol = make_protocol(config)
    assert protocol.bank_split is None
    assert protocol.needs(made).texts == frozenset()  # no bank
    asked = [(example.clip, "") for example in made]
    videos = dict.fromkeys(asked, np.array([1.0]))
    said = dict(zip(asked, written, strict=True))
    scores = protocol.score(made, Embeddings(videos, {}, said))
    split = {"words": tokenise, "ptb": tokenise_ptb}[tokens]
    expected = CiderD([[split(t)] for t in references])([split(t) for t in written])
    assert scores.metrics.keys() == {"_cider"}
    assert scores.metrics["_cider"].value == pytest.approx(expected.mean())
    # The references' contractions are cut as these are: all n-grams match.
    assert (round(scores.metrics["_cider"].value) > 900) == (tokens == "ptb")
    mute = protocol.score(made, Embeddings(videos, {}))
    assert mute.metrics == {}
    assert mute.notes == ("'b' is not scored: this model writes no texts",)
    assert not math.isnan(scores.metrics["_cider"].chance)

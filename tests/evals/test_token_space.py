"""Benchmarks of a VLM: who is chosen, by the sum and by the mean, and what is written."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.tiny import tiny_train_config, tiny_world_config
from vljepa_jax.config import BenchmarkConfig, CaptionConfig, ChooseConfig, RetrieveConfig
from vljepa_jax.data.records import ClipError
from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.token_space import evaluate_vlm
from vljepa_jax.inference.vlm import Likelihoods

MOTION = BenchmarkConfig(
    name="world/motion",
    suffix="_seen",
    protocol=ChooseConfig(name="choose", k=(1, 5)),
    path="@world",
    split="test",
    filter={"task": "classification", "kind": "motion"},
    query=None,
    limit=0,
)
CAPTIONS = dataclasses.replace(
    MOTION,
    name="world/caption",
    suffix="",
    protocol=CaptionConfig(name="caption", bank_split="train"),
    filter={"task": "caption", "kind": "caption", "phrasing": "seen"},
)


class Writer:
    """Finds a text the likelier the fewer letters it has, and a token of it the more words it has:
    by the sum short labels win, by the mean those of many words."""

    video = dataclasses.replace(tiny_train_config().video_input, sampling="uniform", crop="centre")
    batch_size = 4

    def encode_clips(self, clips):
        assert 0 < len(clips) <= self.batch_size
        return clips.mean(axis=(1, 2, 3, 4))  # what a clip is known by

    def likelihoods(self, visual, rows, queries, candidates):
        assert len(rows) == len(queries) == len(candidates)
        assert max(rows) < len(visual)
        total = np.array([[-float(len(text)) for text in texts] for texts in candidates])
        tokens = np.array([[len(text.split()) ** 3 for text in texts] for texts in candidates])
        return Likelihoods(total, tokens)

    def generate(self, visual, rows, queries):
        return [f"A clip of {visual[row]:.3f}." for row in rows]


@pytest.fixture(scope="module")
def datasets():
    return Datasets(tiny_world_config(), 0)


def labels(datasets):
    """The questions about motions, each with its candidates."""
    return [
        (annotation, datasets["@world"].candidates(annotation))
        for _, annotation in datasets.annotations("@world", "test")
        if annotation.task == "classification" and annotation.tags["kind"] == "motion"
    ]


def test_choices_go_by_the_sum_and_by_the_mean(datasets):
    by_sum, by_mean = evaluate_vlm(Writer(), (MOTION,), datasets)
    assert list(by_sum.metrics) == ["world/motion_top1_seen", "world/motion_top5_seen"]
    assert list(by_mean.metrics) == [
        "world/motion_top1_per_token_seen",
        "world/motion_top5_per_token_seen",
    ]
    for result, score in (
        (by_sum, lambda text: -len(text)),
        (by_mean, lambda text: -len(text) / len(text.split()) ** 3),
    ):
        top = {1: [], 5: []}
        for annotation, candidates in labels(datasets):
            scores = [score(texts[0]) for texts in candidates]
            gold = scores[annotation.gold]
            others = scores[: annotation.gold] + scores[annotation.gold + 1 :]
            for k, hits in top.items():
                hits.append(sum(other >= gold for other in others) < k)  # ties do not help
        for k, metric in zip(top, result.metrics.values(), strict=True):
            assert metric.value == pytest.approx(np.mean(top[k]))
            assert metric.n == len(top[k])
    assert by_sum.metrics["world/motion_top5_seen"].value > 0
    values = [[m.value for m in result.metrics.values()] for result in (by_sum, by_mean)]
    assert values[0] != values[1]


def test_captions_are_scored_as_written(datasets):
    (result,) = evaluate_vlm(Writer(), (CAPTIONS,), datasets)
    references = [
        [tokenise(text) for text in annotation.texts]
        for _, annotation in datasets.annotations("@world", "test")
        if annotation.task == "caption"
        and annotation.tags["phrasing"] == "seen"
        and annotation.tags["kind"] == "caption"
    ]
    written = [outcome.options[0].item for outcome in result.outcomes]
    assert len(set(written)) == len(written) == len(references)
    expected = CiderD(references)([tokenise(text) for text in written]).mean()
    assert result.metrics["world/caption_cider"].value == pytest.approx(expected)


def test_an_unreadable_clip_is_wrong_and_told(datasets, monkeypatch):
    real, lost = datasets.decode, []

    def decode(clips, video):
        for number, (clip, frames) in enumerate(real(clips, video)):
            if number == 2:
                lost.append(clip)
                frames = ClipError("cut off")
            yield clip, frames

    monkeypatch.setattr(datasets, "decode", decode)
    whole, _ = evaluate_vlm(Writer(), (MOTION,), datasets)
    (clip,) = set(lost)
    assert whole.unreadable == {clip: "cut off"}
    of_clip = [outcome for outcome in whole.outcomes if outcome.clip == clip]
    assert of_clip
    assert all(o.rank is None and o.unreadable == (clip,) for o in of_clip)


def test_the_likeliest_way_to_say_a_candidate_counts(datasets, monkeypatch):
    """The longest label is given a short second name: it is chosen then."""
    real = datasets["@world"].candidates
    longest = max((texts[0] for texts in real(labels(datasets)[0][0])), key=len)

    def named(annotation):
        return tuple((*ts, "x") if ts[0] == longest else ts for ts in real(annotation))

    monkeypatch.setattr(type(datasets["@world"]), "candidates", lambda _, a: named(a))
    by_sum, _ = evaluate_vlm(Writer(), (MOTION,), datasets)
    assert {outcome.options[0].item for outcome in by_sum.outcomes} == {longest}


def test_retrieval_is_refused_by_name(datasets):
    retrieval = dataclasses.replace(
        CAPTIONS, name="world/t2v", protocol=RetrieveConfig(name="retrieve", k=(1,))
    )
    with pytest.raises(EvaluationError, match=r"world/t2v.*\(retrieve\).*VLM"):
        evaluate_vlm(Writer(), (retrieval,), datasets)

"""Benchmarks of a VLM, which predicts tokens: the protocols of embeddings, from likelihoods.

A choice among texts goes to the likeliest, by the sum over its tokens ("_top1") and by their mean
("_top1_per_token", perplexity, as the paper scores its VLM); captions are generated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.progress import Progress

from vljepa_jax.config import BenchmarkConfig
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.workers import in_batches
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name, video_of
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import Result, read_examples
from vljepa_jax.evals.examples import ClipRef, EvaluationError, Example
from vljepa_jax.evals.protocols.base import Protocol, Scores
from vljepa_jax.evals.protocols.caption import WRITTEN, Caption
from vljepa_jax.evals.protocols.choose import Choose, worded
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.vlm import VisionLanguageModel

PER_TOKEN = "_per_token"


def evaluate_vlm(
    model: VisionLanguageModel, benchmarks: Sequence[BenchmarkConfig], datasets: Datasets
) -> list[Result]:
    """Scores benchmarks of choices and of captions, with a progress bar.

    Returns:
        A result each, and of choices a second, by the mean over tokens.

    Raises:
        NoExamplesError: a benchmark's dataset has nothing for it.
        EvaluationError: a benchmark has another protocol, or an example does not fit its own.
    """
    results = []
    for benchmark in benchmarks:
        protocol = make_protocol(benchmark)
        if not isinstance(protocol, (Choose, Caption)):
            raise EvaluationError(
                f"benchmark '{benchmark_name(benchmark)}' ({protocol.parameters.name}) compares "
                "embeddings, which a VLM has none of; it is asked to choose and to caption"
            )
        there = read_examples(protocol, datasets)
        examples = there[: benchmark.limit] if benchmark.limit else there
        protocol.needs(examples)  # raises for an example that lacks something
        score = _choices if isinstance(protocol, Choose) else _captions
        scored, unreadable = score(model, protocol, examples, datasets)
        for rule, scores in scored.items():
            named = {metric_name(benchmark, end + rule): m for end, m in scores.metrics.items()}
            counts = len(examples), len(there)
            made = Result(benchmark, named, scores.outcomes, unreadable, scores.notes, *counts)
            results.append(made)
    return results


def _choices(
    model: VisionLanguageModel,
    protocol: Choose,
    examples: Sequence[Example],
    datasets: Datasets,
) -> tuple[dict[str, Scores], dict[ClipRef, str]]:
    templates = protocol.benchmark.templates

    def likelihoods(visual: Any, rows: np.ndarray, asked: list[Example]) -> list[tuple]:
        ways = [[worded(texts, templates) for texts in e.candidates] for e in asked]
        texts = [[text for of_candidate in own for text in of_candidate] for own in ways]
        found = model.likelihoods(visual, rows, [e.query for e in asked], texts)
        both = zip(ways, found.log_probability, found.per_token, strict=True)
        return [(_likeliest(own, total), _likeliest(own, mean)) for own, total, mean in both]

    found, unreadable = _of_clips(model, protocol, examples, datasets, likelihoods)
    lost = [(e.clip,) if scores is None else () for e, scores in zip(examples, found, strict=True)]
    scores = {
        rule: protocol.score_rows(examples, [pair and pair[place] for pair in found], lost)
        for place, rule in enumerate(("", PER_TOKEN))
    }
    return scores, unreadable


def _likeliest(ways: Sequence[Sequence[str]], scores: np.ndarray) -> np.ndarray:
    """[candidates] from [texts]: one that can be said in several ways is as likely as the best."""
    counts = [len(of_candidate) for of_candidate in ways]
    starts = np.cumsum([0, *counts[:-1]])
    return np.maximum.reduceat(scores[: sum(counts)], starts)


def _captions(
    model: VisionLanguageModel,
    protocol: Caption,
    examples: Sequence[Example],
    datasets: Datasets,
) -> tuple[dict[str, Scores], dict[ClipRef, str]]:
    def write(visual: Any, rows: np.ndarray, asked: list[Example]) -> list[str]:
        return model.generate(visual, rows, [example.query for example in asked])

    found, unreadable = _of_clips(model, protocol, examples, datasets, write)
    written = {WRITTEN: [text or "" for text in found]}  # an unreadable clip's scores 0
    unread = [text is None for text in found]
    return {"": protocol.score_texts(examples, written, unread)}, unreadable


def _of_clips(
    model: VisionLanguageModel,
    protocol: Protocol,
    examples: Sequence[Example],
    datasets: Datasets,
    answer: Callable[[Any, np.ndarray, list[Example]], list[Any]],
) -> tuple[list[Any], dict[ClipRef, str]]:
    """An answer for each example, ``None`` where its clip cannot be read; and why, by clip.

    Args:
        answer: (visual tokens, the row of each example's clip, examples) -> an answer each.
    """
    about: dict[ClipRef, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        about[example.clip].append(index)

    def of_batch(clips: Sequence[ClipRef], frames: np.ndarray) -> list[list[Any]]:
        rows = np.array([row for row, clip in enumerate(clips) for _ in about[clip]])
        asked = [examples[index] for clip in clips for index in about[clip]]
        answers = iter(answer(model.encode_clips(frames), rows, asked))
        return [[next(answers) for _ in about[clip]] for clip in clips]

    answers: list[Any] = [None] * len(examples)
    unreadable: dict[ClipRef, str] = {}
    with Progress(transient=True) as progress:
        decoded = datasets.decode(about, video_of(protocol.benchmark, model.video))
        found = in_batches(of_batch, decoded, model.batch_size)
        name = benchmark_name(protocol.benchmark)
        for clip, of_clip in progress.track(found, len(about), description=name):
            if isinstance(of_clip, ClipError):
                unreadable[clip] = str(of_clip)
                continue
            for index, one in zip(about[clip], of_clip, strict=True):
                answers[index] = one
    return answers, unreadable

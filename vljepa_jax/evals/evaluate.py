"""Runs benchmarks: reads examples, embeds what they need once, scores.

Benchmarks on the same split share their work. Every distinct clip is decoded and passed through
the X-Encoder once, whatever number of questions is asked about it, and every distinct text is
embedded once; what is kept is one vector a (clip, query) pair, in memory as long as the split is
at work, and in a cache on disk where there is one.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import jax

from vljepa_jax.config import BenchmarkConfig, ConfigError, VideoInput, nearest
from vljepa_jax.data.datasets import AbsentDatasetError
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name, video_of
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embed import embed
from vljepa_jax.evals.embedding_cache import EmbeddingCache
from vljepa_jax.evals.examples import (
    ClipRef,
    EvaluationError,
    Example,
    NoExamplesError,
    fits,
    make_example,
)
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.packed import Examples
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Outcome, Protocol
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.parallel.processes import require_same


@dataclasses.dataclass(frozen=True)
class Result:
    """One benchmark, scored.

    Attributes:
        benchmark: what was run.
        metrics: full name, e.g. "world/motion_top1_compositional" -> metric.
        outcomes: one an example, in the dataset's order.
        unreadable: reason by clip, for clips of this benchmark that could not be read; their
            examples are counted as wrong.
        notes: what people should know of how it was measured.
        examples: that were scored.
        there: examples of the dataset, of which a limit may have left some out.
    """

    benchmark: BenchmarkConfig
    metrics: dict[str, Metric]
    outcomes: Sequence[Outcome]
    unreadable: dict[ClipRef, str]
    notes: tuple[str, ...]
    examples: int
    there: int


def divide(
    benchmarks: Sequence[BenchmarkConfig], datasets: Datasets, *, alone: bool = True
) -> tuple[tuple[BenchmarkConfig, ...], dict[str, str]]:
    """Divides benchmarks into those that their datasets have examples for, and the others.

    An example that lacks what the protocol asks for, say candidates, is none; a dataset
    "@data/NAME" that was not prepared has none.

    Args:
        alone: whether nothing else is measured, so that one benchmark at least must have examples.

    Returns:
        The former, and why each of the latter is skipped, by name.

    Raises:
        ConfigError: there are examples for none; all reasons are told.
        DatasetError: a dataset or the split of a benchmark is not there.
    """
    served, skipped = [], {}
    for benchmark in benchmarks:
        try:
            protocol = make_protocol(benchmark)
            _check_any(protocol, read_examples(protocol, datasets))
        except (NoExamplesError, AbsentDatasetError) as error:
            skipped[benchmark_name(benchmark)] = str(error)
        else:
            served.append(benchmark)
    if alone and skipped and not served:
        raise ConfigError("\n  ".join(["there is nothing to evaluate on:", *skipped.values()]))
    return tuple(served), skipped


def evaluate(
    model: Embedder, benchmarks: Sequence[BenchmarkConfig], datasets: Datasets
) -> list[Result]:
    """Scores benchmarks, with a progress bar; see ``evaluate_each``, which it raises as."""
    results = dict(evaluate_each(model, benchmarks, datasets))
    return [results[index] for index in range(len(benchmarks))]


def evaluate_each(
    model: Embedder,
    benchmarks: Sequence[BenchmarkConfig],
    datasets: Datasets,
    cache: EmbeddingCache | None = None,
) -> Iterator[tuple[int, Result]]:
    """Scores benchmarks, those together that read one split in one way, as they may share clips.

    Several processes embed and write a share of clips and texts each; all of them get all results.

    Args:
        cache: of this model: what it has is not embedded again, and what is embedded it keeps.

    Yields:
        The index of a benchmark and its result, as soon as it is scored.

    Raises:
        NoExamplesError: a benchmark's dataset has nothing for it.
        DatasetError: a dataset or the split of a benchmark is not there.
        EvaluationError: an example does not fit its benchmark's protocol, or the frames.
        ConfigError: the model does not take a benchmark's number of frames.
    """
    groups: dict[tuple[str, str, VideoInput], dict[int, _Asked]] = defaultdict(dict)
    for index, benchmark in enumerate(benchmarks):
        video = video_of(benchmark, model.video)
        model.require_frames(video.frames)
        asked = _Asked.of(benchmark, datasets, video)
        groups[benchmark.path, benchmark.split, video][index] = asked
    for (_, _, video), group in groups.items():
        needs = Needs.together([asked.needs for asked in group.values()])
        embeddings, unreadable = embed(model, needs, datasets, cache, video)
        for index, asked in group.items():
            yield index, asked.score(embeddings, unreadable)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What a benchmark asks of a model."""

    protocol: Protocol
    examples: Examples
    there: int  # examples, before the limit
    needs: Needs

    @classmethod
    def of(cls, benchmark: BenchmarkConfig, datasets: Datasets, video: VideoInput) -> _Asked:
        protocol = make_protocol(benchmark)
        examples = read_examples(protocol, datasets)
        chosen = examples[: benchmark.limit] if benchmark.limit else examples
        return cls(protocol, chosen, len(examples), _needs(protocol, chosen, video))

    def score(self, embeddings: Embeddings, unreadable: Mapping[ClipRef, str]) -> Result:
        scores = self.protocol.score(self.examples, embeddings)
        benchmark = self.protocol.benchmark
        return Result(
            benchmark,
            {metric_name(benchmark, end): metric for end, metric in scores.metrics.items()},
            scores.outcomes,
            {clip: unreadable[clip] for clip, _ in self.needs.videos if clip in unreadable},
            scores.notes,
            len(self.examples),
            self.there,
        )


def require_scorable(
    benchmarks: Sequence[BenchmarkConfig], datasets: Datasets, video: VideoInput
) -> None:
    """Raises what ``evaluate`` would of a model that sees ``video``, without embedding anything."""
    for benchmark in benchmarks:
        _Asked.of(benchmark, datasets, video_of(benchmark, video))


def _needs(protocol: Protocol, examples: Sequence[Example], video: VideoInput) -> Needs:
    needs = protocol.needs(examples)
    for media in sorted({len(clip.media) for clip, _ in needs.videos}):
        if video.frames % media:
            raise EvaluationError(
                f"benchmark '{benchmark_name(protocol.benchmark)}': the {media} media of an "
                f"example cannot share the model's {video.frames} frames; take another number of "
                "frames, or leave the benchmark out"
            )
    return needs


def read_examples(protocol: Protocol, datasets: Datasets) -> Examples:
    """The examples of a protocol's benchmark, in the dataset's order; its limit is not applied.

    Raises:
        NoExamplesError: the dataset has nothing for it.
        DatasetError: there is no such dataset or split.
    """
    benchmark, bank = protocol.benchmark, _read_bank(protocol, datasets)
    dataset = datasets[benchmark.path]
    chosen = Examples.pack(
        make_example(benchmark, record, annotation, bank or dataset.candidates(annotation))
        for record, annotation in datasets.annotations(benchmark.path, benchmark.split)
        if fits(benchmark, annotation)
    )
    if not chosen:
        raise NoExamplesError(
            f"benchmark '{benchmark_name(benchmark)}': no annotation of {benchmark.path}, split "
            f"'{benchmark.split}', has {benchmark.filter}"
        )
    kept = protocol.keep(chosen)
    return kept if isinstance(kept, Examples) else Examples.pack(kept)


def _check_any(protocol: Protocol, examples: Sequence[Example]) -> None:
    """Raises NoExamplesError, saying what one of them lacks, where no example can be scored."""
    for example in examples:
        try:
            protocol.needs([example])
            return
        except EvaluationError as error:
            fault = str(error)
    raise NoExamplesError(fault)


def _read_bank(protocol: Protocol, datasets: Datasets) -> tuple[tuple[str, ...], ...]:
    """The first text of every annotation of the protocol's bank; nothing where it has none."""
    benchmark, split = protocol.benchmark, protocol.bank_split
    if split is None:
        return ()
    where = f"benchmark '{benchmark_name(benchmark)}': bank_split '{split}'"
    splits = datasets[benchmark.path].splits
    if split not in splits:
        raise NoExamplesError(f"{where} is no split of {benchmark.path}{nearest(split, splits)}")
    bank = tuple(
        annotation.texts[:1]
        for _, annotation in datasets.annotations(benchmark.path, split)
        if annotation.texts and fits(benchmark, annotation)
    )
    if not bank:
        raise NoExamplesError(f"{where} of {benchmark.path} has no text with {benchmark.filter}")
    return bank


def require_same_model(model: Embedder) -> None:
    """Raises ConfigError where the processes of a job have loaded different models."""
    if jax.process_count() > 1:  # the fingerprint reads all parameters
        name, step = model.card["name"], model.card.get("step")
        require_same(f"the model '{name}'", f"step {step}, {model.fingerprint}")

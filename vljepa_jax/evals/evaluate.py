"""Runs benchmarks: reads examples, embeds what they need once, scores.

All benchmarks of a run share their work. Every distinct clip is decoded and passed through the
X-Encoder once, whatever number of questions is asked about it, and every distinct text is
embedded once; what is kept is one vector a (clip, query) pair.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.progress import Progress

from vljepa_jax.config import BenchmarkConfig, ConfigError, VideoConfig, WorldConfig, nearest
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.records import Annotation, ClipError
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.workers import decode_media
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name
from vljepa_jax.evals.examples import (
    Clip,
    EvaluationError,
    Example,
    NoExamplesError,
    choose_examples,
    fits,
    make_example,
)
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.protocols import PROTOCOLS, Embeddings, Needs, Outcome
from vljepa_jax.inference.model import Model
from vljepa_jax.parallel.processes import divided, first_process, gather, share


@dataclasses.dataclass(frozen=True)
class Result:
    """One benchmark, scored.

    Attributes:
        benchmark: what was run.
        metrics: full name, e.g. "world/motion_top1_compositional" -> metric.
        outcomes: one an example, in the dataset's order.
        unreadable: reason by clip, for clips of this benchmark that could not be read; their
            examples are counted as wrong.
    """

    benchmark: BenchmarkConfig
    metrics: dict[str, Metric]
    outcomes: tuple[Outcome, ...]
    unreadable: dict[Clip, str]


class Datasets:
    """The datasets of an evaluation, opened once, and their clips, decoded.

    Args:
        world: what "@world" stands for; ``None`` where it is not asked for.
        num_workers: decoding processes.
    """

    def __init__(self, world: WorldConfig | None, num_workers: int) -> None:
        self._world = world
        self._num_workers = num_workers
        self._open: dict[str, Dataset] = {}
        self._annotations: dict[tuple[str, str], list[tuple[int, Annotation]]] = {}

    def __getitem__(self, path: str) -> Dataset:
        if path not in self._open:
            self._open[path] = find_dataset(path, self._world)
        return self._open[path]

    def annotations(self, path: str, split: str) -> list[tuple[int, Annotation]]:
        """All annotations of a split with their record's index; no medium is read.

        Raises:
            DatasetError: there is no such dataset or split.
        """
        if (path, split) not in self._annotations:
            self._annotations[path, split] = list(self[path].annotations(split))
        return self._annotations[path, split]

    def decode(
        self, clips: Iterable[Clip], video: VideoConfig
    ) -> Iterator[tuple[Clip, np.ndarray | ClipError]]:
        """Decodes clips of any datasets, each with its error if it cannot be read.

        They come in the order of the files, which is faster than any other.
        """
        groups: dict[tuple[str, str], list[Clip]] = defaultdict(list)
        for clip in sorted(set(clips), key=file_order):
            groups[clip.path, clip.split].append(clip)
        for (path, split), group in groups.items():
            decoded = decode_media(
                self[path].media(split),
                [(clip.record, clip.media) for clip in group],
                video,
                self._num_workers,
            )
            yield from zip(group, decoded, strict=True)


def divide(
    benchmarks: Sequence[BenchmarkConfig], datasets: Datasets
) -> tuple[tuple[BenchmarkConfig, ...], dict[str, str]]:
    """Divides benchmarks into those that their datasets have examples for, and the others.

    An example that lacks what the protocol asks for, say candidates, is none.

    Returns:
        The former, and why each of the latter is skipped, by name.

    Raises:
        ConfigError: there are examples for none; all reasons are told.
        DatasetError: a dataset or the split of a benchmark is not there.
    """
    served, skipped = [], {}
    for benchmark in benchmarks:
        try:
            _check_any(benchmark, _read_examples(benchmark, datasets))
        except NoExamplesError as error:
            skipped[benchmark_name(benchmark)] = str(error)
        else:
            served.append(benchmark)
    if skipped and not served:
        raise ConfigError("\n  ".join(["there is nothing to evaluate on:", *skipped.values()]))
    return tuple(served), skipped


def evaluate(
    model: Model, benchmarks: Sequence[BenchmarkConfig], datasets: Datasets
) -> list[Result]:
    """Scores benchmarks, with a progress bar.

    Several processes embed and write a share of clips and texts each; all of them get all results.

    Raises:
        NoExamplesError: a benchmark's dataset has nothing for it.
        DatasetError: a dataset or the split of a benchmark is not there.
        EvaluationError: an example does not fit its benchmark's protocol.
    """
    examples = [_read_examples(benchmark, datasets) for benchmark in benchmarks]
    needs = Needs()
    for benchmark, chosen in zip(benchmarks, examples, strict=True):
        needs |= PROTOCOLS[benchmark.protocol].needs(benchmark, chosen)
    embeddings, unreadable = _embed(model, needs, datasets)
    results = []
    for benchmark, chosen in zip(benchmarks, examples, strict=True):
        protocol = PROTOCOLS[benchmark.protocol]
        scores = protocol.score(benchmark, chosen, embeddings)
        used = protocol.needs(benchmark, chosen).videos
        results.append(
            Result(
                benchmark,
                {metric_name(benchmark, end): m for end, m in scores.metrics.items()},
                scores.outcomes,
                {clip: unreadable[clip] for clip, _ in used if clip in unreadable},
            )
        )
    return results


def _read_examples(benchmark: BenchmarkConfig, datasets: Datasets) -> list[Example]:
    bank = _read_bank(benchmark, datasets)
    chosen = [
        make_example(
            benchmark,
            record,
            annotation,
            bank or datasets[benchmark.path].candidates(annotation),
        )
        for record, annotation in datasets.annotations(benchmark.path, benchmark.split)
        if fits(benchmark, annotation)
    ]
    if not chosen:
        raise NoExamplesError(
            f"benchmark '{benchmark_name(benchmark)}': no annotation of {benchmark.path}, split "
            f"'{benchmark.split}', has {benchmark.filter}"
        )
    return choose_examples(benchmark, chosen)


def _check_any(benchmark: BenchmarkConfig, examples: Sequence[Example]) -> None:
    """Raises NoExamplesError, saying what one of them lacks, where no example can be scored."""
    for example in examples:
        try:
            PROTOCOLS[benchmark.protocol].needs(benchmark, [example])
            return
        except EvaluationError as error:
            fault = str(error)
    raise NoExamplesError(fault)


def _read_bank(benchmark: BenchmarkConfig, datasets: Datasets) -> tuple[tuple[str, ...], ...]:
    """The first caption of every example of "caption"'s bank; nothing for other protocols."""
    if benchmark.protocol != "caption":
        return ()
    where = f"benchmark '{benchmark_name(benchmark)}': bank_split '{benchmark.bank_split}'"
    splits = datasets[benchmark.path].splits
    if benchmark.bank_split not in splits:
        raise NoExamplesError(
            f"{where} is no split of {benchmark.path}{nearest(benchmark.bank_split, splits)}"
        )
    bank = tuple(
        annotation.texts[:1]
        for _, annotation in datasets.annotations(benchmark.path, benchmark.bank_split)
        if annotation.texts and fits(benchmark, annotation)
    )
    if not bank:
        raise NoExamplesError(f"{where} of {benchmark.path} has no text with {benchmark.filter}")
    return bank


def _embed(model: Model, needs: Needs, datasets: Datasets) -> tuple[Embeddings, dict[Clip, str]]:
    texts = sorted(needs.texts)
    embedded = dict(zip(texts, divided(model.embed_text, texts), strict=True))
    queries: dict[Clip, list[str]] = defaultdict(list)
    for clip, query in sorted(needs.videos, key=lambda video: video[1]):  # the same every time
        queries[clip].append(query)
    videos: dict[tuple[Clip, str], np.ndarray | None] = {}
    unreadable: dict[Clip, str] = {}
    batch: list[tuple[Clip, np.ndarray]] = []

    def flush() -> None:
        visual_tokens = model.encode_clips(np.stack([frames for _, frames in batch]))
        pairs = [(row, clip, q) for row, (clip, _) in enumerate(batch) for q in queries[clip]]
        rows = np.array([row for row, _, _ in pairs])
        predicted = model.predict_tokens(visual_tokens, rows, [query for _, _, query in pairs])
        videos.update(
            ((clip, query), vector)
            for (_, clip, query), vector in zip(pairs, predicted, strict=True)
        )
        batch.clear()

    own = share(sorted(queries, key=file_order))
    with Progress(transient=True, disable=not first_process()) as progress:
        for clip, frames in progress.track(
            datasets.decode(own, model.video), total=len(own), description="Embedding clips"
        ):
            if isinstance(frames, ClipError):
                unreadable[clip] = str(frames)
                videos.update(((clip, query), None) for query in queries[clip])
                continue
            batch.append((clip, frames))
            if len(batch) == model.batch_size:
                flush()
        if batch:
            flush()
    for others, why in gather((videos, unreadable)):
        videos |= others
        unreadable |= why
    written = None
    if model.text_decoder is not None:
        vectors = {v: e for v, e in videos.items() if v in needs.written and e is not None}
        texts = divided(
            lambda rows: model.decode(np.stack(rows)) if rows else [], list(vectors.values())
        )
        written = dict(zip(vectors, texts, strict=True))
    return Embeddings(videos, embedded, written), unreadable


def file_order(clip: Clip) -> tuple:
    """Sorts clips as they lie in the files."""
    return clip.path, clip.split, clip.record, clip.media

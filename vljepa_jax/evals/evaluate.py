"""Runs benchmarks: reads examples, embeds what they need once, scores.

All benchmarks of a run share their work. Every distinct clip is decoded and passed through the
X-Encoder once, whatever number of questions is asked about it, and every distinct text is
embedded once; what is kept is one vector a (clip, query) pair.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from rich.progress import Progress

from vljepa_jax.config import BenchmarkConfig, ConfigError, VideoInput, WorldConfig, nearest
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.records import Annotation, ClipError
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.workers import decode_media, in_batches
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name
from vljepa_jax.evals.examples import (
    ClipRef,
    EvaluationError,
    Example,
    NoExamplesError,
    fits,
    make_example,
)
from vljepa_jax.evals.metrics import Metric
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Outcome, Protocol
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.parallel.processes import divided, first_process, gather, require_same, share


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
    """

    benchmark: BenchmarkConfig
    metrics: dict[str, Metric]
    outcomes: tuple[Outcome, ...]
    unreadable: dict[ClipRef, str]
    notes: tuple[str, ...] = ()


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
        self, clips: Iterable[ClipRef], video: VideoInput
    ) -> Iterator[tuple[ClipRef, np.ndarray | ClipError]]:
        """Decodes clips of any datasets, each with its error if it cannot be read.

        They come in the order of the files, which is faster than any other.
        """
        groups: dict[tuple[str, str], list[ClipRef]] = defaultdict(list)
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
            protocol = make_protocol(benchmark)
            _check_any(protocol, read_examples(protocol, datasets))
        except NoExamplesError as error:
            skipped[benchmark_name(benchmark)] = str(error)
        else:
            served.append(benchmark)
    if skipped and not served:
        raise ConfigError("\n  ".join(["there is nothing to evaluate on:", *skipped.values()]))
    return tuple(served), skipped


def evaluate(
    model: Embedder, benchmarks: Sequence[BenchmarkConfig], datasets: Datasets
) -> list[Result]:
    """Scores benchmarks, with a progress bar.

    Several processes embed and write a share of clips and texts each; all of them get all results.

    Raises:
        NoExamplesError: a benchmark's dataset has nothing for it.
        DatasetError: a dataset or the split of a benchmark is not there.
        EvaluationError: an example does not fit its benchmark's protocol, or the model's frames.
    """
    protocols = [make_protocol(benchmark) for benchmark in benchmarks]
    examples = [read_examples(protocol, datasets) for protocol in protocols]
    needs = [
        _needs(protocol, chosen, model.video)
        for protocol, chosen in zip(protocols, examples, strict=True)
    ]
    embeddings, unreadable = _embed(model, functools.reduce(operator.or_, needs, Needs()), datasets)
    results = []
    for protocol, chosen, needed in zip(protocols, examples, needs, strict=True):
        scores, benchmark = protocol.score(chosen, embeddings), protocol.benchmark
        results.append(
            Result(
                benchmark,
                {metric_name(benchmark, end): m for end, m in scores.metrics.items()},
                scores.outcomes,
                {clip: unreadable[clip] for clip, _ in needed.videos if clip in unreadable},
                scores.notes,
            )
        )
    return results


def require_scorable(
    benchmarks: Sequence[BenchmarkConfig], datasets: Datasets, video: VideoInput
) -> None:
    """Raises what ``evaluate`` would of a model that sees ``video``, without embedding anything."""
    for protocol in map(make_protocol, benchmarks):
        _needs(protocol, read_examples(protocol, datasets), video)


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


def read_examples(protocol: Protocol, datasets: Datasets) -> list[Example]:
    """The examples of a protocol's benchmark, in the dataset's order.

    Raises:
        NoExamplesError: the dataset has nothing for it.
        DatasetError: there is no such dataset or split.
    """
    benchmark, bank = protocol.benchmark, _read_bank(protocol, datasets)
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
    kept = protocol.keep(chosen)
    return kept[: benchmark.limit] if benchmark.limit else kept


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


def _embed(
    model: Embedder, needs: Needs, datasets: Datasets
) -> tuple[Embeddings, dict[ClipRef, str]]:
    texts = sorted(needs.texts)
    embedded = dict(zip(texts, divided(model.embed_text, texts), strict=True))
    queries: dict[ClipRef, list[str]] = defaultdict(list)
    for clip, query in sorted(needs.videos, key=lambda video: video[1]):  # the same every time
        queries[clip].append(query)
    videos: dict[tuple[ClipRef, str], np.ndarray | None] = {}
    unreadable: dict[ClipRef, str] = {}

    def predict(clips: Sequence[ClipRef], frames: np.ndarray) -> list[list[np.ndarray]]:
        """An embedding for each query of each clip."""
        asked = [(row, query) for row, clip in enumerate(clips) for query in queries[clip]]
        rows, texts = np.array([row for row, _ in asked]), [query for _, query in asked]
        predicted = iter(model.predict_tokens(model.encode_clips(frames), rows, texts))
        return [[next(predicted) for _ in queries[clip]] for clip in clips]

    own = share(sorted(queries, key=file_order))
    with Progress(transient=True, disable=not first_process()) as progress:
        found = in_batches(predict, datasets.decode(own, model.video), model.batch_size)
        for clip, vectors in progress.track(found, len(own), description="Embedding clips"):
            if isinstance(vectors, ClipError):
                unreadable[clip] = str(vectors)
                vectors = [None] * len(queries[clip])
            videos.update(((clip, q), v) for q, v in zip(queries[clip], vectors, strict=True))
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


def require_same_model(model: Embedder) -> None:
    """Raises ConfigError where the processes of a job have loaded different models."""
    if jax.process_count() > 1:  # the fingerprint reads all parameters
        name, step = model.card["name"], model.card.get("step")
        require_same(f"the model '{name}'", f"step {step}, {model.fingerprint}")


def file_order(clip: ClipRef) -> tuple:
    """Sorts clips as they lie in the files."""
    return clip.path, clip.split, clip.record, clip.media

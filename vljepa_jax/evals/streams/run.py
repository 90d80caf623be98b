"""The benchmark "stream": embeds long streams, runs the study, draws it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from rich.progress import Progress, TaskID

from vljepa_jax.config import (
    WORLD,
    ConfigError,
    RecordedStreams,
    StreamSet,
    StreamStudyConfig,
    WorldConfig,
)
from vljepa_jax.data.datasets import find_dataset, require_split
from vljepa_jax.data.records import Annotation, ClipError, Medium
from vljepa_jax.data.storage import Dataset
from vljepa_jax.evals.benchmarks import STREAM
from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.examples import NoExamplesError
from vljepa_jax.evals.streams.curves import Study
from vljepa_jax.evals.streams.study import Decode, EmbeddedStream, choose_segments, run_study
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.embed_stream import embed_spans, embed_stream
from vljepa_jax.inference.streams.segmentation import midpoints, segment_embeddings, ward_tree
from vljepa_jax.inference.streams.timeline import Spoken, Timeline
from vljepa_jax.parallel.processes import divided, first_process

_SPLIT = "streams"  # of the world
_SHOWN_SECONDS = 60.0  # of the timeline


@dataclasses.dataclass(frozen=True)
class OpenSet:
    """A set of the config with its streams, found but not read.

    Attributes:
        part: the set.
        dataset, split: where its streams are.
        streams: (media record, annotation) of each; the study sees one for each annotation.
        bank: the texts of a training split, those of a record together.
    """

    part: StreamSet | RecordedStreams
    dataset: Dataset
    split: str
    streams: Sequence[tuple[int, Annotation]]
    bank: Callable[[], Iterator[tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
    """A set's streams as the study sees them.

    Attributes:
        found: the set.
        streams: those that can be read.
        unreadable: why the others cannot, by the ids of their records.
        first: the record of the first of ``streams``.
        videos: that ``streams`` are of; several people may describe one.
    """

    found: OpenSet
    streams: Sequence[EmbeddedStream]
    unreadable: Mapping[str, str]
    first: int
    videos: int


@dataclasses.dataclass(frozen=True)
class StudiedSet:
    """Findings on one set.

    Attributes:
        part: the set.
        study: the sweep.
        decoder: the name of what wrote the texts.
        unreadable: why streams are missing, by the ids of their records.
        videos: that it is of.
    """

    part: StreamSet | RecordedStreams
    study: Study
    decoder: str
    unreadable: Mapping[str, str]
    videos: int


@dataclasses.dataclass(frozen=True)
class StreamResult:
    """Findings of the study.

    Attributes:
        sets: one a set of the config, in its order.
        timeline: the beginning of the first one's first stream, cut offline.
    """

    sets: tuple[StudiedSet, ...]
    timeline: Timeline


def open_sets(config: StreamStudyConfig, world: WorldConfig | None, data: str) -> list[OpenSet]:
    """Finds the streams of every set; reads no video.

    Args:
        data: the folder of the datasets that are called "@data/NAME".

    Raises:
        AbsentDatasetError: a dataset "@data/NAME", or its split, is not there.
        DatasetError: another dataset or split is not there.
        NoExamplesError: a set has no streams.
    """
    return [
        _world_streams(part, world)
        if isinstance(part, StreamSet)
        else _recorded_streams(part, find_dataset(part.path, world, data))
        for part in config.sets
    ]


def embed_streams(
    model: Embedder, config: StreamStudyConfig, sets: Sequence[OpenSet]
) -> list[EmbeddedSet]:
    """Embeds the streams of every set, with a progress bar; several processes a share each.

    Raises:
        ConfigError: no stream of a set can be read and is as long as a window.
    """
    embedded = []
    with Progress(transient=True, disable=not first_process()) as progress:
        for found in sets:

            def embed(
                streams: Sequence[tuple[int, Annotation]], found: OpenSet = found
            ) -> list[EmbeddedStream | ClipError]:
                # Several annotators describe one video, one after another.
                ticks = functools.lru_cache(1)(functools.partial(_ticks, model, config, found))
                tracked = progress.track(streams, description="Embedding streams")
                return [_embedded(record, said, ticks) for record, said in tracked]

            made = divided(embed, found.streams)
            media = found.dataset.media(found.split)
            both = list(zip(found.streams, made, strict=True))
            lost = {media[r].id: str(e) for (r, _), e in both if isinstance(e, ClipError)}
            read = [(r, e) for (r, _), e in both if isinstance(e, EmbeddedStream)]
            if not read:
                raise ConfigError(f"no stream of {found.dataset.name}: {next(iter(lost.values()))}")
            videos = len({record for record, _ in read})
            streams = [stream for _, stream in read]
            embedded.append(EmbeddedSet(found, streams, lost, read[0][0], videos))
    return embedded


def run_stream_benchmark(
    model: Embedder, embedded: Sequence[EmbeddedSet], config: StreamStudyConfig
) -> StreamResult:
    """Sweeps the rates.

    Args:
        embedded: from ``embed_streams``.

    Raises:
        ConfigError: there are no texts to decode with.
    """
    made, timeline = [], None
    with Progress(transient=True) as progress:
        for own in embedded:
            name, decode = _decoder(model, config, own.found)
            records = own.found.dataset.media(own.found.split)
            media = {records[r].id: records[r].media[0] for r, _ in own.found.streams}
            task = progress.add_task("Embedding clips", total=len(own.streams))

            def embed_clips(
                stream: EmbeddedStream,
                spans: np.ndarray,
                media: Mapping[str, Medium] = media,
                task: TaskID = task,
            ) -> np.ndarray:
                found = embed_spans(model, media[stream.name], config.query, spans)
                progress.advance(task)
                return found

            study = run_study(own.streams, config, decode, scorer, embed_clips)
            made.append(StudiedSet(own.found.part, study, name, own.unreadable, own.videos))
            if timeline is None:
                medium = records[own.first].media[0]
                timeline = _timeline(medium, own.streams[0], config, decode)
    return StreamResult(tuple(made), timeline)


def scorer(references: Sequence[Sequence[str]]) -> Callable[[Sequence[str]], np.ndarray]:
    """CIDEr-D of texts against these references, all of them one corpus, × 100."""
    score = CiderD([[tokenise(text) for text in texts] for texts in references])
    return lambda candidates: score([tokenise(text) for text in candidates])


def _world_streams(part: StreamSet, world: WorldConfig) -> OpenSet:
    """Of a world with streams of one kind and density; the given one, where it has them."""
    given = world
    alike = (world.stream_kind, world.stream_density) == (part.kind, part.density)
    if not (alike and world.streams >= part.streams):
        nothing = dict.fromkeys(
            ("train_clips", "train_triplets", "test_clips", "compositional_clips"), 0
        )
        world = dataclasses.replace(
            world,
            streams=part.streams,
            stream_kind=part.kind,
            stream_density=part.density,
            **nothing,
        )
    dataset = find_dataset(WORLD, world)
    streams = [(i, *dataset.annotations(_SPLIT).of(i)) for i in range(part.streams)]

    def captions() -> Iterator[tuple[str, ...]]:
        train = find_dataset(WORLD, given).annotations("train")
        for _, of_record in itertools.groupby(train, operator.itemgetter(0)):
            of_record = (a for _, a in of_record if a.task == "caption")
            yield tuple(a.texts[0] for a in of_record if a.tags.get("kind") == "caption")

    return OpenSet(part, dataset, _SPLIT, streams, captions)


def _recorded_streams(part: RecordedStreams, dataset: Dataset) -> OpenSet:
    require_split(dataset, part.path, part.split)
    wanted = part.tags.items()
    streams = [
        (record, annotation)
        for record, annotation in dataset.annotations(part.split)
        if annotation.task == STREAM
        and annotation.times
        and all(annotation.tags.get(tag) in values for tag, values in wanted)
    ]
    if not streams:
        raise NoExamplesError(
            f"streams '{part.name}': no annotation of {part.path}, split '{part.split}', is a "
            f"stream with {dict(wanted)}"
        )

    def descriptions() -> Iterator[tuple[str, ...]]:
        if part.bank_split in dataset.splits:
            for _, annotation in dataset.annotations(part.bank_split):
                yield annotation.texts if annotation.task == STREAM else ()

    return OpenSet(part, dataset, part.split, streams[: part.streams or None], descriptions)


def _ticks(
    model: Embedder, config: StreamStudyConfig, found: OpenSet, record: int
) -> tuple[str, np.ndarray, np.ndarray] | ClipError:
    """The name of a record, and the ticks of its video with their embeddings."""
    media = found.dataset.media(found.split)[record]
    try:
        ends, embeddings = embed_stream(
            model,
            media.media[0],
            config.query,
            seconds=config.window,
            ticks_per_second=config.ticks_per_second,
        )
    except ClipError as error:
        return ClipError(f"record '{media.id}': {error}")
    if not len(ends):
        return ClipError(f"record '{media.id}': is shorter than a window of {config.window} s")
    return media.id, ends - config.window / 2, embeddings


def _embedded(
    record: int,
    annotation: Annotation,
    ticks: Callable[[int], tuple[str, np.ndarray, np.ndarray] | ClipError],
) -> EmbeddedStream | ClipError:
    found = ticks(record)
    if isinstance(found, ClipError):
        return found
    times = np.array(annotation.times)
    lasts = np.array(annotation.durations) if annotation.durations else np.zeros(len(times))
    return EmbeddedStream(*found, times, annotation.texts, lasts)


def _decoder(model: Embedder, config: StreamStudyConfig, found: OpenSet) -> tuple[str, Decode]:
    """The Y-Decoder with its name or, without one, the nearest texts of a training split."""
    if model.text_decoder is not None:
        return "Y-Decoder, greedy", model.decode
    texts: dict[str, None] = {}
    for of_record in found.bank():
        if len(texts) >= config.bank_texts:
            break
        texts.update(dict.fromkeys(of_record))
    if not texts:
        raise ConfigError(
            f"streams '{found.part.name}': this model writes no texts, and the training split of "
            f"{found.dataset.directory} has none to choose from"
        )
    bank = model.text_bank(list(texts))
    return f"nearest of {len(texts)} training captions (no Y-Decoder)", bank.decode


def _timeline(
    medium: Medium, stream: EmbeddedStream, config: StreamStudyConfig, decode: Decode
) -> Timeline:
    """The beginning of a stream, cut offline at the density of its events."""
    ticks = stream.times <= _SHOWN_SECONDS
    rate = len(stream.texts) / (len(stream.times) / config.ticks_per_second)
    tree = ward_tree(stream.embeddings)
    segments = choose_segments("offline", rate, config, stream.embeddings, tree)
    segments = segments[stream.times[segments[:, 0]] < _SHOWN_SECONDS]
    texts = decode(segment_embeddings(stream.embeddings, segments, averaged=True))
    spoken = tuple(
        Spoken(float(stream.times[start]), float(stream.times[end - 1]), float(at), text)
        for (start, end), at, text in zip(
            segments, stream.times[midpoints(segments)], texts, strict=True
        )
    )
    events = tuple(
        Spoken(float(at - lasts / 2), float(at + lasts / 2), float(at), text)
        for at, lasts, text in zip(stream.annotated, stream.durations, stream.texts, strict=True)
        if at - lasts / 2 < _SHOWN_SECONDS
    )
    steps = np.diff(stream.embeddings, axis=0, prepend=stream.embeddings[:1])
    change = np.linalg.norm(steps, axis=1)
    return Timeline.of_medium(medium, stream.times[ticks], change[ticks], spoken, events)

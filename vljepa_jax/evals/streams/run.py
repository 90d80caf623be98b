"""The benchmark "stream": embeds the world's long streams, runs the study, draws it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.progress import Progress, TaskID

from vljepa_jax.config import WORLD, ConfigError, StreamSet, StreamStudyConfig, WorldConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.records import Medium
from vljepa_jax.data.storage import Dataset
from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.streams.study import (
    Decode,
    EmbeddedStream,
    Study,
    choose_segments,
    run_study,
)
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.embed_stream import embed_spans, embed_stream
from vljepa_jax.inference.streams.segmentation import midpoints, segment_embeddings, ward_tree
from vljepa_jax.inference.streams.timeline import Spoken, Timeline
from vljepa_jax.parallel.processes import divided, first_process

_SPLIT = "streams"  # of the world
_SHOWN_SECONDS = 60.0  # of the timeline


@dataclasses.dataclass(frozen=True)
class StreamResult:
    """Findings of the study.

    Attributes:
        decoder: the name of what wrote the texts.
        studies: one a set of the config, in its order.
        timeline: the beginning of its first stream, cut offline.
    """

    decoder: str
    studies: tuple[tuple[StreamSet, Study], ...]
    timeline: Timeline


def embed_streams(
    model: Embedder, config: StreamStudyConfig, world: WorldConfig
) -> list[list[EmbeddedStream]]:
    """Embeds the streams of every set, with a progress bar; several processes a share each.

    Raises:
        ConfigError: the windows are longer than the streams.
    """
    sets = []
    with Progress(transient=True, disable=not first_process()) as progress:
        for part in config.sets:
            dataset = _dataset(world, part)

            def embed(indices: Sequence[int], dataset: Dataset = dataset) -> list[EmbeddedStream]:
                tracked = progress.track(indices, description="Embedding streams")
                return [_embed(model, dataset, index, config) for index in tracked]

            sets.append(divided(embed, range(part.streams)))
    return sets


def run_stream_benchmark(
    model: Embedder,
    embedded: Sequence[Sequence[EmbeddedStream]],
    config: StreamStudyConfig,
    world: WorldConfig,
) -> StreamResult:
    """Sweeps the rates.

    Args:
        embedded: from ``embed_streams``.

    Raises:
        ConfigError: the world has no captions.
    """
    name, decode = _decoder(model, config, world)
    studies = []
    with Progress(transient=True) as progress:
        for part, streams in zip(config.sets, embedded, strict=True):
            media = {record.id: record.media[0] for record in _dataset(world, part).media(_SPLIT)}
            task = progress.add_task("Embedding clips", total=len(streams))

            def embed_clips(
                stream: EmbeddedStream,
                spans: np.ndarray,
                media: Mapping[str, Medium] = media,
                task: TaskID = task,
            ) -> np.ndarray:
                found = embed_spans(model, media[stream.name], config.query, spans)
                progress.advance(task)
                return found

            studies.append((part, run_study(streams, config, decode, scorer, embed_clips)))
    first = _dataset(world, config.sets[0]).media(_SPLIT)[0].media[0]
    return StreamResult(name, tuple(studies), _timeline(first, embedded[0][0], config, decode))


def scorer(references: Sequence[Sequence[str]]) -> Callable[[Sequence[str]], np.ndarray]:
    """CIDEr-D of texts against these references, all of them one corpus, × 100."""
    score = CiderD([[tokenise(text) for text in texts] for texts in references])
    return lambda candidates: score([tokenise(text) for text in candidates])


def _dataset(world: WorldConfig, part: StreamSet) -> Dataset:
    """A world with streams of one kind and density; the given one, where it has them."""
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
    return find_dataset(WORLD, world)


def _embed(
    model: Embedder, dataset: Dataset, index: int, config: StreamStudyConfig
) -> EmbeddedStream:
    record = dataset.media(_SPLIT)[index]
    (annotation,) = dataset.annotations(_SPLIT).of(index)
    ends, embeddings = embed_stream(
        model,
        record.media[0],
        config.query,
        seconds=config.window,
        ticks_per_second=config.ticks_per_second,
    )
    if not len(ends):
        raise ConfigError(f"config.stream.window = {config.window} s is longer than '{record.id}'")
    return EmbeddedStream(
        record.id,
        ends - config.window / 2,
        embeddings,
        np.array(annotation.times),
        annotation.texts,
        np.array(annotation.durations),
    )


def _decoder(model: Embedder, config: StreamStudyConfig, world: WorldConfig) -> tuple[str, Decode]:
    """The Y-Decoder with its name or, without one, the nearest training captions."""
    if model.text_decoder is not None:
        return "Y-Decoder, greedy", model.decode
    texts: dict[str, None] = {}
    last = None
    for record, annotation in find_dataset(WORLD, world).annotations("train"):
        if record != last and len(texts) >= config.bank_texts:  # those of a record together
            break
        last = record
        if annotation.task == "caption" and annotation.tags.get("kind") == "caption":
            texts[annotation.texts[0]] = None
    if not texts:
        raise ConfigError("config.world has no training captions for the study to decode with")
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

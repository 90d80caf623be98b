"""Training batches: mixture, shuffle, decode, tokenize, batch, shard by process.

Row r of step s is the example of global index s * batch_size + r, and an example is a pure
function of (seed, global index): of its source, its record, the annotation, the wording, the
jitter and the crop. So the position of a run is one number, on any number of processes and
workers.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from vljepa_jax.config import (
    OBJECTIVES,
    WORLD,
    ConfigError,
    TrainConfig,
)
from vljepa_jax.data.mixture import Mixture
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.rows import Row, Rows
from vljepa_jax.data.shards import Media
from vljepa_jax.data.token_cache import ClipKey, TokenCache, cache_directory
from vljepa_jax.data.tokenizers import named_tokenizers
from vljepa_jax.data.train_source import open_sources
from vljepa_jax.data.video import load_clip
from vljepa_jax.data.workers import AHEAD, CHUNK, read_ahead
from vljepa_jax.places import complaint, in_bucket, place

# Unreadable records in a row after which something else must be wrong.
_ATTEMPTS = 16


class DataError(RuntimeError):
    """Training data that cannot be read at all; the message names the reasons."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """One process's rows of one step, in ascending order.

    Attributes:
        arrays: as ``array_spec`` names them, of these rows.
        ids: annotation ids, one a row.
        replaced: the reasons of unreadable examples that others took the place of.
    """

    arrays: dict[str, np.ndarray]
    ids: tuple[str, ...]
    replaced: tuple[str, ...]


def array_spec(config: TrainConfig) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each array of a global batch.

    video uint8 [B, T, H, W, 3], or in its place visual_tokens float32 [B, n, x] where they are
    cached, or neither; what the objective's rows hold beside it (``data.rows``); and where there
    are several sources, source int32 [B], the index of a row's.
    """
    rows, video = config.batch_size, config.data.video
    if config.data.visual_tokens == "cache":
        shape = rows, math.prod(config.token_grid), config.embedder[0].x_encoder.hidden_size
        visual = {"visual_tokens": (shape, np.float32)}
    elif video is None:
        visual = {}
    else:
        visual = {"video": ((rows, video.frames, video.image_size, video.image_size, 3), np.uint8)}
    beside = {
        name: ((rows, *shape), dtype)
        for name, (shape, dtype) in _rows_class(config).spec(config).items()
    }
    if len(config.data.sources) > 1:
        beside["source"] = (rows,), np.int32
    return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in (visual | beside).items()}


def _rows_class(config: TrainConfig) -> type[Rows]:
    """The rows class of the config's objective."""
    return pkgutil.resolve_name(OBJECTIVES[config.objective].rows)


def check_paths(config: TrainConfig) -> None:
    """Looks whether datasets and tokenizers are where the config says, before anything is built.

    Raises:
        ConfigError: some are not there; all of them are named.
    """
    paths = {f"data.sources[{i}].path": s.path for i, s in enumerate(config.data.sources)}
    named = named_tokenizers(config.data.text)
    paths |= {f"data.text.{field}": path for field, path in named.items()}
    missing = []
    for field, path in paths.items():
        if path != WORLD and not place(path).exists():
            reason = complaint(place(path)) if in_bucket(path) else ""
            missing.append(f"  {field}: '{path}'" + (f" ({reason})" if reason else ""))
    if missing:
        raise ConfigError(
            "these paths of the config do not exist:\n"
            + "\n".join(missing)
            + "\nlaunch/prepare.py makes datasets; a tokenizer is a tokenizer.json, published with "
            "its weights (docs/weights.md)."
        )


class TrainPipeline:
    """The batches of a training run."""

    def __init__(self, config: TrainConfig, tokens_key: str = ""):
        """Opens the datasets and tokenizers.

        Args:
            tokens_key: from ``visual_tokens.cache_visual_tokens``, where tokens are cached.

        Raises:
            ConfigError: a source has no training examples, or none of a task that it names.
            DatasetError: a source is no dataset, or has no such split.
            TokenizerError: a tokenizer cannot be used, or has more ids than its embedding table.
        """
        self._config = config
        self._reader = _Reader(config, tokens_key)
        self._check_epochs()

    def _check_epochs(self) -> None:
        for index, source in enumerate(self._config.data.sources):
            _, epochs = self.seen(self._config.steps)[index]
            if 0 < source.max_epochs < epochs:
                raise ConfigError(
                    f"data.sources[{index}].max_epochs: {source.max_epochs:g}, but {epochs:.3g} "
                    f"epochs of {source.path} are seen in {self._config.steps} steps; lower its "
                    "weight, or steps"
                )

    def seen(self, step: int) -> list[tuple[int, float]]:
        """Of each source the rows of the first ``step`` batches, and how many epochs they are.

        Rows count that others took the place of, as they could not be read.
        """
        order = self._reader.order
        return [
            (rows, rows / source.used)
            for rows, source in zip(order.rows(step), order.sources, strict=True)
        ]

    def batches(self, start_step: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
        """Yields the batches of steps ``start_step`` to ``config.steps`` - 1.

        Decoding is ahead by two batches, in this process's share of the host's
        ``config.data.num_workers``; 0 decodes in a thread of this one.

        Args:
            rows: of each global batch, those that are read, int [b]; ``None`` for all. Processes
                that share a batch ask for ``sharding.local_rows``.

        Raises:
            DataError: many records in a row cannot be read.
        """
        global_batch = self._config.batch_size
        rows = np.arange(global_batch) if rows is None else np.asarray(rows)
        size = next(size for size in range(min(CHUNK, len(rows)), 0, -1) if len(rows) % size == 0)
        a_batch = len(rows) // size

        def indices(chunk: int) -> list[int]:
            step, part = divmod(chunk, a_batch)
            return (step * global_batch + rows[part * size : (part + 1) * size]).tolist()

        chunks = grain.MapDataset.range(start_step * a_batch, self._config.steps * a_batch)
        chunks = chunks.map(indices).map(self._reader)
        with read_ahead(chunks, self._config.data.num_workers, AHEAD * a_batch) as iterator:
            for _ in range(start_step, self._config.steps):
                parts = [next(iterator) for _ in range(a_batch)]
                batch = Batch(
                    arrays={
                        name: np.concatenate([np.asarray(part["arrays"][name]) for part in parts])
                        for name in parts[0]["arrays"]
                    },
                    ids=tuple(name for part in parts for name in part["ids"]),
                    replaced=tuple(reason for part in parts for reason in part["replaced"]),
                )
                del parts  # before the batch is used: they hold the workers' shared memory
                yield batch


def cached_clips(config: TrainConfig) -> Iterator[tuple[Media, list[ClipKey], str]]:
    """Clips whose tokens a run on cached visual tokens needs.

    Yields:
        Per source of the mixture: its media, the distinct clips of its training examples, and a
        name for this choice of clips, to be part of the cache's.

    Raises:
        ConfigError: the sampling is random, so that no clip has tokens of its own.
    """
    video = config.data.video
    if (video.sampling, video.crop) != ("uniform", "centre"):
        raise ConfigError(
            f"data.visual_tokens: 'cache' needs video.sampling 'uniform' and video.crop 'centre', "
            f"which give the same tokens every time; they are '{video.sampling}' and "
            f"'{video.crop}'"
        )
    for source in open_sources(config, _rows_class(config)(config)):
        yield source.media, list(source.clips()), source.clips_name


@dataclasses.dataclass(frozen=True)
class SourceCount:
    """What a source of a config holds.

    Attributes:
        path, split: of its dataset.
        records: that have an annotation of its tasks.
        tasks: that it draws from.
    """

    path: str
    split: str
    records: int
    tasks: tuple[str, ...]


def list_sources(config: TrainConfig) -> list[SourceCount]:
    """The sources of a config, with counts; raises as ``TrainPipeline``."""
    opened = open_sources(config, _rows_class(config)(config))
    return [
        SourceCount(source.path, source.split, len(there.records), tuple(sorted(there.tasks)))
        for source, there in zip(config.data.sources, opened, strict=True)
    ]


def target_shares(config: TrainConfig) -> dict[str, float]:
    """The texts that training examples have as targets -> the share of rows that have them.

    Raises:
        ConfigError, DatasetError: as for training.
    """
    shares: dict[str, float] = collections.defaultdict(float)
    all_weights = sum(source.weight for source in config.data.sources)
    sources = open_sources(config, _rows_class(config)(config))
    order = Mixture([source.mixed for source in sources], config.batch_size, config.seed)
    for number, (source, mixed) in enumerate(zip(sources, order.sources, strict=True)):
        of_record = mixed.weight / all_weights / mixed.used
        used = (int(source.records[place]) for place in order.used(number))
        for annotation, chance in source.drawn(used):
            texts = annotation.texts or source.dataset.answer(annotation)
            for text in texts:
                shares[text] += of_record * chance / len(texts)
    return dict(shares)


# ---------------------------------------------------------------------------------------------
# Training examples
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Example:
    tokens: np.ndarray | None  # of the clip, where they are cached
    row: Row
    source: int


class _Reader:
    """Global indices -> a chunk of rows; sent to the worker processes."""

    def __init__(self, config: TrainConfig, tokens_key: str):
        self._seed = config.seed
        self._video = config.video_input
        self._rows = _rows_class(config)(config)
        self._visual = config.data.visual_tokens
        self._sources = open_sources(config, self._rows)
        self._caches = [
            TokenCache(
                cache_directory(
                    source.media.directory, source.media.split, source.clips_name, tokens_key
                )
            )
            for source in self._sources
        ]
        self._mixed = [source.mixed for source in self._sources]
        self._batch_size = config.batch_size

    @functools.cached_property
    def order(self) -> Mixture:
        """Global index -> (source, place in its records)."""
        return Mixture(self._mixed, self._batch_size, self._seed)

    @functools.cached_property
    def _map(self) -> Callable[..., Iterator]:
        """``map``; of examples in a bucket a chunk at a time, as each waits for several answers."""
        if any(in_bucket(place(source.media.directory)) for source in self._sources):
            return concurrent.futures.ThreadPoolExecutor(CHUNK).map
        return map

    def __getstate__(self) -> dict[str, Any]:  # each process makes these anew
        return {name: value for name, value in vars(self).items() if name not in ("order", "_map")}

    def __call__(self, indices: Sequence[int]) -> dict:
        arrays, clips = {}, itertools.repeat(None)
        if self._visual == "compute":
            size = self._video.image_size
            shape = len(indices), self._video.frames, size, size, 3
            arrays["video"] = clips = np.empty(shape, np.uint8)
        found = list(self._map(self._example, indices, clips))
        examples = [example for example, _ in found]
        if self._visual == "cache":
            arrays["visual_tokens"] = np.stack([example.tokens for example in examples])
        arrays |= self._rows.arrays([example.row.content for example in examples])
        if len(self._sources) > 1:
            arrays["source"] = np.array([example.source for example in examples], np.int32)
        ids = [example.row.id for example in examples]
        replaced = [reason for _, reasons in found for reason in reasons]
        return {"arrays": arrays, "ids": ids, "replaced": replaced}

    def _example(self, index: int, clip: np.ndarray | None) -> tuple[_Example, list[str]]:
        """The example of a global index, and the reasons of unreadable records met on the way.

        Args:
            clip: its frames are put there, where they are wanted.
        """
        chosen, place = self.order[index]
        source, reasons = self._sources[chosen], []
        for attempt in range(_ATTEMPTS):
            # A generator of its own for each (seed, index, attempt), without any stream to follow.
            rng = np.random.Generator(
                np.random.Philox(key=[self._seed, index], counter=[0, 0, 0, attempt])
            )
            if attempt:
                place = self.order.any_record(chosen, rng)
            record, annotations = source.draw(int(source.records[place]), rng)
            row = self._rows.draw(annotations, source.dataset, source.choose, rng)
            try:
                tokens = self._see(chosen, record, row.inputs, rng, clip)
            except ClipError as error:
                reasons.append(str(error))
                continue
            return _Example(tokens, row, chosen), reasons
        raise DataError(
            f"{_ATTEMPTS} records of {source.dataset.directory} drawn in a row cannot be read:\n"
            + "\n".join(reasons)
        )

    def _see(
        self,
        chosen: int,
        record: int,
        inputs: tuple[int, ...],
        rng: np.random.Generator,
        clip: np.ndarray | None,
    ) -> np.ndarray | None:
        """The clip of a record of a source: its frames in ``clip``, or tokens of the cache.

        Media are read only where frames are wanted of them.
        """
        if self._visual == "cache":
            return self._caches[chosen][record, inputs]
        if clip is not None:
            found = self._sources[chosen].media[record]
            try:
                load_clip([found.media[i] for i in inputs], self._video, rng, clip)
            except ClipError as error:
                raise ClipError(f"record '{found.id}': {error}") from error
        return None

"""Computes the visual tokens of a frozen X-Encoder once per clip, before a run that trains on them.

The tokens are a function of the encoder's weights and settings, of how frames are taken from a
clip, and of the clips; the cache's key names the first two, and it lies beside the clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import Progress

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.pipeline import array_spec, cached_clips
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.shards import Media
from vljepa_jax.data.token_cache import (
    ClipKey,
    TokenCache,
    cache_directory,
    caches_of,
    clip_stamps,
    write_token_cache,
)
from vljepa_jax.data.workers import decode_media, in_batches
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.models.placement import everywhere, on_rows, over_rows, pad_rows, padded_rows
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.ownership import LOCK, owned
from vljepa_jax.parallel.processes import first_process, wait_for_all
from vljepa_jax.parallel.sharding import local_mesh, read_whole

_BATCH = 32  # clips encoded at a time, at least


def cache_visual_tokens(config: TrainConfig, params: Any, console: Console) -> str:
    """Makes the caches that a run with ``data.visual_tokens = "cache"`` reads, where missing.

    Tokens of files that have changed since are computed anew, and what could not be read is tried
    again. Of several processes the first computes them, and the others wait.

    Args:
        params: of the model; only its X-Encoder is read.

    Returns:
        The key for ``TrainPipeline``.

    Raises:
        ConfigError: the sampling is random, so that no clip has tokens of its own.
        OSError: the cache cannot be written.
    """
    params = read_whole(params["x_encoder"])
    x_encoder, mesh = make_video_encoder(config.embedder[0]), local_mesh()
    rows = padded_rows(_BATCH, mesh)
    placed = jax.device_put(params, everywhere(mesh))
    encode = over_rows(lambda params, video: x_encoder.apply({"params": params}, video), mesh)

    def encode_batch(_: Sequence[ClipKey], clips: np.ndarray) -> np.ndarray:
        tokens = encode(placed, on_rows(pad_rows(clips, rows), mesh))  # one size: compiled once
        return np.asarray(tokens, np.float32)[: len(clips)]

    key = _key(config, params)
    _, *shape = array_spec(config)["visual_tokens"][0]
    for media, clips, name in cached_clips(config) if first_process() else ():
        directory = cache_directory(media.directory, media.split, name, key)
        stamps = dict(zip(clips, clip_stamps(media, clips), strict=True))
        if _is_current(config, media, directory, stamps):  # nothing is to be written
            continue
        # Of several runs that need it one computes, and the others wait.
        with owned(
            directory.parent, name=f".{directory.name}{LOCK}", wait=True, tell=console.print
        ):
            if _is_current(config, media, directory, stamps):  # by the one that was waited for
                continue
            # An earlier run may have needed some of the clips: another stage, other tasks.
            caches = caches_of(media.directory, media.split, key)
            known = {
                clip: cache
                for cache in caches
                for clip, stamp in stamps.items()
                if cache.holds(clip, stamp)
            }
            missing = [clip for clip in clips if clip not in known]
            decoded = _decoded(config, media, missing)
            with Progress(console=console, transient=True) as progress:
                tokens = in_batches(encode_batch, zip(missing, decoded, strict=True), rows)
                tracked = progress.track(
                    tokens, len(missing), description="Computing visual tokens"
                )
                computed = (found for _, found in tracked)
                all_tokens = (
                    known[clip][clip] if clip in known else next(computed) for clip in clips
                )
                write_token_cache(directory, clips, all_tokens, tuple(shape), list(stamps.values()))
    wait_for_all()
    return key


def _is_current(
    config: TrainConfig, media: Media, directory: Path, stamps: Mapping[ClipKey, str]
) -> bool:
    """Whether a cache has all these clips, but for those that cannot be read now either."""
    cache = TokenCache(directory)
    absent = [clip for clip, stamp in stamps.items() if not cache.holds(clip, stamp)]
    return all(cache.refuses(clip, stamps[clip]) for clip in absent) and all(
        isinstance(found, ClipError) for found in _decoded(config, media, absent)
    )


def _decoded(
    config: TrainConfig, media: Media, clips: Sequence[ClipKey]
) -> Iterator[np.ndarray | ClipError]:
    return decode_media(media, clips, config.video_input, config.data.num_workers)


def _key(config: TrainConfig, x_encoder: Any) -> str:
    """Names the encoder's weights and settings and the way frames are taken."""
    model, _ = config.embedder
    settings = [
        dataclasses.asdict(model.x_encoder),
        model.dtype,
        dataclasses.asdict(config.data.video),
    ]
    return fingerprint(settings, x_encoder)

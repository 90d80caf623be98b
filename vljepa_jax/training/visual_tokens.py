"""Computes the visual tokens of a frozen X-Encoder once per clip, before a run that trains on them.

The tokens are a function of the encoder's weights and settings, of how frames are taken from a
clip, and of the clips; the cache's key names the first two, and it lies beside the clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import Progress

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.pipeline import array_spec, cached_clips
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.token_cache import (
    ClipKey,
    TokenCache,
    cache_directory,
    caches_of,
    write_token_cache,
)
from vljepa_jax.data.workers import decode_media, in_batches
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.models.placement import everywhere, on_rows, over_rows, pad_rows, padded_rows
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.parallel.processes import first_process, wait_for_all
from vljepa_jax.parallel.sharding import local_mesh, read_whole

_BATCH = 32  # clips encoded at a time, at least


def cache_visual_tokens(config: TrainConfig, params: Any, console: Console) -> str:
    """Makes the caches that a run with ``data.visual_tokens = "cache"`` reads, where missing.

    Of several processes the first computes them, and the others wait.

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
    for media, clips, name in cached_clips(config):
        directory = cache_directory(media.directory, media.split, name, key)
        if directory.exists() or not first_process():
            continue
        # A run before this one may have needed some of the clips: an earlier stage, other tasks.
        known = caches_of(media.directory, media.split, key)
        missing = [clip for clip in clips if not any(clip in cache for cache in known)]
        decoded = decode_media(media, missing, config.video_input, config.data.num_workers)
        with Progress(console=console, transient=True) as progress:
            tokens = in_batches(encode_batch, zip(missing, decoded, strict=True), rows)
            tracked = progress.track(tokens, len(missing), description="Computing visual tokens")
            all_tokens = _known_or_next(clips, known, (computed for _, computed in tracked))
            write_token_cache(directory, clips, all_tokens, tuple(shape))
    wait_for_all()
    return key


def _known_or_next(
    clips: Iterable[ClipKey],
    known: Sequence[TokenCache],
    computed: Iterator[np.ndarray | ClipError],
) -> Iterator[np.ndarray | ClipError]:
    """The tokens of each clip: from the first cache that has it, or else the next computed ones."""
    for clip in clips:
        cache = next((cache for cache in known if clip in cache), None)
        try:
            yield next(computed) if cache is None else cache[clip]
        except ClipError as error:  # it could not be read then
            yield error


def _key(config: TrainConfig, x_encoder: Any) -> str:
    """Names the encoder's weights and settings and the way frames are taken."""
    model, _ = config.embedder
    settings = [
        dataclasses.asdict(model.x_encoder),
        model.dtype,
        dataclasses.asdict(config.data.video),
    ]
    return fingerprint(settings, x_encoder)

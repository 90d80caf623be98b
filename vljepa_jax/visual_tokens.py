"""Computes the visual tokens of a frozen X-Encoder once per clip, before a run that trains on them.

The tokens are a function of the encoder's weights and settings, of how frames are taken from a
clip, and of the clips; the cache's key names the first two, and it lies beside the clips.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import Progress

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.ffmpeg import ClipError
from vljepa_jax.data.pipeline import array_spec, cached_clips
from vljepa_jax.data.token_cache import cache_directory, write_token_cache
from vljepa_jax.data.workers import decode_media
from vljepa_jax.models.vjepa2 import make_x_encoder, normalise

_BATCH = 32  # clips encoded at a time


def cache_visual_tokens(config: TrainConfig, params: Any, console: Console) -> str:
    """Makes the caches that a run with ``data.visual_tokens = "cache"`` reads, where missing.

    Args:
        params: of the model; only its X-Encoder is read.

    Returns:
        The key for ``TrainPipeline``.

    Raises:
        ConfigError: the sampling is random, so that no clip has tokens of its own.
        OSError: the cache cannot be written.
    """
    x_encoder = make_x_encoder(config.model)
    encode = jax.jit(lambda params, video: x_encoder.apply({"params": params}, normalise(video)))
    key = _key(config, params["x_encoder"])
    _, *shape = array_spec(config)["visual_tokens"][0]
    for source, clips, name in cached_clips(config):
        directory = cache_directory(source.directory, f"{name}-{key}")
        if directory.exists():
            continue
        decoded = decode_media(source, clips, config.data.video, config.data.num_workers)
        with Progress(console=console, transient=True) as progress:
            tokens = _encode(lambda video: encode(params["x_encoder"], video), decoded)
            tracked = progress.track(tokens, len(clips), description="Computing visual tokens")
            if jax.process_index() == 0:
                write_token_cache(directory, clips, tracked, tuple(shape))
            else:  # all processes hold parts of the parameters, one writes
                for _ in tracked:
                    pass
    if jax.process_count() > 1:
        jax.experimental.multihost_utils.sync_global_devices("visual tokens are cached")
    return key


def _encode(encode, decoded: Iterable[np.ndarray | ClipError]) -> Iterator[np.ndarray | ClipError]:
    """Encodes in batches of one size, so that the encoder is compiled once."""
    batch: list[np.ndarray | ClipError] = []

    def encoded() -> Iterator[np.ndarray | ClipError]:
        videos = [clip for clip in batch if not isinstance(clip, ClipError)]
        tokens = iter(())
        if videos:
            padding = [np.zeros_like(videos[0])] * (_BATCH - len(videos))
            tokens = iter(np.asarray(encode(np.stack(videos + padding)), np.float32))
        for clip in batch:
            yield clip if isinstance(clip, ClipError) else next(tokens)
        batch.clear()

    for clip in decoded:
        batch.append(clip)
        if len(batch) == _BATCH:
            yield from encoded()
    yield from encoded()


def _key(config: TrainConfig, x_encoder: Any) -> str:
    """Names the encoder's weights and settings and the way frames are taken."""
    digest = hashlib.sha256()
    settings = [
        dataclasses.asdict(config.model.x_encoder),
        config.model.dtype,
        dataclasses.asdict(config.data.video),
    ]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(x_encoder):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return digest.hexdigest()[:16]

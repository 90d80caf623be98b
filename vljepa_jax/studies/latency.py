"""The latency of one clip: a VL-JEPA part by part, beside a VLM (paper Figure 3, right)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vljepa_jax.config import WorldConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.workers import decode_media
from vljepa_jax.inference.load import load
from vljepa_jax.inference.tasks import CAPTION_QUERY
from vljepa_jax.inference.vlm import load_vlm
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.run_dir import load_params
from vljepa_jax.studies.bootstrap import RESAMPLES, estimate


def measure_latency(
    vljepa: Path, y_decoder: Path, vlm: Path, world: WorldConfig, repeats: int
) -> dict[str, Any]:
    """Seconds of a caption of one decoded clip, both models in turns.

    Args:
        vljepa, y_decoder, vlm: their runs.
        repeats: timed, after one that compiles.

    Returns:
        "seconds": part -> {"median", "low", "high"} (quartiles) of "encoder_and_predictor", which
        the query's embedding is a part of, "query" (that part, alone), "text", and
        "encoder_and_llm"; and "ratio_without_text", that of the last to the first.
    """
    model = load(vljepa, y_decoder=y_decoder, batch_size=1)
    writer = load_vlm(vlm, batch_size=1)
    dataset = find_dataset("@world", world)
    record = next(r for r, a in dataset.annotations("test") if a.task == "caption")
    (clip,) = decode_media(dataset.media("test"), [(record, (0,))], model.video, 0)
    frames, row = clip[None], np.zeros(1, int)
    (embedding,) = model.predict_tokens(model.encode_clips(frames), row, [CAPTION_QUERY])[:1]

    config, params = load_params(vljepa)
    tokenizer, module = Tokenizer(config.data.text.query_tokenizer), VLJEPA(config.model)
    table = {"params": {"token_embedding": params["token_embedding"]}}
    embed = jax.jit(lambda tokens: module.apply(table, tokens, method="embed_query"))

    def embed_query() -> jax.Array:
        tokens, _ = tokenizer.encode([CAPTION_QUERY], config.data.text.query_length)
        return embed(tokens)

    parts: dict[str, Callable[[], Any]] = {
        "query": embed_query,
        "encoder_and_predictor": lambda: model.predict_tokens(
            model.encode_clips(frames), row, [CAPTION_QUERY]
        ),
        "text": lambda: model.decode(embedding[None]),
        "encoder_and_llm": lambda: writer.generate(
            writer.encode_clips(frames), row, [CAPTION_QUERY]
        ),
    }
    seconds = {name: np.empty(repeats) for name in parts}
    for repeat in range(-1, repeats):
        for name, run in parts.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            if repeat >= 0:
                seconds[name][repeat] = time.perf_counter() - began
    return {
        "frames": model.video.frames,
        "repeats": repeats,
        "seconds": {name: _quartiles(of) for name, of in seconds.items()},
        "ratio_without_text": _ratio(seconds),
    }


def _quartiles(seconds: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {"median": float(median), "low": float(low), "high": float(high)}


def _ratio(seconds: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of the medians, with its interval over the repeats, which are pairs in time."""
    theirs, ours = seconds["encoder_and_llm"], seconds["encoder_and_predictor"]
    draws = np.random.default_rng(0).integers(len(ours), size=(RESAMPLES, len(ours)))
    drawn = np.median(theirs[draws], axis=1) / np.median(ours[draws], axis=1)
    return estimate(float(np.median(theirs) / np.median(ours)), drawn)

"""The cost of a window of a stream, and the saving of deciding when to speak.

    python benchmarks/streaming.py --checkpoint=runs/demo
    python benchmarks/streaming.py --checkpoint=runs/demo --rate_hz=0.2 --repetitions=100

One window at a time, as a live stream gives them, everything warm; the parts take turns. The
split is that of the paper's Figure 3: the query, X-Encoder and predictor, and the text, which
VL-JEPA decodes only when the meaning changes. The JSON that is printed holds the median and the
90th percentile of each part in milliseconds, and the cost of a second of stream when every window
is decoded over the cost when --rate_hz of them are. The run needs a Y-Decoder, RUN/y_decoder or
--y_decoder.

The time of the query is that of its tokens; looking up their embeddings is inside the predictor.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import ConfigError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.tasks import CAPTION_QUERY
from vljepa_jax.run_dir import CheckpointError


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a VL-JEPA's run")
    parser.add_argument("--y_decoder", help="its Y-Decoder's run; RUN/y_decoder by default")
    parser.add_argument("--query", default=CAPTION_QUERY)
    parser.add_argument("--ticks_per_second", type=float, default=2.0, help="windows")
    parser.add_argument("--rate_hz", type=float, default=0.35, help="texts, decoded selectively")
    parser.add_argument("--repetitions", type=int, default=50)
    chosen = parser.parse_args()
    if not 0 < chosen.rate_hz < chosen.ticks_per_second:
        parser.error("--rate_hz must lie between 0 and --ticks_per_second")
    return chosen


def main() -> None:
    chosen = arguments()
    try:
        model = vljepa_jax.load(chosen.checkpoint, y_decoder=chosen.y_decoder, batch_size=1)
        seconds = measure(parts(model, chosen), chosen.repetitions)
    except (CheckpointError, ConfigError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report(seconds, model, chosen), indent=2))


def parts(model: vljepa_jax.Model, chosen: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Each part of a window's work, returning when its result is there."""
    size, frames = model.video.image_size, model.video.frames
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (1, frames, size, size, 3), np.uint8)
    text = model.config.data.text
    tokenizer = Tokenizer(text.query_tokenizer)
    visual_tokens = model.encode_clips(clip)
    row = np.zeros(1, int)
    embedding = model.predict_tokens(visual_tokens, row, [chosen.query])
    segmenter = OnlineSegmenter(window=8, delay=2, threshold=np.inf)
    model.decode(embedding)  # raises where there is no Y-Decoder
    return {
        "query": lambda: tokenizer.encode([chosen.query], text.query_length),
        "x_encoder": lambda: model.encode_clips(clip).block_until_ready(),
        "predictor": lambda: model.predict_tokens(visual_tokens, row, [chosen.query]),
        "segmentation": lambda: segmenter.update(embedding[0]),
        "text": lambda: model.decode(embedding),
    }


def measure(work: dict[str, Callable[[], object]], repetitions: int) -> dict[str, np.ndarray]:
    """Seconds of each part, [repetitions]; all are run once before."""
    for part in work.values():
        part()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, part in work.items():
            began = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - began)
    return {name: np.array(times) for name, times in seconds.items()}


def report(
    seconds: dict[str, np.ndarray], model: vljepa_jax.Model, chosen: argparse.Namespace
) -> dict:
    """The JSON; ``predictor`` includes the query's tokens, which are counted once."""
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    median["predictor"] = max(0.0, median["predictor"] - median["query"])
    always = sum(median[name] for name in ("query", "x_encoder", "predictor", "segmentation"))
    ticks = chosen.ticks_per_second
    every = ticks * (always + median["text"] - median["segmentation"])
    selective = ticks * always + chosen.rate_hz * median["text"]
    return {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "jax": jax.__version__,
        "repetitions": chosen.repetitions,
        "frames": model.video.frames,
        "milliseconds": {
            name: {
                "median": round(1e3 * median[name], 3),
                "p90": round(1e3 * float(np.quantile(times, 0.9)), 3),
            }
            for name, times in seconds.items()
        },
        "figure_3_ms": {
            "query": round(1e3 * median["query"], 3),
            "encoder_and_predictor": round(1e3 * (median["x_encoder"] + median["predictor"]), 3),
            "text": round(1e3 * median["text"], 3),
        },
        "per_second_of_stream": {
            "windows": ticks,
            "texts_selective": chosen.rate_hz,
            "every_window_ms": round(1e3 * every, 3),
            "selective_ms": round(1e3 * selective, 3),
            "ratio": round(every / selective, 3),
            "text_alone_ratio": round(ticks / chosen.rate_hz, 3),
        },
        "text_over_encoder_and_predictor": round(
            median["text"] / (median["x_encoder"] + median["predictor"]), 3
        ),
    }


if __name__ == "__main__":
    host.set_up()
    main()

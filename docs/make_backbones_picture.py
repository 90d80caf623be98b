"""Draws docs/images/backbones.png, the curves of the runs that ``make backbones`` makes.

python docs/make_backbones_picture.py [runs/backbones]
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

# run -> title, metrics shown
RUNS = {
    "x_encoder_single": (
        "X-Encoder, clips of one object",
        ("accuracy/motions", "accuracy/objects", "accuracy/yes_no"),
    ),
    "x_encoder": (
        "X-Encoder, all clips",
        ("accuracy/motions", "accuracy/objects", "accuracy/yes_no", "accuracy/counts"),
    ),
    "predictor": ("Llama", ("loss",)),
    "y_encoder": ("Y-Encoder", ("accuracy/to_target",)),
}
SMOOTHING = 0.8  # of what was, in each logged point


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/backbones")
    figure, axes = plt.subplots(1, len(RUNS), figsize=(4 * len(RUNS), 3))
    for axis, (run, (title, names)) in zip(axes, RUNS.items(), strict=True):
        lines = (folder / run / "metrics.jsonl").read_text().splitlines()
        points = [json.loads(line) for line in lines]
        for name in names:
            steps, values = [], []
            for point in points:
                if (value := point.get(name)) is not None and value == value:
                    last = values[-1] if values else value
                    steps.append(point["step"])
                    values.append(SMOOTHING * last + (1 - SMOOTHING) * value)
            axis.plot(steps, values, label=name)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend()
    figure.tight_layout()
    figure.savefig(Path(__file__).parent / "images" / "backbones.png", dpi=80)


if __name__ == "__main__":
    main()

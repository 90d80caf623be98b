"""Draws the curves of the runs that ``make backbones`` makes, and of stage 0, where they are there.

python docs/make_backbones_picture.py [runs/backbones [docs/images/backbones.png]]
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

# run, title, metrics shown
PANELS = (
    ("vjepa2", "Stage 0", ("loss", "loss/constant")),
    ("vjepa2", "Stage 0: directions of clips", ("target/rank",)),
    ("predictor_write", "Llama writes", ("loss",)),
    ("predictor", "Llama reads, and writes", ("accuracy",)),
    (
        "x_encoder_single",
        "X-Encoder, clips of one object",
        ("accuracy/motions", "accuracy/objects", "accuracy/yes_no"),
    ),
    (
        "x_encoder_labels",
        "X-Encoder, all clips",
        ("accuracy/motions", "accuracy/objects", "accuracy/yes_no", "accuracy/counts"),
    ),
    (
        "x_encoder",
        "X-Encoder, clauses and reading",
        ("accuracy", "clauses/accuracy/to_clip", "clauses/accuracy/to_clause"),
    ),
    ("y_encoder", "Y-Encoder", ("accuracy/to_target",)),
)
COLUMNS = 4
SMOOTHING = 0.8  # of what was, in each logged point


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/backbones")
    picture = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images/backbones.png")
    panels = [panel for panel in PANELS if (folder / panel[0] / "metrics.jsonl").exists()]
    if not panels:
        known = ", ".join(dict.fromkeys(run for run, *_ in PANELS))
        sys.exit(f"error: {folder} holds none of {known}; make backbones makes all but vjepa2")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False)
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (run, title, names) in zip(grid.flat, panels, strict=False):
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
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main()

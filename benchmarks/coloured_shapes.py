"""Pictures of one coloured shape, with questions about it, that no recipe here has seen.

    python benchmarks/coloured_shapes.py --output=shapes
    vljepa finetune --data=shapes/questions.jsonl --workdir=runs/shapes --checkpoint=runs/demo \
        --video=train --frames=2

Each picture has 64 x 64 pixels and a circle, a rectangle or a triangle of one of eight colours,
turned and placed at random on a pale ground. Of each there are three kinds of questions: which
shape, which colour, and yes or no ("is there a red shape?"), in several wordings and in the
negative too. It is made after the description of Victor Zhou's easy-VQA, whose files are not used.
Without the pictures, the most frequent answer to each question is right for the share that the
command prints.
"""

import collections
import dataclasses
import json
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageDraw

from vljepa_jax.config import command_line
from vljepa_jax.places import write_text

_OUTPUT = command_line.define_path("output", "The folder to make.", required=True)
_TRAIN = flags.DEFINE_integer("train", 2000, "Pictures to learn from.", lower_bound=1)
_TEST = flags.DEFINE_integer("test", 400, "Pictures to report on.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all of it.")

SIDE = 64
_DRAWN = 4 * SIDE  # then made smaller, so that edges are smooth
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "green": (0, 128, 0),
    "yellow": (255, 215, 0),
    "teal": (0, 128, 128),
    "brown": (139, 69, 19),
}
_WHICH_SHAPE = (
    "what shape is in the image?",
    "what is the shape in the image?",
    "what shape does the image contain?",
)
_WHICH_COLOUR = (
    "what color is the shape?",
    "what is the color of the shape?",
    "which color is the shape in the image?",
)
# {} is what is asked for; the second of each pair asks for its absence.
_IS_THERE = (
    ("is there {} in the image?", "is there not {} in the image?"),
    ("does the image contain {}?", "does the image not contain {}?"),
    ("is {} present?", "is {} not present?"),
)
_YES_NO = 4  # such questions of a picture
_NEGATED = 0.25


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a picture shows."""

    shape: str
    colour: str


def draw(rng: np.random.Generator) -> tuple[Image.Image, Shape]:
    """One picture, and what it shows."""
    shown = Shape(SHAPES[rng.integers(3)], list(COLOURS)[rng.integers(len(COLOURS))])
    ground = tuple(int(value) for value in rng.integers(225, 256, 3))
    picture = Image.new("RGB", (_DRAWN, _DRAWN), ground)
    radius = rng.uniform(0.15, 0.3) * _DRAWN
    centre = rng.uniform(radius, _DRAWN - radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    if shown.shape == "circle":
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    elif shown.shape == "rectangle":
        half = rng.uniform(0.5, 0.8)  # of the angle between the diagonals, from a bar to a square
        angles = np.array([half, np.pi - half, np.pi + half, -half])
    else:
        angles = np.array([0, 2, 4]) * np.pi / 3 + rng.uniform(-0.3, 0.3, 3)
    corners = centre + radius * np.stack([np.cos(angle + angles), np.sin(angle + angles)], axis=1)
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], COLOURS[shown.colour])
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), shown


def ask(shown: Shape, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of a picture."""
    asked = [
        ("shape", str(rng.choice(_WHICH_SHAPE)), shown.shape),
        ("colour", str(rng.choice(_WHICH_COLOUR)), shown.colour),
    ]
    for _ in range(_YES_NO):
        about_colour, there = rng.random() < 0.5, rng.random() < 0.5
        true, values = (shown.colour, list(COLOURS)) if about_colour else (shown.shape, SHAPES)
        named = true if there else str(rng.choice([value for value in values if value != true]))
        thing = f"a {named} shape" if about_colour else f"a {named}"
        negated = rng.random() < _NEGATED
        question = _IS_THERE[rng.integers(len(_IS_THERE))][negated].format(thing)
        asked.append(("yes or no", question, "yes" if there != negated else "no"))
    return asked


def main() -> None:
    folder = Path(_OUTPUT.value)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in (("train", _TRAIN.value), ("test", _TEST.value)):
        rng = np.random.default_rng([_SEED.value, split == "test"])
        for number in range(count):
            picture, shown = draw(rng)
            name = f"pictures/{split}-{number}.png"
            picture.save(folder / name)
            for kind, question, answer in ask(shown, rng):
                rows.append(
                    {
                        "image": name,
                        "question": question,
                        "answer": answer,
                        "split": split,
                        "kind": kind,
                    }
                )
    write_text(folder / "questions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} questions; {blind(rows):.1%} of the test are right without the pictures.")


def blind(rows: list[dict[str, str]]) -> float:
    """The share of test questions whose most frequent answer in training is right."""
    answers: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for row in rows:
        if row["split"] == "train":
            answers[row["question"]][row["answer"]] += 1
    test = [row for row in rows if row["split"] == "test"]
    right = [
        answers[row["question"]].most_common(1)[0][0] == row["answer"]
        for row in test
        if answers[row["question"]]
    ]
    return sum(right) / len(test)


if __name__ == "__main__":
    command_line.run(main)

"""Pictures of one coloured shape, with questions about it, that no recipe here has seen.

    python benchmarks/coloured_shapes.py --output=shapes
    vljepa finetune --data=shapes/questions.jsonl --workdir=runs/shapes --checkpoint=runs/demo \
        --video=train --frames=2
    python benchmarks/coloured_shapes.py --output=shapes --checkpoint=runs/shapes \
        --figures=docs/figures/coloured_shapes.json

Each picture has 64 x 64 pixels and a circle, a rectangle or a triangle of one of eight colours,
turned and placed at random on a pale ground. Of each there are three kinds of questions: which
shape, which colour, and yes or no ("is there a red shape?"), in several wordings and in the
negative too. It is made after the description of Victor Zhou's easy-VQA, whose files are not used.
Without the pictures, the most frequent answer to each question is right for the share that the
command prints. The third command asks a model all questions of the test, each with all answers of
the table to choose from, as the second one's report does, and tells the kinds apart.
"""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image, ImageDraw

from vljepa_jax.config import command_line
from vljepa_jax.json_text import read_json
from vljepa_jax.places import write_text

_OUTPUT = command_line.define_path("output", "The folder to make.", required=True)
_TRAIN = flags.DEFINE_integer("train", 2000, "Pictures to learn from.", lower_bound=1)
_TEST = flags.DEFINE_integer("test", 400, "Pictures to report on.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all of it.")
_CHECKPOINT = command_line.define_path("checkpoint", "A run to score on what is there.")
_FIGURES = command_line.define_path("figures", "The JSON file to write its scores to.")

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
    path = folder / "questions.jsonl"
    if not path.is_file():
        rows = make(folder)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    print(f"{len(rows)} questions; {blind(rows):.1%} of the test are right without the pictures.")
    if _CHECKPOINT.value:
        text = json.dumps(score(_CHECKPOINT.value, folder, rows), indent=1) + "\n"
        print(text, end="")
        if _FIGURES.value:
            write_text(Path(_FIGURES.value), text)


def make(folder: Path) -> list[dict[str, str]]:
    """Draws the pictures; the rows of the table."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in (("train", _TRAIN.value), ("test", _TEST.value)):
        rng = np.random.default_rng([_SEED.value, split == "test"])
        for number in range(count):
            picture, shown = draw(rng)
            name = f"pictures/{split}-{number}.png"
            picture.save(folder / name)
            for kind, question, answer in ask(shown, rng):
                said = {"question": question, "answer": answer, "split": split, "kind": kind}
                rows.append({"image": name} | said)
    return rows


def score(run: str, folder: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Top-1 of a run on the test, among all answers of the table, of all questions and by kind."""
    import vljepa_jax

    model = vljepa_jax.load(run, batch_size=128)
    test = [row for row in rows if row["split"] == "test"]
    answers = sorted({row["answer"] for row in rows})
    pictures = [str(folder / row["image"]) for row in test]
    found = model.embed_video(pictures, [row["question"] for row in test])
    nearest = np.argmax(found @ model.embed_text(answers).T, axis=1)
    right = np.array([answers[i] == row["answer"] for i, row in zip(nearest, test, strict=True)])
    kinds = {"all": np.ones(len(test), bool)}
    for kind in ("shape", "colour", "yes or no"):
        kinds[kind.replace(" ", "_")] = np.array([row["kind"] == kind for row in test])
    kinds["negated"] = np.array([" not " in row["question"] for row in test])
    trained = [row for row in rows if row["split"] == "train"]
    return {
        "pictures": len({row["image"] for row in trained}),
        "questions": len(trained),
        "tested": len(test),
        "blind": blind(rows),
        "accuracy": {name: float(np.mean(right[chosen])) for name, chosen in kinds.items()},
        "training": read_json(Path(run) / "train.json", dict),
    }


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

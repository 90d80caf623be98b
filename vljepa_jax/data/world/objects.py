"""The objects of the world: about 100 Noto Emoji sprites, each with a unique name."""

import dataclasses
import functools
import json
import pathlib

from PIL import Image

ASSETS = pathlib.Path(__file__).parent / "assets"
SPRITE_LICENSE = "Sprites: Noto Emoji, Copyright Google Inc., Apache-2.0"


@dataclasses.dataclass(frozen=True)
class Object:
    """A thing that can appear.

    Attributes:
        name: unique, e.g. "red heart".
        noun: what it is without its colour; shared by a family ("heart").
        colour: one of ``COLOURS`` if the name carries it, else ``None``.
        category: animal, food, vehicle, shape or thing.
    """

    name: str
    noun: str
    colour: str | None
    category: str

    @property
    def indefinite(self) -> str:
        """The name with its indefinite article: "an owl"."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    @property
    def definite(self) -> str:
        """The name with its definite article: "the owl"."""
        return f"the {self.name}"


_INDEX = json.loads((ASSETS / "sprites.json").read_text())
OBJECTS = tuple(Object(**entry) for entry in _INDEX["objects"])
BY_NAME = {thing.name: thing for thing in OBJECTS}
COLOURS = tuple(dict.fromkeys(thing.colour for thing in OBJECTS if thing.colour))


@functools.cache
def sprites() -> dict[str, Image.Image]:
    """Name -> square RGBa image (premultiplied, so that resampling leaves no dark rim)."""
    cell, columns = _INDEX["cell"], _INDEX["columns"]
    with Image.open(ASSETS / "sprites.png") as sheet:
        sheet = sheet.convert("RGBa")
    images = {}
    for position, thing in enumerate(OBJECTS):
        row, column = divmod(position, columns)
        box = (column * cell, row * cell, (column + 1) * cell, (row + 1) * cell)
        images[thing.name] = sheet.crop(box)
    return images

"""Makes ``assets/sprites.png`` and ``assets/sprites.json`` from Noto Emoji (Apache-2.0).

Run once by a developer; the results are committed. Needs two things that the package itself does
not: ``pip install resvg_py`` (draws SVG) and the npm package ``@iconify-json/noto`` 1.2.9::

    python -m vljepa_jax.data.world.make_sprites --icons=node_modules/@iconify-json/noto/icons.json
"""

import argparse
import io
import json
import pathlib

import numpy as np
from PIL import Image

ASSETS = pathlib.Path(__file__).parent / "assets"
CELL = 64  # pixels of a sprite's cell
COLUMNS = 13
MARGIN = 1  # empty pixels around a sprite, so that resampling meets no hard edge

# Category -> names; "name=icon" where Noto's own name differs. Round or rotationally symmetric
# things are left out because their spinning could not be seen; so are plurals.
SINGLES = {
    "animal": "dog cat horse pig rabbit elephant giraffe zebra monkey turtle crocodile frog fish "
    "whale=spouting-whale octopus crab butterfly bee=honeybee ladybug=lady-beetle snail duck owl "
    "parrot penguin flamingo panda lion sheep=ewe",
    "food": "banana pineapple strawberry watermelon lemon carrot mushroom hamburger pizza doughnut "
    "ice_cream=soft-ice-cream cake=birthday-cake avocado",
    "vehicle": "bus airplane helicopter rocket sailboat tractor train=locomotive "
    "fire_engine=fire-engine ambulance",
    "thing": "key hammer umbrella guitar drum trumpet camera bell light_bulb=light-bulb chair "
    "magnet crown anchor trophy gift=wrapped-gift soccer_ball=soccer-ball basketball "
    "teddy_bear=teddy-bear robot ghost house palm_tree=palm-tree cactus sunflower star "
    "moon=crescent-moon snowman=snowman-without-snow pencil backpack teapot",
}
# Noun -> (category, {colour: icon}).
FAMILIES = {
    "heart": (
        "shape",
        {c: f"{c}-heart" for c in ("red", "orange", "yellow", "green", "blue", "purple")},
    ),
    "square": ("shape", {c: f"{c}-square" for c in ("red", "yellow", "green", "blue")}),
    "book": (
        "thing",
        {"red": "closed-book", **{c: f"{c}-book" for c in ("orange", "green", "blue")}},
    ),
    "apple": ("food", {"red": "red-apple", "green": "green-apple"}),
}
# Noun -> (category, red icon); the other colours are made by turning the hue of its red pixels.
RECOLOURED = {"balloon": ("thing", "balloon"), "car": ("vehicle", "automobile")}
HUES = {"red": 0, "yellow": 54, "green": 115, "blue": 215}  # degrees


def rasterise(body: str) -> Image.Image:
    """Draws one icon, cut to what is visible and fitted into a cell."""
    import resvg_py  # a developer's dependency, see above

    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 128 128">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=512, height=512)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    scale = (CELL - 2 * MARGIN) / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    return cell


def turn_hue(image: Image.Image, degrees: int) -> Image.Image:
    """Gives the red pixels of ``image`` another hue."""
    hue, saturation, value = np.moveaxis(np.array(image.convert("RGB").convert("HSV")), -1, 0)
    red = ((hue < 18) | (hue > 235)) & (saturation > 90)
    hue = np.where(red, (hue.astype(int) + round(degrees * 256 / 360)) % 256, hue).astype(np.uint8)
    # At the red's own value a yellow looks brown and a green like neon.
    gain = {HUES["yellow"]: 1.15, HUES["green"]: 0.72}.get(degrees, 1.0)
    value = np.where(red, np.minimum(255, value * gain), value).astype(np.uint8)
    turned = Image.fromarray(np.stack([hue, saturation, value], -1), "HSV").convert("RGB")
    turned.putalpha(image.getchannel("A"))
    return turned


def catalogue() -> list[tuple[dict, str, int]]:
    """Lists (index entry, icon, hue turn in degrees) in the order of the sheet."""
    entries = []
    for category, words in SINGLES.items():
        for word in words.split():
            name, _, icon = word.partition("=")
            entry = {"name": name.replace("_", " "), "noun": name.replace("_", " ")}
            entries.append((entry | {"colour": None, "category": category}, icon or name, 0))
    for noun, (category, icons) in FAMILIES.items():
        for colour, icon in icons.items():
            entry = {"name": f"{colour} {noun}", "noun": noun, "colour": colour}
            entries.append((entry | {"category": category}, icon, 0))
    for noun, (category, icon) in RECOLOURED.items():
        for colour, degrees in HUES.items():
            entry = {"name": f"{colour} {noun}", "noun": noun, "colour": colour}
            entries.append((entry | {"category": category}, icon, degrees))
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--icons", type=pathlib.Path, required=True, help="Noto's icons.json")
    icons = json.loads(parser.parse_args().icons.read_text())["icons"]
    entries = catalogue()
    rows = -(-len(entries) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for position, (_, icon, degrees) in enumerate(entries):
        sprite = rasterise(icons[icon]["body"])
        row, column = divmod(position, COLUMNS)
        sheet.paste(turn_hue(sprite, degrees) if degrees else sprite, (column * CELL, row * CELL))
    sheet.save(ASSETS / "sprites.png", optimize=True)
    index = {"cell": CELL, "columns": COLUMNS, "objects": [entry for entry, _, _ in entries]}
    (ASSETS / "sprites.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(entries)} sprites")


if __name__ == "__main__":
    main()

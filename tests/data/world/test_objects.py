import numpy as np

from vljepa_jax.data.world.objects import ASSETS, BY_NAME, COLOURS, OBJECTS, sprites


def test_about_a_hundred_uniquely_named_objects():
    assert 90 <= len(OBJECTS) <= 120
    assert len(BY_NAME) == len(OBJECTS)


def test_every_object_has_a_distinct_visible_sprite():
    images = {name: np.asarray(image) for name, image in sprites().items()}
    assert images.keys() == BY_NAME.keys()
    for name, image in images.items():
        assert (image[..., 3] > 200).mean() > 0.1, name
        assert (image[..., :3] <= image[..., 3:]).all(), f"{name} is not premultiplied"
    assert len({image.tobytes() for image in images.values()}) == len(images)


def test_coloured_families_are_told_apart_by_colour_alone():
    families = {}
    for thing in OBJECTS:
        if thing.colour:
            families.setdefault(thing.noun, set()).add(thing.colour)
            assert thing.name == f"{thing.colour} {thing.noun}"
    assert len(families) >= 5
    assert all(len(colours) >= 2 for colours in families.values())
    assert set().union(*families.values()) == set(COLOURS)


def test_a_sprite_shows_the_colour_of_its_name():
    channel = {"red": 0, "green": 1, "blue": 2}
    for thing in OBJECTS:
        if thing.colour in channel:
            image = np.asarray(sprites()[thing.name], float)
            means = image[image[..., 3] > 200][:, :3].mean(0)
            assert means.argmax() == channel[thing.colour], thing.name


def test_articles():
    assert BY_NAME["owl"].indefinite == "an owl"
    assert BY_NAME["red heart"].indefinite == "a red heart"
    assert BY_NAME["dog"].definite == "the dog"


def test_assets_are_small_and_carry_their_licence():
    assert (ASSETS / "sprites.png").stat().st_size < 600 << 10
    licence = (ASSETS / "LICENSE.noto-emoji").read_text()
    assert "Noto Emoji" in licence
    assert "Apache License" in licence
    assert "recoloured" in licence, "changed works must say so"

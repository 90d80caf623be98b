import io

import numpy as np
from PIL import Image

from vljepa_jax.data.world import render
from vljepa_jax.data.world.backgrounds import draw_background
from vljepa_jax.data.world.objects import BY_NAME
from vljepa_jax.data.world.scene import Actor, Scene


def actor(name="red square", position=(0.5, 0.5), size=0.25, angle=0.0, opacity=1.0):
    return Actor(
        BY_NAME[name],
        "still",
        np.array([position]),
        np.array([size]),
        np.array([angle]),
        np.array([opacity]),
    )


def changed(*actors, size=128):
    """Where the only frame of a scene differs from its background."""
    (frame,) = render.render_scene(Scene(actors, 7), size)
    return (frame != draw_background(7, size)).any(-1)


def test_an_object_is_drawn_where_its_pose_says():
    rows, columns = np.nonzero(changed(actor(position=(0.25, 0.75))))
    assert abs((columns.min() + columns.max() + 1) / 2 - 32) <= 1
    assert abs((rows.min() + rows.max() + 1) / 2 - 96) <= 1
    assert 28 <= np.ptp(columns) + 1 <= 34


def test_sizes_are_shares_of_the_picture():
    small, large = changed(actor(), size=64).mean(), changed(actor(), size=256).mean()
    assert np.isclose(small, large, rtol=0.1)


def test_turning_by_a_half_turn_puts_the_top_below():
    upright = render.render_scene(Scene((actor("anchor"),), 7), 128)[0]
    turned = render.render_scene(Scene((actor("anchor", angle=180.0),), 7), 128)[0]
    difference = np.abs(upright.astype(int) - turned).sum()
    assert difference > 10_000


def test_what_is_transparent_cannot_be_seen():
    assert not changed(actor(opacity=0.0)).any()
    full, half = (
        render.render_scene(Scene((actor(opacity=opacity),), 7), 128)[0].astype(int)
        for opacity in (1.0, 0.5)
    )
    background = draw_background(7, 128).astype(int)
    np.testing.assert_allclose(half - background, (full - background) / 2, atol=1.01)


def test_an_object_at_the_edge_is_cut():
    rows, columns = np.nonzero(changed(actor(position=(0.0, 0.0))))
    assert rows.min() == columns.min() == 0
    assert rows.max() <= 17


def test_nothing_overflows_at_the_rims_of_turned_sprites():
    for name in ("panda", "ghost", "soccer ball", "snowman"):
        for angle in range(0, 360, 30):
            frames = np.full((2, 64, 64, 3), 255, np.uint8)
            for frame, opacity in zip(frames, (1.0, 0.97), strict=True):
                render.paste_sprite(frame, name, np.array([0.5, 0.5]), 0.8, angle, opacity)
            # A sum above 255 would wrap round to black in the first alone.
            assert np.abs(frames[0].astype(int) - frames[1]).max() <= 10, (name, angle)


def test_backgrounds_are_varied_and_their_own_seed_decides():
    images = {draw_background(seed, 32).tobytes() for seed in range(40)}
    assert len(images) == 40
    np.testing.assert_array_equal(draw_background(5, 32), draw_background(5, 32))


def test_images_keep_their_colours():
    frame = draw_background(3, 64)
    with Image.open(io.BytesIO(render.image_medium(frame).data)) as image:
        assert np.abs(np.asarray(image).astype(int) - frame).mean() < 3

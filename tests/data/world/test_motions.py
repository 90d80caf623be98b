import numpy as np
import pytest

from vljepa_jax.data.world import motions
from vljepa_jax.data.world.motions import MOTIONS

PROGRESS = np.linspace(0, 1, 33)


def change(motion, seed=0, at_rest=False, seconds=2.0):
    return motions.draw_change(
        motion,
        PROGRESS,
        seconds,
        np.random.default_rng(seed),
        reach=0.3,
        ratio=1.6,
        at_rest=at_rest,
    )


def test_there_are_at_least_twelve():
    assert len(set(MOTIONS)) == len(MOTIONS) >= 12


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_changes_its_own_channel_alone(motion):
    drawn = change(motion)
    moved = {
        "offset": np.ptp(drawn.offset, 0).max() > 0.02,
        "scale": np.ptp(drawn.scale) > 0.1,
        "turn": np.ptp(drawn.turn) > 30,
        "opacity": np.ptp(drawn.opacity) > 0.3,
    }
    own = {
        **dict.fromkeys(motions.POSITION, "offset"),
        **dict.fromkeys(motions.SIZE, "scale"),
        **dict.fromkeys(motions.ANGLE, "turn"),
        **dict.fromkeys(motions.OPACITY, "opacity"),
    }
    assert {name for name, changed in moved.items() if changed} == {own.get(motion)} - {None}


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
)
def test_directions(motion, axis, sign):
    offset = change(motion).offset
    assert np.isclose(offset[-1, axis] - offset[0, axis], sign * 0.3)
    assert not offset[:, 1 - axis].any()


def test_size_and_opacity_go_the_right_way():
    assert np.isclose(change("grow").scale[-1], 1.6)
    assert np.isclose(change("shrink").scale[-1], 1 / 1.6)
    assert change("fade").opacity[0] == 1 > 0.5 > change("fade").opacity[-1]
    assert change("appear").opacity[-1] == 1 > 0.5 > change("appear").opacity[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_one_arc_and_bouncing_is_several(seed):
    def landings(motion):
        fine = np.linspace(0, 1, 400)
        height = -motions.draw_change(
            motion,
            fine,
            2.0,
            np.random.default_rng(seed),
            reach=0.3,
            ratio=1.6,
            at_rest=False,
        ).offset[:, 1]
        airborne = height > 0.05 * height.max()
        return int((airborne[:-1] & ~airborne[1:]).sum())

    assert landings("jump") == 1
    assert landings("bounce") >= 2


@pytest.mark.parametrize("motion", ["bounce", "orbit", "shake", "jump"])
def test_what_comes_back_ends_at_rest_where_it_began(motion):
    offset = change(motion, at_rest=True, seconds=1.5).offset
    np.testing.assert_allclose(offset[[0, -1]], 0, atol=1e-9)


def test_instances_differ():
    assert not np.array_equal(change("spin", seed=0).turn, change("spin", seed=1).turn)


def test_an_unknown_motion_is_named():
    with pytest.raises(ValueError, match="wobble"):
        change("wobble")

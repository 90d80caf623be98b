import numpy as np
import pytest

from vljepa_jax.data.world import pairs
from vljepa_jax.data.world.annotate import annotate_state_change
from vljepa_jax.data.world.motions import STATE_MOTIONS
from vljepa_jax.data.world.states import CANDIDATES, draw_state_change

FRAMES, FPS = 16, 8


def changes(count, *, unseen=False):
    return [
        draw_state_change(np.random.default_rng(seed), FRAMES, FPS, unseen=unseen)
        for seed in range(count)
    ]


def state(scene, moment):
    return np.concatenate(
        [[*a.position[moment], a.size[moment], a.opacity[moment]] for a in scene.actors]
    )


def test_all_candidates_begin_alike_and_end_differently():
    for change in changes(100):
        assert len(change.scenes) == CANDIDATES == 4
        assert len({scene.background_seed for scene in change.scenes}) == 1
        first = state(change.scenes[0], 0)
        for scene in change.scenes:
            np.testing.assert_allclose(state(scene, 0), first)
        ends = [state(scene, -1) for scene in change.scenes]
        for index, end in enumerate(ends):
            assert np.abs(end - first).max() > 0.04, "the states differ"
            for other in ends[:index]:
                assert np.abs(end - other).max() > 0.04, "the candidates differ"


def test_distractors_are_other_motions_or_the_other_object():
    kinds = set()
    for change in changes(100):
        gold = change.scenes[0].meaning
        for scene in change.scenes[1:]:
            assert scene.meaning != gold
            acting = [a for a in scene.actors if a.motion != "still"]
            assert len(acting) == 1
            assert acting[0].motion in STATE_MOTIONS
            same = acting[0].thing == change.thing
            assert same != (acting[0].motion == change.motion)
            kinds.add("motion" if same else "object")
    assert kinds == {"motion", "object"}


def test_objects_stay_in_the_picture():
    for change in changes(100):
        for scene in change.scenes:
            for actor in scene.actors:
                margin = actor.size[:, None] / 2
                assert (actor.position >= margin - 1e-9).all()
                assert (actor.position <= 1 - margin + 1e-9).all()


@pytest.mark.parametrize("unseen", [False, True])
def test_pairs_keep_to_their_split(unseen):
    for change in changes(100, unseen=unseen):
        assert ((change.thing.name, change.motion) in pairs.held_out()) == unseen
        if not unseen:
            for scene in change.scenes:
                for actor in scene.actors:
                    assert (actor.thing.name, actor.motion) not in pairs.held_out()


def test_gold_points_at_what_happened():
    (change,) = changes(1)
    order = np.array([2, 3, 0, 1])
    annotation = annotate_state_change(change, "x", np.random.default_rng(0), order)
    assert annotation.inputs == (0, 1)
    assert annotation.candidate_media == (2, 3, 4, 5)
    assert order[annotation.gold] == 0
    assert change.thing.indefinite in annotation.texts[0].lower()


def test_training_pairs_have_no_candidates():
    (change,) = changes(1)
    annotation = annotate_state_change(change, "x", np.random.default_rng(0), None)
    assert annotation.candidate_media == ()
    assert annotation.gold is None
    assert annotation.trainable

from collections import Counter

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from vljepa_jax.data.world import pairs, scene
from vljepa_jax.data.world.motions import MOTIONS

FRAMES, FPS = 16, 8


def draw(seed, *, unseen=False):
    rng = np.random.default_rng(seed)
    return scene.draw_scene(rng, scene.draw_cast(rng, unseen=unseen), FRAMES, FPS)


@pytest.fixture(scope="module")
def scenes():
    return [draw(seed) for seed in range(300)]


def test_a_scene_is_a_function_of_its_seed():
    one, same, other = draw(3), draw(3), draw(4)
    assert one.meaning == same.meaning
    for mine, its in zip(one.actors, same.actors, strict=True):
        np.testing.assert_array_equal(mine.position, its.position)
    assert one.meaning != other.meaning


def test_one_to_five_distinct_objects_in_the_stated_shares(scenes):
    counts = Counter(len(drawn.actors) for drawn in scenes)
    for count, share in enumerate(scene.COUNT_SHARES, 1):
        assert counts[count] / len(scenes) == pytest.approx(share, abs=0.09)
    for drawn in scenes:
        assert len({actor.thing for actor in drawn.actors}) == len(drawn.actors)


def test_objects_stay_in_the_picture_and_hide_no_other(scenes):
    for drawn in scenes:
        for index, actor in enumerate(drawn.actors):
            margin = actor.size[:, None] / 2
            assert (actor.position >= margin - 1e-9).all()
            assert (actor.position <= 1 - margin + 1e-9).all()
            assert actor.size.min() > 0.12
            for other in drawn.actors[:index]:
                assert scene.keeps_clear(actor.position, actor.size, other)


def test_seen_and_unseen_casts_keep_to_their_pairs():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        for unseen in (False, True):
            cast = scene.draw_cast(rng, unseen=unseen)
            assert all(((thing.name, m) in pairs.held_out()) == unseen for thing, m in cast)


def test_colours_are_often_needed_to_tell_objects_apart():
    families = 0
    for seed in range(300):
        nouns = [t.noun for t in scene.draw_objects(np.random.default_rng(seed), 3)]
        families += len(set(nouns)) < 3
    assert families > 15


def test_the_meaning_does_not_depend_on_order():
    drawn = next(drawn for drawn in map(draw, range(50)) if len(drawn.actors) > 1)
    assert scene.Scene(drawn.actors[::-1], 0).meaning == drawn.meaning


def test_one_frame_does_not_tell_the_motion():
    """A classifier that is given the true pose at one moment stays near chance (1 / 14)."""

    def examples(seeds, moment):
        poses, labels = [], []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            motion = str(rng.choice(MOTIONS))
            cast = [(scene.draw_objects(rng, 1)[0], motion)]
            (actor,) = scene.draw_scene(rng, cast, FRAMES, FPS).actors
            at = rng.integers(FRAMES) if moment is None else moment
            angle = np.deg2rad(actor.angle[at])
            pose = [*actor.position[at], actor.size[at], actor.opacity[at]]
            poses.append([*pose, np.sin(angle), np.cos(angle)])
            labels.append(motion)
        return np.array(poses), np.array(labels)

    def accuracy(moment):
        forest = RandomForestClassifier(60, min_samples_leaf=8, random_state=0)
        forest.fit(*examples(range(2500), moment))
        return forest.score(*examples(range(10_000, 11_000), moment))

    assert accuracy(None) < 0.19
    assert accuracy(0) < 0.27  # even where it knows which frame it sees

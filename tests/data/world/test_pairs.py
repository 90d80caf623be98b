from collections import Counter

from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import OBJECTS
from vljepa_jax.data.world.pairs import held_out, motions_of


def test_about_a_tenth_of_all_pairs_is_held_out():
    assert 0.09 <= len(held_out()) / (len(OBJECTS) * len(MOTIONS)) <= 0.11


def test_every_object_and_every_motion_keeps_most_partners():
    by_object = Counter(name for name, _ in held_out())
    by_motion = Counter(motion for _, motion in held_out())
    assert all(by_object[thing.name] <= 2 for thing in OBJECTS)
    assert all(1 <= by_motion[motion] <= 0.2 * len(OBJECTS) for motion in MOTIONS)


def test_no_structure_ties_held_out_motions_to_kinds_of_objects():
    kinds = {thing.name: thing.category for thing in OBJECTS}
    share = Counter(kinds.values())
    for motion in MOTIONS:
        held = Counter(kinds[name] for name, other in held_out() if other == motion)
        assert all(held[kind] <= 0.5 * share[kind] for kind in share), motion


def test_the_split_is_a_constant():
    # Trained models would be tested on pairs they have seen if these moved.
    assert motions_of("dog", unseen=True) == ("shrink",)
    assert motions_of("red heart", unseen=True) == ("right",)
    assert len(held_out()) == 145


def test_seen_and_unseen_motions_of_an_object_are_all_motions():
    for thing in OBJECTS:
        seen, unseen = (motions_of(thing.name, unseen=flag) for flag in (False, True))
        assert sorted(seen + unseen) == sorted(MOTIONS)
        assert unseen

import dataclasses

import numpy as np
import pytest

from vljepa_jax.data.world import language, phrases
from vljepa_jax.data.world.annotate import annotate_clip
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import BY_NAME
from vljepa_jax.data.world.scene import Actor, Scene, draw_cast, draw_scene

LABELS = language.label_sets()


def annotated(seed, held_out_phrasing=True):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, draw_cast(rng, unseen=False), 8, 8)
    return scene, annotate_clip(scene, "clip", rng, held_out_phrasing=held_out_phrasing)


@pytest.fixture(scope="module")
def clips():
    return [annotated(seed) for seed in range(200)]


def of_kind(annotations, kind):
    return [annotation for annotation in annotations if annotation.tags["kind"] == kind]


def actor(name, motion, x):
    return Actor(
        BY_NAME[name],
        motion,
        np.tile([x, 0.5], (4, 1)),
        np.full(4, 0.2),
        np.zeros(4),
        np.ones(4),
    )


def answer(annotation):
    if isinstance(annotation.candidates, str):
        (text,) = LABELS[annotation.candidates.removeprefix("@labels/")][annotation.gold].texts
        return text
    return annotation.candidates[annotation.gold]


def test_gold_is_the_answer_that_training_gives(clips):
    for _, annotations in clips:
        for annotation in annotations:
            if annotation.candidates:
                assert annotation.texts == (answer(annotation),)


def test_every_clip_has_what_the_benchmarks_need(clips):
    for scene, annotations in clips:
        kinds = [a.tags["kind"] for a in annotations]
        assert kinds.count("motion") == len(scene.actors)
        assert kinds.count("count") == 1
        assert len({a.id for a in annotations}) == len(annotations)
        captions = of_kind(annotations, "caption")
        assert [a.tags["phrasing"] for a in captions] == ["seen", "held_out"]
        assert {a.tags["meaning"] for a in captions} == {scene.meaning}
        assert {a.query for a in captions} == {language.CAPTION_QUERY}


def test_training_clips_hold_no_held_out_phrasing():
    _, annotations = annotated(1, held_out_phrasing=False)
    assert {a.tags["phrasing"] for a in annotations} == {"seen"}


def test_questions_about_motion_are_answered_by_the_scene(clips):
    for scene, annotations in clips:
        moves = {a.thing.name: a.motion for a in scene.actors}
        for annotation in of_kind(annotations, "motion"):
            named = [
                name
                for name in moves
                if f"the {name} " in annotation.query or f"the {name}?" in annotation.query
            ]
            assert annotation.tags["object"] in named
            assert MOTIONS[annotation.gold] == moves[annotation.tags["object"]]


def test_questions_about_objects_have_one_answer(clips):
    for scene, annotations in clips:
        for annotation in of_kind(annotations, "what") + of_kind(annotations, "object"):
            meant = [
                a.thing.name
                for a in scene.actors
                if any(
                    form in annotation.query
                    for phrase in phrases.MOTIONS[a.motion].seen
                    for form in (f" {phrase.verb}?", f" {phrase.gerund}?")
                )
            ]
            if not meant:  # "Which object is shown?"
                meant = [a.thing.name for a in scene.actors]
            assert meant == [answer(annotation)]


def test_presence_is_balanced_and_often_hard(clips):
    similar = 0
    for scene, annotations in clips:
        present = {a.thing.name for a in scene.actors}
        yes, no = of_kind(annotations, "presence")
        assert (answer(yes), answer(no)) == ("yes", "no")
        assert yes.tags["object"] in present
        assert no.tags["object"] not in present
        kinds = {BY_NAME[name].category for name in present}
        similar += BY_NAME[no.tags["object"]].category in kinds
    assert similar / len(clips) > 0.6


def test_the_colour_asked_for_is_of_the_only_one_of_its_kind():
    scene = Scene(
        tuple(
            actor(name, "still", x)
            for name, x in [("red heart", 0.2), ("blue heart", 0.5), ("green book", 0.8)]
        ),
        0,
    )
    annotations = annotate_clip(scene, "x", np.random.default_rng(0), held_out_phrasing=False)
    (colour,) = of_kind(annotations, "colour")
    assert (colour.query, answer(colour)) == ("What colour is the book?", "green")


def test_relations_hold():
    scene = Scene((actor("dog", "spin", 0.8), actor("owl", "grow", 0.2)), 0)
    sides = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        annotations = annotate_clip(scene, "x", rng, held_out_phrasing=False)
        (relation,) = of_kind(annotations, "relation")
        expected = "owl" if "left" in relation.query else "dog"
        assert answer(relation) == expected
        sides.add((expected, relation.gold))
        (layout,) = of_kind(annotations, "layout")
        assert set(layout.texts) == set(language.layouts(BY_NAME["owl"], BY_NAME["dog"]))
    assert len(sides) == 4, "side and order of the candidates both vary"


def test_no_relation_is_asked_of_what_stands_one_above_the_other():
    scene = Scene((actor("dog", "spin", 0.5), actor("owl", "grow", 0.52)), 0)
    annotations = annotate_clip(scene, "x", np.random.default_rng(0), held_out_phrasing=False)
    assert not of_kind(annotations, "relation")


def test_annotations_hold_plain_values(clips):
    def leaves(value):
        if isinstance(value, (tuple, list)):
            for child in value:
                yield from leaves(child)
        elif isinstance(value, dict):
            yield from leaves(list(value.items()))
        else:
            yield value

    for _, annotations in clips[:20]:
        for annotation in annotations:
            kinds = {type(leaf) for leaf in leaves(list(dataclasses.asdict(annotation).items()))}
            assert kinds <= {str, int, type(None)}

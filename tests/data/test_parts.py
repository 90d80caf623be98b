import numpy as np
import pytest

from vljepa_jax.data.parts import Part, Parts

PARTS = (
    Part(10, 30, ("caption", "vqa"), False, {"": 1, "0": 4, "0,1": 5}),
    Part(0, 0, ()),
    Part(7, 9, ("vqa", "state", "caption"), True, {"0": 3, "1": 2, "2": 2}),
    Part(5, 5, ("caption",)),
)


def test_what_goes_in_comes_out():
    parts = Parts(PARTS)
    assert tuple(parts) == PARTS
    assert [parts.tasks(index) for index in range(4)] == [part.tasks for part in PARTS]
    assert parts.media.tolist() == [10, 0, 7, 5]
    assert tuple(Parts(())) == ()


@pytest.mark.parametrize("tasks", [{"caption"}, {"vqa"}, {"state", "caption"}, set(), {"other"}])
def test_records_are_counted_by_their_tasks(tasks):
    expected = [
        -1
        if part.trainable is None
        else sum(
            count
            for key, count in part.trainable.items()
            if tasks & {part.tasks[int(task)] for task in key.split(",") if task}
        )
        for part in PARTS
    ]
    np.testing.assert_array_equal(Parts(PARTS).trainable_records(tasks), expected)
    assert Parts(PARTS).trainable_tasks() == {"caption", "vqa", "state"}
    assert Parts(PARTS).untold == [1, 3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"media": -1},
        {"media": "1"},
        {"tasks": [1]},
        {"tasks": None},
        {"trainable": {"0": 9}},
        {"trainable": {"1": 1}},
        {"trainable": {"x": 1}},
        {"trainable": {"0": 1.0}},
        {"other": 1},
    ],
)
def test_a_damaged_part_is_no_part(wrong):
    sound = {"media": 1, "annotations": 1, "tasks": ["caption"], "trainable": {"0": 1}}
    assert Part.parse(sound) == Part(1, 1, ("caption",), None, {"0": 1})
    with pytest.raises((TypeError, ValueError, LookupError)):
        Part.parse(sound | wrong)

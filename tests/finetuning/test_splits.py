"""What is held out of a table."""

import collections

import pytest

from vljepa_jax.finetuning.columns import Example
from vljepa_jax.finetuning.splits import split_examples
from vljepa_jax.finetuning.tables import TableError


def clips(count, label="", split=""):
    return [Example((f"/{label}/{index}.mp4",), split, label, ()) for index in range(count)]


def counts(examples, splits, label=None):
    chosen = [s for e, s in zip(examples, splits, strict=True) if label in (None, e.label)]
    return collections.Counter(chosen)


def test_shares_are_held_out_of_each_label():
    examples = clips(20, "cat") + clips(20, "dog") + clips(3, "eel")
    splits = split_examples(examples, 0.2, seed=0)
    for label in ("cat", "dog"):
        assert counts(examples, splits, label) == {"train": 14, "validation": 2, "test": 4}
    assert counts(examples, splits, "eel") == {"train": 1, "validation": 1, "test": 1}


def test_the_draw_depends_on_names_and_seed_alone():
    examples = clips(40)
    splits = split_examples(examples, 0.2, seed=0)
    assert split_examples(examples, 0.2, seed=0) == splits
    assert split_examples(examples[::-1], 0.2, seed=0) == splits[::-1]
    assert split_examples(examples, 0.2, seed=1) != splits
    moved = [Example((f"/other{e.media[0]}",), "", "", ()) for e in examples]
    assert split_examples(moved, 0.2, seed=0) == splits


def test_no_medium_is_in_two_splits():
    """Neither directly nor through a row of two media."""
    examples = clips(30) * 3
    examples.append(Example(("//0.mp4", "//1.mp4"), "", "", ()))
    examples.append(Example(("//1.mp4", "//2.mp4"), "", "", ()))
    splits = split_examples(examples, 0.3, seed=0)
    where = collections.defaultdict(set)
    for example, split in zip(examples, splits, strict=True):
        for medium in example.media:
            where[medium].add(split)
    assert {len(own) for own in where.values()} == {1}
    assert where["//0.mp4"] == where["//1.mp4"] == where["//2.mp4"]


def test_splits_of_the_table_stay_and_what_lacks_is_drawn_of_its_training_clips():
    trained, tested = clips(20, "a", "Train"), clips(5, "b", "test")
    splits = split_examples(trained + tested, 0.2, seed=0)
    assert splits[20:] == ["test"] * 5
    assert collections.Counter(splits[:20]) == {"train": 18, "validation": 2}
    valid = clips(5, "c", "val")
    splits = split_examples(trained + valid, 0.2, seed=0)
    assert splits[20:] == ["validation"] * 5
    assert collections.Counter(splits[:20]) == {"train": 16, "test": 4}


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (clips(1), "1 clip is too few to hold any out"),
        (clips(2, "a") + clips(1, "b"), "3 clips are too few to hold any out"),
        (clips(9, "a", "fold1"), "the split 'fold1' is none of train"),
        (clips(9, "a", "test"), "none is 'train'"),
        (clips(9, "a", "train") + clips(1, "a", "test"), "some clip of the split 'test' is in"),
    ],
)
def test_what_cannot_be_held_out_is_one_clear_error(examples, message):
    with pytest.raises(TableError, match=message):
        split_examples(examples, 0.2, seed=0)

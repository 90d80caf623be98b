"""Parts of the report page, from what was measured to what is shown."""

from vljepa_jax.evals.figures import training_curves
from vljepa_jax.evals.gallery import _draw
from vljepa_jax.evals.page import splits_table, unlike_training, what_was_evaluated
from vljepa_jax.evals.protocols.base import Outcome


def metric(split, suffix="", **fields):
    known = {"value": 0.5, "chance": 0.1, "n": 9, "interval": [0.4, 0.6], "unit": "share"}
    place = {"path": "@world", "split": split, "suffix": suffix, "unreadable": 0}
    return known | place | fields


def test_splits_are_columns_of_one_row():
    metrics = {
        "world/motion_top1": metric("test"),
        "world/t2v_r1": metric("test", unreadable=2),
        "world/motion_top1_compositional": metric(
            "test_compositional", "_compositional", value=0.3
        ),
        "clips/vqa": metric("test", path="datasets/clips"),
    }
    content = splits_table(metrics)
    world = content["tables"]["@world"]
    assert world["splits"] == ["test", "test_compositional"]
    assert list(world["rows"]) == ["world/motion_top1", "world/t2v_r1"]
    row = world["rows"]["world/motion_top1"]
    assert [row[split]["value"] for split in world["splits"]] == ["50.0", "30.0"]
    assert row["test_compositional"]["name"] == "world/motion_top1_compositional"
    assert list(world["rows"]["world/t2v_r1"]) == ["test"]
    assert world["rows"]["world/t2v_r1"]["test"]["note"] == 1
    assert content["notes"] == ["Unreadable clips, counted as wrong: 2."]
    assert list(content["tables"]["datasets/clips"]["rows"]) == ["clips/vqa"]


def test_what_was_evaluated_is_said():
    card = {"source": "runs/demo", "step": 400, "parameters": 4_098_897, "frames": 8}
    report = {"model": card | {"image_size": 80}, "metrics": {"a": metric("test")}}
    assert what_was_evaluated(report) == (
        "Checkpoint runs/demo, step 400, 4.1 million parameters, 8 frames of 80 px. Evaluated on "
        "@world: test."
    )
    assert what_was_evaluated({"metrics": {}}) == ""


def test_a_constant_has_no_chart_and_is_told():
    rows = [{"step": step, "loss": 1 / step, "skipped": 0.0, "data/wait": step} for step in (1, 2)]
    figures, told = training_curves([row | {"data/replaced": 0.0} for row in rows])
    assert len(figures) == 2
    assert told == "The same at all steps: skipped 0, data/replaced 0."
    assert training_curves(rows[:1])[1] == ""  # of one step nothing is known to be constant


def outcomes(*ranks):
    return [Outcome(str(i), None, "", (), "", rank) for i, rank in enumerate(ranks)]


def test_right_ones_stand_beside_wrong_ones():
    drawn = _draw(outcomes(*[0] * 30, *[3] * 5, None), judged=True)
    assert [outcome.correct for outcome in drawn] == [True, False, True, False]
    assert [o.correct for o in _draw(outcomes(0, 0, 0, 0, 0, 1), judged=True)].count(False) == 1
    assert len(_draw(outcomes(0, 0, 0, 0, 0), judged=True)) == 4
    assert len(_draw(outcomes(1), judged=True)) == 1
    many = _draw(outcomes(*[1] * 50), judged=False)
    assert many == _draw(outcomes(*[1] * 50), judged=False)
    assert len({outcome.id for outcome in many}) == 4


def test_most_clips_must_be_unlike_to_say_so():
    found = {"a · test": {"clips": 100, "unlike": 51}, "b · test": {"clips": 100, "unlike": 50}}
    (line,) = unlike_training({"unlike": found})
    assert line.startswith("a · test: 51 of 100 clips looked at are unlike")
    assert unlike_training({}) == []

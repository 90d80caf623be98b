"""From official files to the numbers of configs/eval/paper.py:zero_shot, worked out by hand."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import rich.console

from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.official_files import write
from vljepa_jax.config import EvalConfig, load_recipe, parse
from vljepa_jax.data.video import write_mp4
from vljepa_jax.datasets import command
from vljepa_jax.evals.run import write_evaluation

RECIPE = Path(__file__).parents[2] / "configs" / "eval" / "paper.py"


def video(*colours: str) -> bytes:
    """A second of each colour."""
    frames = [np.full((6, 32, 32, 3), COLOURS[colour], np.uint8) for colour in colours]
    return write_mp4(np.concatenate(frames), 6)


def coin(name: str, subset: str) -> dict:
    """A video whose task is shown in its second second."""
    step = {"id": "1", "segment": [1.0, 2.0], "label": "paint"}
    record = {"class": name, "start": 1.0, "end": 2.0, "annotation": [step], "subset": subset}
    return record | {"duration": 2.0, "recipe_type": len(name)}


OFFICIAL = {
    "ssv2": {
        "labels/labels.json": {"red": "0", "green": "1", "blue": "2"},
        "labels/validation.json": [
            {"id": "1", "template": "[red]", "label": "a"},
            {"id": "2", "template": "[red]", "label": "b"},  # which is shown in green: wrong
            {"id": "3", "template": "[blue]", "label": "c"},
            {"id": "4", "template": "[green]", "label": "d"},  # whose video is absent
        ],
        **{f"{i}.webm": video(colour) for i, colour in enumerate(("red", "green", "blue"), 1)},
    },
    "msrvtt_1ka": {
        # Two clips are said to be red; the second is green, as clip 1 is.
        "msrvtt_test.csv": "key,vid_key,video_id,sentence\n"
        "r0,m,v0,red\nr1,m,v1,green\nr2,m,v2,blue\nr3,m,v3,red\n",
        **{
            f"v{i}.mp4": video(colour) for i, colour in enumerate(("red", "green", "blue", "green"))
        },
    },
    "coin_task": {
        "COIN.json": {
            "database": {
                "a": coin("Green", "testing"),
                "b": coin("Blue", "training"),
                "c": coin("Red", "training"),
            }
        },
        "a.mp4": video("red", "green"),
    },
}


@pytest.fixture
def data(tmp_path):
    for name, files in OFFICIAL.items():
        splits = {"ssv2": ("validation",), "coin_task": ("testing",)}.get(name, ())
        status = command.run(
            name,
            root=str(write(tmp_path / "official" / name, files)),
            splits=splits,
            rows=None,
            output=str(tmp_path / "data" / name),
            check=False,
            on_error="skip",
            embed=True,
            num_workers=0,
            console=rich.console.Console(file=io.StringIO()),
        )
        assert status == 0
    return tmp_path / "data"


def test_two_commands_give_the_papers_metrics(data, tmp_path, capsys):
    assert (data / "ssv2" / "absent.txt").read_text() == "20bn-something-something-v2/4.webm\n"
    config = parse(EvalConfig, load_recipe(RECIPE, "zero_shot"))
    config = dataclasses.replace(config, data=str(data))
    write_evaluation(ColourModel(), config, config.benchmarks, tmp_path / "out", skip_empty=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    values = {name: metric["value"] for name, metric in report["metrics"].items()}
    assert values == pytest.approx(
        {
            # Red and blue are right, the green clip that is called red is not.
            "ssv2_top1": 2 / 3,
            "ssv2_top5": 1,
            "ssv2_r1": (1 / 2 + 1) / 2,  # of red and of blue
            # What is shown before the task begins is red.
            "coin_task_top1": 1,
            "coin_task_top5": 1,
            "coin_task_r1": 1,
            # "red" has two clips, of which one is red; "green" finds two that are alike, and a tie
            # does not help: places 1, 2, 1, 1.
            "msrvtt_r1": 3 / 4,
            "msrvtt_r5": 1,
            "msrvtt_r10": 1,
            "msrvtt_median_rank": 1,
            # The green clip that is called red finds "green".
            "msrvtt_v2t_r1": 3 / 4,
            "msrvtt_v2t_r5": 1,
            "msrvtt_v2t_r10": 1,
            "msrvtt_v2t_median_rank": 1,
        }
    )
    # What is missing is told: the published sets are larger.
    top1, printed = report["metrics"]["ssv2_top1"], " ".join(capsys.readouterr().out.split())
    assert (top1["n"], top1["expected"], top1["missing"]) == (3, 24_777, 24_774)
    assert "ssv2_top1 is partial: 3 of 24,777 examples" in printed
    assert "msrvtt_r1 is partial: 4 of 1,000 examples" in printed
    assert "Partial: 4 of 1,000 examples." in (tmp_path / "out" / "report.html").read_text()
    # The others are named, none is left out in silence.
    served = {"ssv2", "msrvtt", "coin_task"}
    assert len(report["skipped"]) == len(config.benchmarks) - len(served)
    assert not served & report["skipped"].keys()
    assert f"no {data}/didemo: python launch/prepare.py --dataset=didemo" in printed

"""Streams of a dataset: Ego-Exo4D's descriptions, from its official files to the report."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import rich.console

from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.official_files import write
from vljepa_jax.config import ConfigError, EvalConfig, load_recipe, parse
from vljepa_jax.data.datasets import AbsentDatasetError
from vljepa_jax.data.video import write_mp4
from vljepa_jax.datasets import command
from vljepa_jax.evals.run import write_evaluation

RECIPE = Path(__file__).parents[3] / "configs" / "eval" / "paper.py"
NAME = "egoexo4d_atomic_descriptions"
# Seconds of each colour, one after another.
SHOWN = {"take_1": (7, 2, 9), "take_2": (3, 8, 5), "take_3": (6, 6, 4), "take_4": (5, 5, 5)}
SCENARIOS = ("Cooking", "Health", "Bike Repair", "Soccer")


def spans(name):
    ends = np.cumsum(SHOWN[name])
    return zip(COLOURS, ends - SHOWN[name], ends, strict=False)


def film(name):
    """Four frames a second."""
    shown = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in COLOURS.values()])
    return write_mp4(np.repeat(shown, [4 * seconds for seconds in SHOWN[name]], axis=0), 4)


def described(name, annotator):
    return {
        "annotation_uid": f"{name}-{annotator}",
        "annotator_id": annotator,
        "rejected": "0",
        "descriptions": [
            {"text": colour, "timestamp": second + 0.5, "ego_visible": True}
            for colour, start, end in spans(name)
            for second in range(start, end)
        ],
    }


@pytest.fixture
def data(tmp_path):
    """Three procedural takes, of which one has two annotators, and a fourth of another scenario."""
    takes = [
        {"take_uid": name, "take_name": name, "parent_task_name": scenario}
        for name, scenario in zip(SHOWN, SCENARIOS, strict=True)
    ]
    annotations = {name: [described(name, "7")] for name in SHOWN}
    annotations["take_2"].append(described("take_2", "8"))
    folder = "frame_aligned_videos/downscaled/448/aria01_214-1.mp4"
    files = {
        "takes.json": takes,
        "annotations/atomic_descriptions_val.json": {"annotations": annotations},
        # All colours' names, to choose from.
        "annotations/atomic_descriptions_train.json": {
            "annotations": {"take_4": [described("take_4", "9")]}
        },
        **{f"takes/{name}/{folder}": film(name) for name in SHOWN},
    }
    root = write(tmp_path / "official", files)
    status = command.run(
        NAME,
        root=str(root),
        splits=(),
        rows=None,
        output=str(tmp_path / "data" / NAME),
        check=False,
        on_error="skip",
        embed=False,
        num_workers=0,
        console=rich.console.Console(file=io.StringIO()),
    )
    assert status == 0
    (root / "takes" / "take_3" / folder).unlink()
    return tmp_path / "data"


def study(folder):
    config = parse(EvalConfig, load_recipe(RECIPE, "streaming"))
    assert not config.benchmarks
    stream = dataclasses.replace(config.stream, window=1.0, rates=(1.0, 0.5, 0.2, 0.1))
    return dataclasses.replace(config, stream=stream, data=str(folder))


def test_descriptions_of_takes_are_streams(data, tmp_path, capsys):
    config = study(data)
    write_evaluation(ColourModel(), config, (), tmp_path / "out", config.stream)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (part,) = report["streams"]["sets"]
    # The two annotators of take 2 are two streams; take 3 is gone; take 4 is no procedure.
    assert (part["streams"], part["expected"], part["missing"]) == (3, 218, 216)
    assert part["annotations"] == sum(SHOWN["take_1"]) + 2 * sum(SHOWN["take_2"])
    assert list(part["unreadable"]) == ["take_3-7"]
    metric = report["metrics"]["stream/decoding_reduction"]
    assert (metric["path"], metric["split"], metric["unreadable"]) == (f"@data/{NAME}", "val", 1)
    assert metric["decoder"] == "nearest of 3 training captions (no Y-Decoder)"
    # Three segments of 16 to 18 s, one a colour, say more than three evenly spaced ones, of which
    # some show two colours.
    curves = part["curves"]
    best = curves["uniform/averaged"][0]["cider"]
    chosen = {round(p["rate"], 1): p["cider"] for p in curves["offline/averaged"]}
    spaced = {round(p["rate"], 1): p["cider"] for p in curves["uniform/averaged"]}
    assert part["cider_blind"] < spaced[0.2] < chosen[0.2] < best
    printed = " ".join(capsys.readouterr().out.split())
    assert "unreadable, left out: record 'take_3-7':" in printed
    assert "stream/decoding_reduction is partial: 2 of 218 examples" in printed
    page = (tmp_path / "out" / "report.html").read_text().replace("<wbr>", "")
    assert f"egoexo4d: @data/{NAME}, val" in page
    assert "Unreadable clips, left out: 1." in page


def test_streams_that_are_not_there_are_skipped_or_refused(data, tmp_path):
    config = study(tmp_path / "nothing")
    with pytest.raises(AbsentDatasetError, match=f"prepare.py --dataset={NAME}"):
        write_evaluation(ColourModel(), config, (), tmp_path / "out", config.stream)
    with pytest.raises(ConfigError, match=f"(?s)nothing to evaluate on.*--dataset={NAME}"):
        write_evaluation(
            ColourModel(), config, (), tmp_path / "out", config.stream, skip_empty=True
        )
    (part,) = config.stream.sets
    for change, message in (
        ({"tags": {"scenario": ("Golf",)}}, "streams 'egoexo4d': no annotation of @data/egoexo4d"),
        ({"split": "test"}, "has no split 'test'"),
        ({"bank_split": "none"}, "writes no texts, and"),
    ):
        sets = (dataclasses.replace(part, **change),)
        stream = dataclasses.replace(config.stream, sets=sets)
        with pytest.raises((ConfigError, AbsentDatasetError), match=message):
            write_evaluation(
                ColourModel(),
                dataclasses.replace(config, stream=stream, data=str(data)),
                (),
                tmp_path / "out",
                stream,
            )

"""Results on disk: each is written when it is scored, and is not measured again."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.colour_model import COLOURS, ColourModel
from vljepa_jax.config import BenchmarkConfig, ChooseConfig, EvalConfig, RetrieveConfig
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.run import write_evaluation, write_sweep

ROOT = Path(__file__).parents[2]
CLIPS = 12  # of each split


def write_pictures(folder: Path) -> str:
    """Pictures with a question and a caption each, in two splits."""

    def record(split: str, number: int) -> Record:
        colour = list(COLOURS)[number % 3]
        path = folder / f"{split}-{number}.png"
        Image.new("RGB", (20 + number, 20), COLOURS[colour]).save(path)
        asked = Annotation(
            f"{split}-{number}", "vqa", "colour", candidates=tuple(COLOURS), gold=number % 2
        )
        said = Annotation(f"{split}-{number}-said", "caption", texts=(f"{colour} {number}",))
        return Record(f"{split}-{number}", (Medium(path=str(path)),), (asked, said))

    splits = {split: [record(split, i) for i in range(CLIPS)] for split in ("one", "two")}
    write_dataset(folder / "d", splits, name="d", description="", labels={})
    return str(folder / "d")


def benchmarks_of(dataset: str) -> tuple[BenchmarkConfig, ...]:
    return tuple(
        BenchmarkConfig(f"p/{name}", f"_{split}", protocol, dataset, split, {"task": task}, None, 0)
        for split in ("one", "two")
        for name, protocol, task in (
            ("vqa", ChooseConfig(), "vqa"),
            ("t2v", RetrieveConfig(), "caption"),
        )
    )


@pytest.fixture
def dataset(tmp_path):
    return write_pictures(tmp_path)


def run(dataset, output, model=None, benchmarks=None, **how):
    model = model or ColourModel()
    benchmarks = benchmarks or benchmarks_of(dataset)
    config = EvalConfig(0, 2, None, 0, benchmarks, None)
    cache = output / "embeddings"
    write_evaluation(model, config, benchmarks, output, cache=cache, **how)
    return model.encoded, json.loads((output / "report.json").read_text())["metrics"]


def test_a_killed_evaluation_goes_on(dataset, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, str(ROOT / "tests/programs/interrupted_eval.py"), dataset]
    killed = subprocess.run([*command, str(output), "16"], cwd=ROOT, env=environment())
    assert killed.returncode == -9
    encoded = len((output / "encoded").read_text().split())
    # The first split is done and written, the second is half done.
    assert encoded == 16 + ColourModel.batch_size
    done = json.loads((output / "report.json").read_text())["metrics"]
    assert done.keys() == {"p/vqa_top1_one", "p/t2v_r1_one", "p/t2v_r5_one"}
    subprocess.run([*command, str(output), "99"], cwd=ROOT, env=environment(), check=True)
    again = len((output / "encoded").read_text().split()) - encoded
    assert again == 2 * CLIPS - 16
    _, unbroken = run(dataset, tmp_path / "unbroken")
    assert json.loads((output / "report.json").read_text())["metrics"] == unbroken


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def test_what_is_done_is_not_measured_again(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    encoded, first = run(dataset, output)
    page = (output / "report.html").read_text()
    assert encoded == 2 * CLIPS
    stamps = {p: p.stat().st_mtime_ns for p in output.rglob("result.json")}
    assert len(stamps) == 4
    capsys.readouterr()
    encoded, again = run(dataset, output)
    assert (encoded, again) == (0, first)
    assert {p: p.stat().st_mtime_ns for p in output.rglob("result.json")} == stamps
    assert "measured before" in capsys.readouterr().out
    # The page has the same examples, read back from the predictions.
    cards = page.count("data:image/webp")
    assert (output / "report.html").read_text().count("data:image/webp") == cards > 0
    # Asked for, it is scored again, and what is embedded serves.
    assert run(dataset, output, again=True) == (0, first)
    assert {p: p.stat().st_mtime_ns for p in output.rglob("result.json")} != stamps


def test_what_changes_a_result_is_measured_anew(dataset, tmp_path):
    output = tmp_path / "out"
    run(dataset, output)
    before = {path: path.read_text() for path in output.rglob("result.json")}

    def changed(**how):
        metrics = run(dataset, output, **how)[1]
        now = {path: path.read_text() for path in output.rglob("result.json")}
        names = {path.parent.name for path in now if now[path] != before[path]}
        before.update(now)
        return names, metrics

    everything = {"vqa_one", "t2v_one", "vqa_two", "t2v_two"}
    vqa, *others = benchmarks_of(dataset)
    limited = dataclasses.replace(vqa, limit=5)
    names, metrics = changed(benchmarks=(limited, *others))
    assert names == {"vqa_one"}
    assert (metrics["p/vqa_top1_one"]["n"], metrics["p/vqa_top1_one"]["missing"]) == (5, 7)
    names, _ = changed()
    assert names == {"vqa_one"}
    other = ColourModel()
    other.fingerprint = "other"
    other.card = ColourModel.card | {"fingerprint": "other"}
    assert changed(model=other)[0] == everything
    written = Path(dataset, "dataset.json")
    written.touch()  # as a dataset that is made anew
    assert changed(model=other)[0] == everything


def test_with_an_unreadable_clip_a_benchmark_is_not_done(dataset, tmp_path):
    output, file = tmp_path / "out", tmp_path / "one-0.png"
    picture = file.read_bytes()
    file.write_bytes(b"none")
    _, metrics = run(dataset, output)
    assert metrics["p/vqa_top1_one"]["unreadable"] == 1
    file.write_bytes(picture)
    encoded, metrics = run(dataset, output)
    assert (encoded, metrics["p/vqa_top1_one"]["unreadable"]) == (1, 0)


def test_predictions_have_a_line_an_example(dataset, tmp_path):
    _, metrics = run(dataset, tmp_path / "out")
    folder = tmp_path / "out" / "results" / "p" / "vqa_one"
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["example"] for line in lines] == [f"one-{i}" for i in range(CLIPS)]
    assert lines[0]["answer"] == lines[0]["gold"] == "red"
    assert (lines[0]["correct"], lines[0]["rank"]) == (True, 0)
    assert [option["item"] for option in lines[0]["options"]][0] == "red"
    assert (lines[2]["answer"], lines[2]["gold"], lines[2]["correct"]) == ("blue", "red", False)
    share = sum(line["correct"] for line in lines) / CLIPS
    assert share == metrics["p/vqa_top1_one"]["value"]
    found = (tmp_path / "out/results/p/t2v_one/predictions.jsonl").read_text().splitlines()
    assert json.loads(found[3])["gold"] == {"record": 3, "media": [0]}


def test_a_killed_sweep_goes_on(dataset, tmp_path):
    """The model of the second setting fails; the first setting is not measured again."""
    benchmarks = benchmarks_of(dataset)[:1]
    settings = [
        ((str(frames),), EvalConfig(frames, 2, None, 0, benchmarks, None)) for frames in (2, 4)
    ]
    models = []

    def sweep(fails):
        def load(config):
            if config.frames == fails:
                raise KeyboardInterrupt
            models.append(ColourModel())
            models[-1].video = dataclasses.replace(ColourModel.video, frames=config.frames)
            return models[-1]

        write_sweep(load, ["frames"], settings, tmp_path, cache=tmp_path / "kept")

    with pytest.raises(KeyboardInterrupt):
        sweep(fails=4)
    report = tmp_path / "sweep_frames" / "report.json"
    assert [run["values"] for run in json.loads(report.read_text())["sweep"]["runs"]] == [["2"]]
    sweep(fails=0)
    assert [model.encoded for model in models] == [CLIPS, 0, CLIPS]
    assert [run["values"] for run in json.loads(report.read_text())["sweep"]["runs"]] == [
        ["2"],
        ["4"],
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("result.json", "{", "result.json: is no JSON"),
        ("result.json", '{"metrics": 3}', "result.json: is damaged"),
        ("predictions.jsonl", "[]\n", "predictions.jsonl, line 1: is no prediction"),
    ],
)
def test_a_damaged_result_is_named(dataset, tmp_path, name, text, told):
    (benchmark, *_) = benchmarks_of(dataset)
    run(dataset, tmp_path / "out", benchmarks=(benchmark,))
    path = tmp_path / "out/results/p/vqa_one" / name
    path.write_text(text)
    with pytest.raises(EvaluationError, match=f"{told}.*; remove it, and the benchmark"):
        run(dataset, tmp_path / "out", benchmarks=(benchmark,))

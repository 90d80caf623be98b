"""The paper's tables with rows of one's own, and two runs pair by pair."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from vljepa_jax.config import ConfigError, EvalConfig, load_recipe, parse
from vljepa_jax.evals.benchmarks import metric_name
from vljepa_jax.evals.comparison import compare, compare_averages
from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.evals.spread import write_spread
from vljepa_jax.evals.tables import read_paper, write_tables
from vljepa_jax.terminal import PlainConsole

ROOT = Path(__file__).parents[2]


def metric(value, **fields):
    interval = [value - 0.01, value + 0.01]
    how = {"chance": 0.1, "n": 100, "unit": "share", "unreadable": 0, "expected": 100, "missing": 0}
    return {"value": value, "interval": interval, **how, **fields}


def write_report(folder, metrics):
    folder.mkdir(parents=True)
    report = {"metrics": metrics, "model": {"parameters": 1_600_000_000}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def predictions(folder, name, lines):
    path = folder / "results" / name
    path.mkdir(parents=True)
    made = [{"values": {}, **line} for line in lines]
    (path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))


def test_the_papers_columns_are_metrics_that_its_config_measures():
    config = parse(EvalConfig, load_recipe(ROOT / "configs" / "eval" / "paper.py"))
    measured = {
        metric_name(benchmark, ending)
        for benchmark in config.benchmarks
        for ending in make_protocol(benchmark).suffixes
    }
    tables = read_paper()["tables"]
    columns = {column["metric"] for table in tables for column in table["columns"]}
    assert columns <= measured
    assert len(columns) == sum(len(table["columns"]) for table in tables)


def test_the_papers_rows_are_whole_and_its_averages_are_means():
    tables = read_paper()["tables"]
    for table in tables:
        assert all(len(row["values"]) == len(table["columns"]) for row in table["rows"])
    averaged = [table for table in tables if table["average"]]
    for table in averaged:
        for row in table["rows"]:
            if row["average"] is not None:
                # Of figures that are rounded to a tenth.
                assert abs(np.mean(row["values"]) - row["average"]) < 0.06, row["name"]
    names = {row["name"] for table in tables for row in table["rows"]}
    assert names >= {"CLIP ViT-L", "SigLIP2 ViT-g", "PE-Core ViT-G", "VL-JEPA BASE", "VL-JEPA SFT"}
    assert names >= {"InstructBLIP Vicuna-13B", "Qwen-VL-Chat-7B"}


@pytest.fixture
def runs(tmp_path):
    paper = read_paper()["tables"]
    columns = [column["metric"] for column in paper[0]["columns"]]
    whole = {name: metric(0.1 * (i + 1)) for i, name in enumerate(columns)}
    part = dict(whole)
    part["ssv2_top1"] = metric(0.5, expected=24_777, missing=14_777)
    part["mine_cider"] = metric(61.25, unit="cider")
    del part["coin_task_top1"]
    unreadable = whole | {"ek100_top1": metric(0.3, unreadable=7)}
    reports = {"whole": whole, "part": part, "unreadable": unreadable}
    return {name: write_report(tmp_path / name, found) for name, found in reports.items()}


def test_a_run_is_a_row_below_the_papers(runs, tmp_path):
    tables = write_tables(runs, tmp_path / "out")
    # None of them has any figure of the paper's other tables.
    assert [table.title.split(":")[0] for table in tables] == [
        "Table 1",
        "All else that was measured, with 95 % intervals",
    ]
    text = (tmp_path / "out" / "tables.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    cited = next(row for row in rows if row.startswith("| VL-JEPA SFT"))
    assert cited == (
        "| VL-JEPA SFT | cited | 1.6B | 3.6B | 73.2 | 44.6 | 68.1 | 84.8 | 66.4 | 90.3 | 79.8 "
        "| 96.2 | 75.4 |"
    )
    whole = next(row for row in rows if row.startswith("| whole"))
    assert whole == (
        "| whole | measured | 1.6B | – | 10.0 | 20.0 | 30.0 | 40.0 | 50.0 | 60.0 | 70.0 | 80.0 "
        "| 45.0 |"
    )
    assert rows.index(whole) > rows.index(cited)
    assert "arXiv 2512.10942" in text


def test_what_is_missing_is_told_and_never_averaged(runs, tmp_path):
    write_tables(runs, tmp_path / "out")
    text = (tmp_path / "out" / "tables.md").read_text()
    part = next(line for line in text.splitlines() if line.startswith("| part"))
    assert part.startswith("| part | measured | 1.6B | – | 50.0 (1) | 20.0 |")
    assert part.endswith("| 50.0 | – | 70.0 | 80.0 | – (2) |")
    assert "(1) Partial: 10,000 of 24,777 examples." in text
    assert "(2) No average: 7 of 8 were measured, 1 of these in part." in text
    unreadable = next(line for line in text.splitlines() if line.startswith("| unreadable"))
    assert unreadable.endswith("| – (4) |")
    assert "(3) Unreadable clips, counted as wrong: 7." in text
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "tables.csv").read_text())))
    (found,) = [x for x in lines if x["row"] == "part" and x["column"] == "SSv2"]
    assert (found["value"], found["note"]) == ("50.0", "Partial: 10,000 of 24,777 examples.")
    page = (tmp_path / "out" / "tables.html").read_text()
    for shown in ("VL-JEPA SFT", "cited", "Partial: 10,000 of 24,777 examples.", "mine_cider"):
        assert shown in page.replace("<wbr>", "")
    assert "<link" not in page


def test_a_directory_without_a_report_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nothing' has no report.json with metrics"):
        write_tables({"a": tmp_path / "nothing"}, tmp_path / "out")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([1], "report.json: its metrics are no objects by name; remove it"),
        ({"a": 3}, "report.json: its metrics are no objects by name; remove it"),
        ({"a": {"value": 1, "chance": 0, "n": 3}}, "metric 'a' has no 'unit'; evaluate again"),
    ],
)
def test_a_damaged_report_is_named(tmp_path, metrics, message):
    folder = write_report(tmp_path / "a", metrics)
    with pytest.raises(ConfigError, match=message):
        write_tables({"a": folder}, tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        write_spread([folder, folder], tmp_path / "out", PlainConsole())


def test_two_runs_are_compared_on_the_same_examples(tmp_path):
    """Against scipy's paired bootstrap; interval and mean to a percent point."""
    rng = np.random.default_rng(0)
    easy = rng.random(400)
    right = [rng.random(400) < 0.2 + 0.7 * easy, rng.random(400) < 0.1 + 0.7 * easy]
    for name, own in zip("ab", right, strict=True):
        lines = [{"example": f"e{i}", "correct": bool(c)} for i, c in enumerate(own)]
        predictions(tmp_path / name, "w/vqa", lines[::-1] if name == "b" else lines)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert (found.benchmark, found.measure, found.pairs) == ("w/vqa", "right", 400)
    means = [100 * own.mean() for own in right]
    assert (found.first, found.second) == pytest.approx(means)
    assert found.difference == pytest.approx(means[0] - means[1])
    reference = scipy.stats.bootstrap(
        [100.0 * own for own in right],
        lambda x, y, axis: np.mean(x, axis) - np.mean(y, axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.interval == pytest.approx((reference.low, reference.high), abs=0.6)
    # Unpaired it would be wider: the same examples are easy for both.
    spread = np.sqrt(sum(own.var() for own in right) / 400) * 196
    assert found.interval[1] - found.interval[0] < 2 * spread


def test_means_over_groups_are_compared_pair_by_pair(tmp_path):
    """Recall at 2 of three classes of 200, 60 and 20; against an own loop over resampled pairs."""
    rng = np.random.default_rng(2)
    groups = np.repeat(["a", "b", "c"], [200, 60, 20])
    ranks = {"a": rng.integers(0, 4, 280), "b": rng.integers(0, 5, 280)}
    ranks["b"][:200] = ranks["a"][:200]  # the large class is the same for both
    for name, own in ranks.items():
        lines = [
            {"example": str(i), "correct": bool(rank == 0), "rank": int(rank), "group": group}
            for i, (rank, group) in enumerate(zip(own, groups, strict=True))
        ]
        predictions(tmp_path / name, "ek", lines)
        summary = tmp_path / name / "results" / "ek" / "result.json"
        summary.write_text(json.dumps({"over_groups": {"_r2": 2}}))
    right, recall = compare(tmp_path / "a", tmp_path / "b")
    assert (right.measure, recall.measure, recall.pairs) == ("right", "_r2", 280)
    hits = {name: 100.0 * (own < 2) for name, own in ranks.items()}
    members = [groups == group for group in "abc"]
    means = [np.mean([own[of].mean() for of in members]) for own in hits.values()]
    assert (recall.first, recall.second) == pytest.approx(means)
    assert recall.difference == pytest.approx(means[0] - means[1])
    assert right.difference != pytest.approx(recall.difference, abs=1)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(280, size=280)
        inside = [rows[of[rows]] for of in members]
        drawn.append(np.mean([(hits["a"] - hits["b"])[i].mean() for i in inside if len(i)]))
    assert recall.interval == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), abs=0.8)


def test_averages_over_benchmarks_are_compared_where_both_have_all_of_them(tmp_path):
    table = read_paper()["tables"][0]
    rng = np.random.default_rng(3)
    right = {name: rng.random((8, 50)) < share for name, share in (("a", 0.6), ("b", 0.5))}
    for name, own in right.items():
        write_report(tmp_path / name, {c["metric"]: metric(0.5) for c in table["columns"]})
        for column, shares in zip(table["columns"], own, strict=True):
            benchmark = column["metric"].removesuffix("_top1")
            lines = [{"example": str(i), "correct": bool(c)} for i, c in enumerate(shares)]
            predictions(tmp_path / name, benchmark, lines)
            summary = {"metrics": {column["metric"]: {}}, "unreadable": []}
            summary |= {"settings": {"benchmark": {"expected": 50}}, "examples": 50, "there": 50}
            path = tmp_path / name / "results" / benchmark / "result.json"
            path.write_text(json.dumps(summary))
    runs = {name: tmp_path / name for name in "ab"}
    names = [column["metric"] for column in table["columns"]]
    found = compare_averages("Table 1", names, *runs.values())
    apart = 100 * (right["a"] * 1.0 - right["b"])
    assert (found.pairs, found.difference) == (400, pytest.approx(apart.mean()))
    # Benchmarks of one size: the variance within each, not that between them.
    spread = 1.96 * np.sqrt(apart.var(axis=1).mean() / 400)
    expected = (apart.mean() - spread, apart.mean() + spread)
    assert found.interval == pytest.approx(expected, abs=0.7)
    write_tables(runs, tmp_path / "out", [("a", "b")])
    text = (tmp_path / "out" / "tables.md").read_text()
    assert f"| {table['title']} average | {100 * right['a'].mean():.1f} |" in text
    # In part, it is none.
    path.write_text(json.dumps(summary | {"examples": 49}))
    assert compare_averages("Table 1", names, *runs.values()) is None


def test_examples_of_one_run_alone_are_counted(tmp_path):
    captions = [{"example": "e0", "correct": True}, {"example": "e0", "correct": False}]
    predictions(tmp_path / "a", "t2v", [*captions, {"example": "e1", "correct": True}])
    predictions(tmp_path / "b", "t2v", [*captions, {"example": "e2", "correct": True}])
    predictions(tmp_path / "b", "alone", captions)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert (found.pairs, found.alone, found.difference) == (2, (1, 1), 0)
    for name in "ab":
        (tmp_path / name / "report.json").write_text(
            json.dumps({"metrics": {"t2v_r1": metric(0.5)}})
        )
    runs = {name: tmp_path / name for name in "ab"}
    write_tables(runs, tmp_path / "out", [("a", "b")])
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "| t2v right (1) | 50.0 | 50.0 | +0.0 | +0.0 to +0.0 | 2 |" in text
    assert "(1) Partial: 2 examples are in both runs; 1 are in a alone and 1 in b alone." in text


def test_what_cannot_be_compared_is_named(tmp_path):
    predictions(tmp_path / "a", "vqa", [{"example": "e0", "correct": True}])
    with pytest.raises(EvaluationError, match="have no benchmark in common"):
        compare(tmp_path / "a", tmp_path / "b")
    predictions(tmp_path / "b", "vqa", [{"example": "other", "correct": True}])
    with pytest.raises(EvaluationError, match="'vqa': the two runs have no example in common"):
        compare(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "results" / "vqa" / "predictions.jsonl").write_text('{"example": 1}\n')
    with pytest.raises(EvaluationError, match="predictions.jsonl, line 1: is no prediction"):
        compare(tmp_path / "a", tmp_path / "b")


def test_the_command_writes_and_refuses(runs, tmp_path):
    def tables(*arguments):
        command = [sys.executable, "launch/tables.py", f"--output={tmp_path}/out", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = tables(f"--runs=mine={runs['whole']},{runs['part']}")
    assert done.returncode == 0, done.stderr
    assert "| mine | measured |" in done.stdout
    assert "| part | measured |" in done.stdout
    for arguments, message in (
        ([f"--runs={runs['whole']},{runs['whole']}"], "two are called 'whole': write NAME="),
        ([f"--runs={runs['whole']}", "--compare=whole,other"], "--compare: give two of whole"),
        ([f"--runs={tmp_path}/none"], "has no report.json with metrics"),
    ):
        done = tables(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert message in done.stderr

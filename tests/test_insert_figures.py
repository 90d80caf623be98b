"""The figures in the docs are those of the files that commands wrote."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "insert_figures.py"))
insert = SCRIPT["insert"]
METRIC = {"value": 0.71904, "chance": 0.0812, "interval": [0.69577, 0.7412], "unit": "share"}
CONTENT = {
    "metrics": {"a/top_1": METRIC, "cider": METRIC | {"value": 81.44, "unit": "cider"}},
    "curve": [{"rate": 24576}, {"rate": 0.5}],
    "label": "VLM",
    "section": {
        "columns": {"top5": [], "cider": []},
        "variants": {
            "a": {
                "label": "A",
                "columns": {
                    "top5": {"value": 0.5, "interval": [0.4, 0.6], "paper": 0.41},
                    "cider": {"value": 80.0, "interval": [70.0, 90.0], "paper": None},
                },
            }
        },
    },
}


@pytest.fixture
def figures(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(CONTENT))
    return tmp_path


def marked(template, now="old"):
    return f"<!-- figures report.json {template}-->{now}<!-- end of figures -->"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{metrics a/top_1}", "71.9 (69.6–74.1)"),
        ("{metrics a/top_1 chance}", "8.1"),
        ("{metrics cider value}", "81.4"),
        ("{curve 0 rate : ,} of {label}", "24,576 of VLM"),
        ("{1000 * curve -1 rate : .0f} ms", "500 ms"),
    ],
)
def test_a_figure_is_put_in(figures, template, shown):
    page = f"before {marked(template)} after"
    assert insert(page, figures) == f"before {marked(template, shown)} after"
    assert insert(insert(page, figures), figures) == insert(page, figures)


def test_a_section_of_a_study_is_a_table(figures):
    """The paper's figure where it has one; CIDEr is times 100 already."""
    rows = ["|  | top5 | paper | cider |", "| --- | --- | --- | --- |"]
    rows.append("| A | 50.0 (40.0–60.0) | 41.0 | 80.0 (70.0–90.0) |")
    shown = "\n".join(["-->", *rows, "<!-- end of figures -->"])
    assert insert(marked("\n{section}\n", ""), figures).endswith(shown)


def test_a_table_has_lines_of_its_own(figures):
    page = marked("\n| a | {metrics cider value} |\n", "")
    assert insert(page, figures).endswith("-->\n| a | 81.4 |\n<!-- end of figures -->")


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (marked("{metrics b}"), "has no figure {metrics b}"),
        (marked("{label value}"), "has no figure"),
        (marked("{label}").replace("report", "gone"), "there is no .*gone.json"),
        ("<!-- figures report.json {label}-->VLM", "no end"),
    ],
)
def test_what_is_not_there_is_an_error(figures, page, message):
    with pytest.raises(ValueError, match=message):
        insert(page, figures)


def test_the_pages_hold_what_the_files_say():
    assert SCRIPT["main"](["--check"]) == 0, "run python docs/insert_figures.py"

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_adapters_declare():
    page = runpy.run_path(str(DOCS / "make_datasets.py"))["page"]()
    written = (DOCS / "datasets.md").read_text(encoding="utf-8")
    assert written == page, "run python docs/make_datasets.py"

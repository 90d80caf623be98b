"""Puts figures from files that commands wrote into README.md and the pages of docs/.

    python docs/insert_figures.py            # renews what the markers hold
    python docs/insert_figures.py --check    # status 1, and the pages' names, if that changes any

A marker names a file of docs/figures/ and has a template; what stands between it and its end is
the template with the figures in it, and is written by this command:

    <!-- figures demo.json {metrics world/motion_top1} -->71.9 (69.6–74.1)<!-- end of figures -->

The template may have many lines, a table for example. {KEY KEY ...} is where the figure lies in the
file, whole numbers being places in a list. A metric of a report is shown with its interval, shares
in percent, and a section of a study as a table of its variants beside the paper's figures; {100 *
KEY ... : .1f} multiplies any number, and formats it as Python does.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_MARKER = re.compile(r"(<!-- figures (\S+)\s(.*?)-->)(.*?)(<!-- end of figures -->)", re.DOTALL)
_FIGURE = re.compile(r"\{(?:([\d.]+) \* )?([^{}]+?)(?: : (\S+))?\}")


def insert(page: str, figures: Path) -> str:
    """The page with the figures of a folder in its markers.

    Raises:
        ValueError: a file or a figure is not there, or a marker has no end.
    """
    if page.count("<!-- figures ") != len(_MARKER.findall(page)):
        raise ValueError("a marker has no file, no template or no end")
    return _MARKER.sub(lambda marker: _filled(marker, figures), page)


def _filled(marker: re.Match[str], figures: Path) -> str:
    head, name, template, _, end = marker.groups()
    path = figures / name
    if not path.is_file():
        raise ValueError(f"there is no {path}")
    content = json.loads(path.read_text())

    def figure(found: re.Match[str]) -> str:
        factor, keys, spec = found.groups()
        try:
            return _shown(content, keys.split(), float(factor or 1), spec)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{name} has no figure {found.group()} ({error!r})") from error

    text = _FIGURE.sub(figure, template)
    # A table needs lines of its own.
    return head + (f"\n{text.strip()}\n" if "\n" in template else text.strip()) + end


def _shown(content: Any, keys: list[str], factor: float, spec: str | None) -> str:
    above = None
    for key in keys:
        above, content = content, content[int(key) if isinstance(content, list) else key]
    if isinstance(content, dict) and "variants" in content:
        return _section(content)
    if isinstance(content, dict):  # a metric
        scale = 100 if content["unit"] == "share" else 1
        low, high = (f"{scale * end:.1f}" for end in content["interval"])
        return f"{scale * content['value']:.1f} ({low}–{high})"
    if isinstance(content, str):
        return content
    if isinstance(above, dict) and above.get("unit") == "share" and keys[-1] == "chance":
        factor *= 100
    return format(factor * content if factor != 1 else content, spec or ".1f")


def _section(section: dict[str, Any]) -> str:
    """A variant a row: each column with its interval, and the paper's where it has any."""
    columns = {
        name: any(of["columns"][name]["paper"] is not None for of in section["variants"].values())
        for name in section["columns"]
    }
    heads = [head for name, cited in columns.items() for head in [name, "paper"][: 1 + cited]]
    lines = [["", *heads], ["---"] * (1 + len(heads))]
    for variant in section["variants"].values():
        cells = [variant["label"]]
        for name, cited in columns.items():
            found, scale = variant["columns"][name], 1 if name == "cider" else 100
            value, low, high, paper = (
                "–" if number is None else f"{scale * number:.1f}"
                for number in (found["value"], *found["interval"], found["paper"])
            )
            cells += [f"{value} ({low}–{high})", paper][: 1 + cited]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__)
        return 2
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        try:
            renewed = insert(page, ROOT / "docs" / "figures")
        except ValueError as error:
            print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)
            return 1
        if renewed != page:
            stale.append(str(path.relative_to(ROOT)))
            if not arguments:
                path.write_text(renewed, encoding="utf-8")
    if arguments and stale:
        print(f"{', '.join(stale)}: run python docs/insert_figures.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

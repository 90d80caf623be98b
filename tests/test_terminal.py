"""Texts of others stay what they are, wherever they are shown."""

import io
import json

import numpy as np
import pytest
import rich.table

from vljepa_jax.evals.figures import training_curves
from vljepa_jax.inference.streams.timeline import Spoken, Timeline, save_timeline
from vljepa_jax.terminal import PlainConsole

NAMES = [
    "Some title [dQw4w9WgXcQ].mp4",
    "a [red]dog[/b]",
    ":dog: [/]",
    "a \x1b[31mred\x1b[0m dog",
    "two\rlines\x07 and caf\udce9",
    "$x_{ and 5$",
    "<b>&amp;</b>",
]
SHOWN = [
    *NAMES[:3],
    r"a \x1b[31mred\x1b[0m dog",
    r"two\rlines\x07 and caf\xe9",
    *NAMES[5:],
]


@pytest.mark.parametrize(("name", "expected"), [*zip(NAMES, SHOWN, strict=True)])
@pytest.mark.parametrize("where", ["printed", "styled", "cell", "title"])
def test_a_name_is_printed_as_it_is(name, expected, where):
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    console = PlainConsole(file=file, width=200)
    if where in ("printed", "styled"):
        console.print(name, style="yellow" if where == "styled" else None)
    else:
        table = rich.table.Table(name if where == "title" else "clip")
        table.add_row("x" if where == "title" else name)
        console.print(table)
    file.flush()
    printed = file.buffer.getvalue().decode()
    assert expected in printed
    assert printed.replace("\n", "").isprintable()


def test_lines_of_our_own_messages_stay_lines():
    file = io.StringIO()
    PlainConsole(file=file, width=200).print("first\n  second")
    assert file.getvalue() == "first\n  second\n"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_text_is_drawn_as_it_is(tmp_path, name, form):
    times = np.arange(3.0)
    timeline = Timeline([], times, times, [Spoken(0.0, 2.0, 1.0, name)], [])
    save_timeline(timeline, tmp_path / f"drawn.{form}")
    assert (tmp_path / f"drawn.{form}").stat().st_size > 1000


def test_a_curve_of_any_name():
    rows = [{"step": step, **{f"eval/{name}": 1.0 / step for name in NAMES[5:]}} for step in (1, 2)]
    (svg,) = (panel for panel in map(str, training_curves(rows)[0]) if "5$" in panel)
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in svg
    assert json.dumps(NAMES).isascii()

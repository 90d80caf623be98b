"""What the page shows, as HTML without scripts: frames, bars, lines."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from vljepa_jax.app.ask import Answer
from vljepa_jax.data.records import shown
from vljepa_jax.inference.search.collection import CollectionSummary
from vljepa_jax.inference.streams.live_events import StreamSummary, clock, span_of_time
from vljepa_jax.inference.streams.narrator import Said

CSS = """
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 4px; }
.frames img { width: 100%; display: block; border-radius: 4px; }
.bar { display: grid; grid-template-columns: minmax(0, 1fr) 3.5em; gap: 2px 8px; margin: 8px 0; }
.bar span { overflow-wrap: anywhere; }
.bar b { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; }
.bar i { grid-column: 1 / 3; height: 8px; border-radius: 4px; background: #8883; overflow: hidden; }
.bar i::before { content: ""; display: block; height: 100%; width: var(--share);
  background: #3b82f6; }
.bar.no { opacity: 0.55; } .bar.no i::before { background: #888; }
.said { font-size: 1.15em; margin: 4px 0 12px; overflow-wrap: anywhere; }
.note { opacity: 0.75; font-size: 0.9em; margin: 4px 0; }
.warn { border-left: 3px solid #e0703a; padding-left: 8px; margin: 8px 0; }
.lines { list-style: none; padding: 0; margin: 8px 0; max-height: 40vh; overflow-y: auto; }
.lines li { display: grid; grid-template-columns: 7.5em minmax(0, 1fr); gap: 8px; padding: 4px 0;
  border-bottom: 1px solid #8883; overflow-wrap: anywhere; }
.lines time { font-variant-numeric: tabular-nums; opacity: 0.75; }
.lines small { opacity: 0.75; }
.played { display: block; max-width: 100%; height: min(36vh, 300px); border-radius: 6px; }
.timeline { width: 100%; display: block; background: white; border-radius: 6px; }
"""


def escaped(text: str) -> str:
    return html.escape(shown(text))


def note(text: str) -> str:
    return f'<p class="note">{escaped(text)}</p>'


def warning(text: str) -> str:
    return f'<p class="warn">{escaped(text)}</p>'


def frames(title: str, clip: UInt8[np.ndarray, "T H W 3"]) -> str:
    """The frames of a clip in a grid, below a title."""
    cells = "".join(
        f'<img alt="frame {number} of {len(clip)}" src="{_jpeg(frame)}">'
        for number, frame in enumerate(clip, 1)
    )
    return f'{note(title)}<div class="frames">{cells}</div>'


def answer(given: Answer) -> str:
    """What was said of a clip: the text, and a bar for each candidate."""
    parts = []
    if given.unlike:
        parts.append(
            warning(
                "This clip is unlike those that the model was trained on: texts and scores mean "
                "little."
            )
        )
    if given.text:
        parts.append(f'<p class="said">{escaped(given.text)}</p>')
    if given.matches and not any(given.matches) and not given.unlike:
        parts.append(
            warning("No match: all candidates are less near than a caption is to its clip.")
        )
    matches = given.matches or (True,) * len(given.scores)
    for (text, score), match in zip(given.scores, matches, strict=True):
        share = 100 * min(max(score, 0.0), 1.0)
        parts.append(
            f'<div class="bar{"" if match else " no"}"><span>{escaped(text)}</span>'
            f'<b>{score:.3f}</b><i style="--share: {share:.1f}%"></i></div>'
        )
    asked = f"Asked: “{given.query}”" if given.query else "Asked without a question"
    cosines = "; bars are cosines of the clip's embedding and each text's" if given.scores else ""
    return "".join([*parts, note(f"{asked}{cosines}")])


def lines(said: Iterable[Said]) -> str:
    """What was said of a stream, latest first."""
    rows = []
    for line in said:
        others = list(line.scores.items())[:3]
        scores = ", ".join(f"{name} {score:.2f}" for name, score in others)
        rows.append(
            f"<li><time>{span_of_time(line.start, line.end)}</time>"
            f"<span>{escaped(line.text)} <small>{escaped(scores)}</small></span></li>"
        )
    return f'<ul class="lines">{"".join(rows)}</ul>'


def status(now: Mapping[str, Any], summary: StreamSummary | None) -> str:
    """How following goes, or how it went."""
    if summary is not None:
        return note(
            f"Over: {summary.windows} windows in {summary.seconds:.0f} s, {summary.decodings} "
            f"texts: {100 * summary.saved:.0f} % of the decodings saved; {summary.dropped} windows "
            f"dropped, {summary.reconnections} reconnections."
        )
    if not now:
        return note("Getting ready ...")
    saved = 1 - now["decodings"] / now["windows"] if now["windows"] else 0.0
    return note(
        f"{clock(now['time'])}: {now['windows']} windows ({now['windows_per_second']:.1f} per "
        f"second), {now['decodings']} texts: {100 * saved:.0f} % of the decodings saved; lag "
        f"{now['lag']:.1f} s, {now['dropped']} windows dropped"
    )


def figure(drawn: Figure, title: str) -> str:
    """A picture by matplotlib, as wide as there is room for."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="timeline" alt="{escaped(title)}" src="data:image/png;base64,{data}">'


def video(title: str, mp4: bytes) -> str:
    """A video that plays at once, without sound, again and again."""
    data = base64.b64encode(mp4).decode()
    return (
        f'{note(title)}<video class="played" controls autoplay muted loop playsinline '
        f'src="data:video/mp4;base64,{data}"></video>'
    )


def progress(description: str, done: float, total: float | None) -> str:
    """How far an index is."""
    if not total:
        return note(description)
    return (
        f'<div class="bar"><span>{escaped(description)}</span><b>{done:.0f}/{total:.0f}</b>'
        f'<i style="--share: {100 * done / total:.1f}%"></i></div>'
    )


def collection(summary: CollectionSummary, shown_faults: int = 10) -> str:
    """What became of a collection."""
    counts = (
        f"{summary.embedded} clips embedded, {summary.rows} embeddings; {summary.unchanged} had "
        f"not changed, {summary.removed} were removed, {len(summary.unreadable)} could not be read"
    )
    faults: Sequence[str] = summary.unreadable[:shown_faults]
    return note(f"{counts}.") + "".join(map(warning, faults))


def _jpeg(frame: UInt8[np.ndarray, "H W 3"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

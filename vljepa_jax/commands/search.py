r"""Finds clips by a text, or by an example, in an index that launch/embed.py made.

    python launch/search.py --index=index "a dog that spins"
    python launch/search.py --index=index --top=5 --contact_sheet=found.png "a dog that spins"
    python launch/search.py --index=index --like=clip.mp4@1:05-1:09
    python launch/search.py --index=index --parquet=index.parquet

The score is the cosine of the text's embedding and the clip's, or with --like that of two clips,
embedded alike. The model is the one that made the index, from where it was then; if it has moved,
--checkpoint, or --model of published weights, says where to. Where the model is calibrated
(launch/calibrate.py), clips that are unlike those of its training, and those that are less near
than its captions are, are no match to a text: they are left out, unless by --all. --threshold
leaves out hits of a lower score, and --names clips of other names.

Of windows that overlap, and of rows whose embeddings are as near to each other as --fold says, only
the best is a hit; it tells of the others, as far as they are among the 64 nearest.

--json prints a list of {"rank", "score", "name", "start", "end", "match", "folded"} for other
programs, with names as they are, and "match" null where no calibration tells; "folded" lists
{"name", "start", "end", "score"}. Elsewhere line breaks, control characters and bytes that are no
UTF-8 are shown as escapes.

--parquet writes the index itself, for a vector store (docs/search.md has the columns).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import rich.table
import rich.text
from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line

if TYPE_CHECKING:
    from vljepa_jax.inference.search.hits import Hit
    from vljepa_jax.inference.search.index import VideoIndex

_INDEX = command_line.define_path("index", "The index's directory.", required=True)
_MODEL = command_line.define_model("The model that made the index, if it moved.", required=False)
_TOP = flags.DEFINE_integer("top", 10, "Hits shown.", lower_bound=1)
_EACH_ONCE = flags.DEFINE_bool("each_once", False, "Only the best window of each clip.")
_CONTACT_SHEET = command_line.define_path("contact_sheet", "A picture of the hits to write.")
flags.register_validator(
    "contact_sheet",
    lambda path: path is None or path.lower().endswith((".png", ".jpg", ".webp")),
    "must end in .png, .jpg or .webp",
)
_LIKE = command_line.define_path(
    "like", "A clip or picture in place of the text, or a part: clip.mp4@4-8, clip.mp4@1:05-1:09."
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "Least score of a hit, from -1 to 1.")
_FOLD = flags.DEFINE_float(
    "fold", None, "Cosine from which on two rows are one hit, 0.99 by default; 1 folds equal ones."
)
flags.register_validator(
    "threshold", lambda least: least is None or -1 <= least <= 1, "is no number from -1 to 1"
)
flags.register_validator(
    "fold", lambda least: least is None or 0 < least <= 1, "is no number over 0, up to 1"
)
_NAMES = flags.DEFINE_string("names", None, "Only clips of such names: '*/cam1/*.mp4'.")
_PARQUET = command_line.define_path("parquet", "A Parquet file to write the index to.")
_NOT_TOLD = ("item", "novelty")  # of a hit, in JSON
_ALL = flags.DEFINE_bool("all", False, "Shows what is no match too.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def main(text: str | None = None) -> None:
    if text is not None and _LIKE.value:
        sys.exit("error: give a text or --like, not both")
    # After the flags, so that --help and a misspelt flag answer at once.
    from vljepa_jax.data.records import ClipError, shown
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.inference.search.contact_sheet import contact_sheet
    from vljepa_jax.inference.search.example import ExampleError
    from vljepa_jax.inference.search.export import export_parquet
    from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
    from vljepa_jax.parallel.compilation_cache import keep_compiled
    from vljepa_jax.run_dir import CheckpointError

    console = terminal.PlainConsole()
    errors = (CheckpointError, ClipError, ExampleError, SearchIndexError, TokenizerError)
    with command_line.explained(*errors):
        keep_compiled()
        index = VideoIndex(_INDEX.value)
        if _PARQUET.value:
            rows = export_parquet(index, _PARQUET.value)
            if not _JSON.value:
                told = f"{rows} embeddings written to {shown(_PARQUET.value)}"
                console.print(rich.text.Text(told), soft_wrap=True)
        if text is None and not _LIKE.value:
            return
        found = _found(text, index)
    hits = [hit for hit in found if _ALL.value or hit.match is not False]
    title = f"like {shown(_LIKE.value)}" if _LIKE.value else repr(text)
    among = f"among {len(index)} embeddings"
    if _JSON.value:
        print(json.dumps([{"rank": r, **_told(hit)} for r, hit in enumerate(hits, 1)], indent=2))
    elif found and not hits:
        strange = sum(hit.novelty is not None and hit.novelty > 1 for hit in found)
        others = ", the others less near than a caption is to its clip" * (strange < len(found))
        console.print(
            f"no match for {text!r} {among}: {strange} of the nearest "
            f"{len(found)} are unlike the clips that this model was trained on{others}; --all "
            "shows them"
        )
    else:
        console.print(_table(f"{title} {among}", hits))
    if _CONTACT_SHEET.value and (
        hits or not found
    ):  # last: where it cannot be written, the hits have been shown
        contact_sheet(title if _LIKE.value else text, hits).save(_CONTACT_SHEET.value)
        if not _JSON.value:
            console.print(rich.text.Text(f"drawn in {shown(_CONTACT_SHEET.value)}"))


def _found(text: str | None, index: VideoIndex) -> list[Hit]:
    import vljepa_jax
    from vljepa_jax.inference.search.example import read_example
    from vljepa_jax.inference.search.hits import FOLD

    limits = {
        "top": _TOP.value,
        "each_once": _EACH_ONCE.value,
        "fold": FOLD if _FOLD.value is None else _FOLD.value,
        "threshold": _THRESHOLD.value,
        "names": _NAMES.value,
    }
    if text is not None:
        return vljepa_jax.load(_MODEL() or index.checkpoint).retrieve(text, index, **limits)
    example = read_example(_LIKE.value)
    model = vljepa_jax.load(_MODEL() or index.checkpoint, frames=index.settings.frames)
    return model.retrieve_like(example, index, **limits)


def _told(hit: Hit) -> dict[str, Any]:
    """A hit in JSON."""
    folded = [
        {"name": other.name, "start": other.start, "end": other.end, "score": other.score}
        for other in hit.folded
    ]
    told = {name: value for name, value in hit._asdict().items() if name not in _NOT_TOLD}
    return told | {"folded": folded}


def _table(title: str, hits: list[Hit]) -> rich.table.Table:
    from vljepa_jax.data.records import shown
    from vljepa_jax.inference.search.contact_sheet import when

    # As rich.text.Text, so that [ and :smile: in a text or a name are no markup.
    table = rich.table.Table(title=rich.text.Text(title, "table.title"))
    table.add_column("score", justify="right")
    table.add_column("when")
    if _ALL.value:
        table.add_column("a match")
    table.add_column("clip", overflow="fold")
    folded = any(hit.folded for hit in hits)
    if folded:
        table.add_column("folded", justify="right")
    for hit in hits:
        name = min(hit.name, os.path.relpath(hit.name), key=len)
        match = [{True: "yes", False: "no", None: "?"}[hit.match]] if _ALL.value else []
        others = [f"+ {len(hit.folded)}" if hit.folded else ""] if folded else []
        table.add_row(f"{hit.score:.3f}", when(hit), *match, rich.text.Text(shown(name)), *others)
    return table


def run() -> None:
    command_line.run(
        main,
        argument="the text to search for, in quotes, or --like",
        optional=lambda: bool(_LIKE.value or _PARQUET.value),
    )

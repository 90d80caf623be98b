r"""Finds clips by a text in an index that launch/embed.py made.

    python launch/search.py --index=index "a dog that spins"
    python launch/search.py --index=index --top=5 --contact_sheet=found.png "a dog that spins"

The score is the cosine of the text's embedding and the clip's. The model is the one that made the
index, from where it was then; if it has moved, --checkpoint, or --model of published weights, says
where to. Where the model is calibrated (launch/calibrate.py), clips that are unlike those of its
training, and those that are less near than its captions are, are no match: they are left out,
unless by --all.

--json prints a list of {"rank", "score", "name", "start", "end", "match"} for other programs, with
names as they are, and "match" null where no calibration tells; elsewhere line breaks, control
characters and bytes that are no UTF-8 are shown as escapes.
"""

import json
import os

import rich.table
import rich.text
from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line

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
_ALL = flags.DEFINE_bool("all", False, "Shows what is no match too.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")
_NOT_TOLD = ("item", "novelty")  # of a hit, in JSON


def main(text: str) -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    import vljepa_jax
    from vljepa_jax.data.records import shown
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.inference.search.contact_sheet import contact_sheet
    from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
    from vljepa_jax.parallel.distributed import keep_compiled
    from vljepa_jax.run_dir import CheckpointError

    console = terminal.PlainConsole()
    with command_line.explained(CheckpointError, SearchIndexError, TokenizerError):
        keep_compiled()
        index = VideoIndex(_INDEX.value)
        model = vljepa_jax.load(_MODEL() or index.checkpoint)
        found = model.retrieve(text, index, top=_TOP.value, each_once=_EACH_ONCE.value)
    hits = [hit for hit in found if _ALL.value or hit.match is not False]
    if _JSON.value:
        rows = [
            {"rank": rank}
            | {name: value for name, value in hit._asdict().items() if name not in _NOT_TOLD}
            for rank, hit in enumerate(hits, 1)
        ]
        print(json.dumps(rows, indent=2))
    elif found and not hits:
        strange = sum(hit.novelty is not None and hit.novelty > 1 for hit in found)
        others = ", the others less near than a caption is to its clip" * (strange < len(found))
        console.print(
            f"no match for {text!r} among {len(index)} embeddings: {strange} of the nearest "
            f"{len(found)} are unlike the clips that this model was trained on{others}; --all "
            "shows them"
        )
    else:
        console.print(_table(f"{text!r} among {len(index)} embeddings", hits))
    if _CONTACT_SHEET.value and (
        hits or not found
    ):  # last: where it cannot be written, the hits have been shown
        contact_sheet(text, hits).save(_CONTACT_SHEET.value)
        if not _JSON.value:
            console.print(rich.text.Text(f"drawn in {shown(_CONTACT_SHEET.value)}"))


def _table(title: str, hits: list) -> rich.table.Table:
    from vljepa_jax.data.records import shown
    from vljepa_jax.inference.search.contact_sheet import when

    # As rich.text.Text, so that [ and :smile: in a text or a name are no markup.
    table = rich.table.Table(title=rich.text.Text(title, "table.title"))
    table.add_column("score", justify="right")
    table.add_column("when")
    if _ALL.value:
        table.add_column("a match")
    table.add_column("clip", overflow="fold")
    for hit in hits:
        name = min(hit.name, os.path.relpath(hit.name), key=len)
        match = [{True: "yes", False: "no", None: "?"}[hit.match]] if _ALL.value else []
        table.add_row(f"{hit.score:.3f}", when(hit), *match, rich.text.Text(shown(name)))
    return table


def run() -> None:
    command_line.run(main, argument="the text to search for, in quotes")

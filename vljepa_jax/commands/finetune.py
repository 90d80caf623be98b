r"""Adapts the small VL-JEPA to your own clips: from a table to a model, its report and its index.

    python launch/finetune.py --data=clips.csv --root=videos --workdir=runs/mine \
        --checkpoint=runs/demo
    python launch/finetune.py --data=footage --workdir=runs/mine --checkpoint=runs/demo

--data is a table (CSV, TSV, JSONL, JSON, Parquet), a folder with a folder of clips for each class,
a dataset of launch/prepare.py, of Hugging Face (save_to_disk, or a folder of Parquet files) or of
TensorFlow Datasets (ArrayRecord). Columns are found by their names, or named:

    --columns=media=video,texts=caption

media names the files, relative to --root; start and end are seconds. What is said of a clip is
texts (captions), label, or query (a question) with answer, or with cand and gold; a row may have
several. Where the column split is missing, or named --columns=split=, a share of the clips is held
out, all rows of a clip together.

It trains a VL-JEPA and a Y-Decoder, keeps the checkpoint that is best on clips held out for that,
and evaluates before and after on others. --checkpoint is the VL-JEPA that it goes on from, as make
demo leaves one; without it, it starts from the backbones that come with the package.
--video=train trains the X-Encoder too. --text=DIR puts a published text encoder, as
all-MiniLM-L6-v2, in the place of the Y-Encoder, so that labels mean something that no training
clip has. --frames takes fewer of a clip; of pictures 2 are enough. The same command goes on where
it was ended.
"""

import shlex
from pathlib import Path

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import ConfigError, command_line
from vljepa_jax.host import available_cpus

_DATA = command_line.define_path("data", "Table, folder or dataset.", required=True)
_ROOT = command_line.define_path("root", "Where relative paths start; the table's folder.")
_WORKDIR = command_line.define_path("workdir", "Where all of it goes.", required=True)
_COLUMNS = flags.DEFINE_list("columns", [], "ROLE=COLUMN, between commas; ROLE= for none.")
_CHECKPOINT = command_line.define_path("checkpoint", "The VL-JEPA's run that it goes on from.")
_VIDEO = flags.DEFINE_enum("video", "frozen", ["frozen", "train"], "The X-Encoder.")
_TEXT = command_line.define_path("text", "A text encoder's folder, for the Y-Encoder.")
_FRAMES = flags.DEFINE_integer(
    "frames", 0, "Taken of a clip; 0 for as many as the start takes.", lower_bound=0
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", 0, "Pixels of a frame's side; 0 for as many as the start takes.", lower_bound=0
)
_STEPS = flags.DEFINE_integer(
    "steps", 0, "Updates; 0 for what suits the number of examples.", lower_bound=0
)
_HELD_OUT = flags.DEFINE_float(
    "held_out", 0.2, "Share of the clips to report on.", lower_bound=0.01, upper_bound=0.5
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the splits and the training.")
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", available_cpus() - 1, "Decoding processes.", lower_bound=0
)


def main() -> None:
    with command_line.explained():
        columns = _named(_COLUMNS.value)
    # Only now: a misspelt command is answered at once.
    from vljepa_jax.convert.rules import ConversionError
    from vljepa_jax.data.manifest import ManifestError
    from vljepa_jax.data.pipeline import DataError
    from vljepa_jax.data.records import ClipError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.evals.examples import EvaluationError
    from vljepa_jax.finetuning.recipes import Request
    from vljepa_jax.finetuning.stages import finetune
    from vljepa_jax.finetuning.tables import TableError
    from vljepa_jax.inference.search.index import SearchIndexError
    from vljepa_jax.json_text import JSONError
    from vljepa_jax.parallel.compilation_cache import keep_compiled
    from vljepa_jax.run_dir import CheckpointError
    from vljepa_jax.training.train_loop import NonFiniteLoss

    errors = (
        CheckpointError,
        ClipError,
        ConversionError,
        DataError,
        DatasetError,
        EvaluationError,
        JSONError,
        ManifestError,
        NonFiniteLoss,
        SearchIndexError,
        TableError,
        TokenizerError,
    )
    request = Request(
        data=_DATA.value,
        root=_ROOT.value,
        columns=columns,
        checkpoint=_CHECKPOINT.value or "",
        video=_VIDEO.value,
        text=_TEXT.value or "",
        frames=_FRAMES.value,
        image_size=_IMAGE_SIZE.value,
        steps=_STEPS.value,
        held_out=_HELD_OUT.value,
        seed=_SEED.value,
        num_workers=_NUM_WORKERS.value,
    )
    console = terminal.PlainConsole()
    workdir = Path(_WORKDIR.value)
    with command_line.explained(*errors):
        keep_compiled()
        finetune(request, workdir, console)
    console.print("Next:", *_next(workdir), sep="\n  ", highlight=False, soft_wrap=True)


def _named(columns: list[str]) -> dict[str, str]:
    """Role -> column.

    Raises:
        ConfigError: an entry has no "=".
    """
    for entry in columns:
        if "=" not in entry:
            raise ConfigError(f"--columns: '{entry}' is no ROLE=COLUMN, as media=video is one")
    return dict(entry.split("=", 1) for entry in columns)


def _next(workdir: Path) -> list[str]:
    """Commands that use what was made."""
    run = shlex.quote(str(workdir))
    commands = [f"open {run}/report.html    # what it gets right and wrong, beside {run}/before"]
    commands.append(f'python launch/search.py --index={run}/index "what you look for"')
    if (workdir / "y_decoder").is_dir():
        commands.append(f"python launch/stream.py --checkpoint={run} --source=VIDEO --fast")
    if (workdir / "labels.txt").is_file():
        labels = f"--labels={run}/labels.txt"
        commands.append(
            f"python launch/stream.py --checkpoint={run} --source=VIDEO --fast {labels}"
        )
    return list(map(command_line.as_called, commands))


def run() -> None:
    command_line.run(main)

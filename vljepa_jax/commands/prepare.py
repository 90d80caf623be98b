r"""Turns a manifest over your own videos and images into a dataset to train and evaluate on.

    python launch/prepare.py --manifest=clips.jsonl --root=videos --output=datasets/clips

A manifest has one JSON object a line. Two captions of one video, and a question about a part of
another (seconds), in clips.jsonl:

    {"id": "1", "media": [{"path": "dog.mp4"}], "texts": ["a dog runs", "a running dog"]}
    {"id": "2", "media": [{"path": "street.webm", "start": 12.5, "end": 17}],
     "query": "What passes by?", "cand": ["a bus", "a tram"], "gold": 1}      (on one line)

Files: videos that FFmpeg reads (mp4 mov mkv webm avi mpg ts wmv ...) and images that Pillow reads
(png jpg gif webp avif heic ...), under any name. All fields are described in
vljepa_jax/data/manifest_row.py. Several splits:

    python launch/prepare.py --manifest=train=train.jsonl --manifest=test=test.jsonl \
        --root=videos --output=datasets/clips

Every file is opened and decoded in part. Faulty rows are told with their number and the reason,
and skipped (see skipped.jsonl in the output), or with --on_error=refuse nothing is written.

Train on it:

    python launch/train.py --config=configs/finetune.py:datasets/clips --workdir=runs/clips \
        --config.init_from=runs/demo:params

Public datasets are read from the files that their authors publish (docs/datasets.md):

    python launch/prepare.py --dataset=list
    python launch/prepare.py --dataset=ssv2 --splits=validation --root=SSV2 --output=datasets/ssv2
    python launch/prepare.py --dataset=pope --root=POPE --check

Sources to train on (docs/data.md) are written share by share: the same command goes on with the
shares that are missing, and --shard=i/n writes a part of them, for job arrays.

    python launch/prepare.py --dataset=datacomp --root=DataComp --output=datasets/datacomp
"""

import os
import re
import sys

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line
from vljepa_jax.host import available_cpus

_MANIFESTS = command_line.define_path(
    "manifest",
    "FILE, or SPLIT=FILE; may be repeated, or a comma-separated list.",
    many="repeated",
)
_ROOT = command_line.define_path("root", "Where relative paths start; the manifest's folder.")
_OUTPUT = command_line.define_path("output", "The dataset's directory; must not exist.")
_NAME = flags.DEFINE_string(
    "name", None, "Of the dataset; else the meta file's, else the output's."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "Of manifests without one; else the meta file's, train."
)
_ENCODING = command_line.define_encoding("manifests")
_ON_ERROR = flags.DEFINE_enum("on_error", "skip", ["skip", "refuse"], "What faulty rows lead to.")
_EMBED = flags.DEFINE_bool(
    "embed", True, "Copy the media into the dataset; --noembed refers to the files by their paths."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", available_cpus(), "Processes that open files.", lower_bound=0
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "A public dataset instead of manifests; 'list' shows which there are."
)
_SPLITS = flags.DEFINE_list("splits", [], "Of the public dataset, between commas; all.")
_ROWS = command_line.define_path(
    "rows", "A manifest to write of the public dataset, without opening media, instead of --output."
)
_CHECK = flags.DEFINE_bool(
    "check", False, "Stop with status 1 if the public dataset has other counts than published."
)


_SHARD = flags.DEFINE_string(
    "shard", "", "i/n: the i-th of n parts of a source to train on, from 0, for job arrays."
)
_COLUMNS = flags.DEFINE_list(
    "columns", [], "Of a source to train on: image=NAME, text=NAME.FIELD, conversations=NAME."
)
_TASK = flags.DEFINE_string("task", "", "Of its conversations; else vqa, or caption unasked.")
_DECODE = flags.DEFINE_bool(
    "decode", True, "Of its media decode a frame; --nodecode looks at their first bytes alone."
)


_OF_MANIFESTS = ["manifest", "name", "split", "encoding"]
_OF_DATASETS = ["splits", "rows", "check"]


@flags.multi_flags_validator(["dataset", "output", *_OF_MANIFESTS, *_OF_DATASETS])
def _check_flags(values: dict) -> bool:
    if values["dataset"]:
        unused = [name for name in _OF_MANIFESTS if values[name]]
    else:
        unused = [name for name in _OF_DATASETS if values[name]]
        if not (values["manifest"] and values["output"]):
            raise flags.ValidationError(
                "give --manifest and --output, or --dataset (--dataset=list shows which there are)"
            )
    if unused:
        raise flags.ValidationError(
            f"--{unused[0]} is {'not for' if values['dataset'] else 'for'} a public dataset"
        )
    return True


_SHARE_MIB = flags.DEFINE_integer(
    "share_mib", 512, "Of its files, that make a part of the dataset.", lower_bound=1
)
_CODEC = flags.DEFINE_string("codec", "h264", "Encodes its videos anew: h264, hevc, vp9 or av1.")
_SHORT_SIDE = flags.DEFINE_integer("short_side", 0, "Pixels of the shorter side, encoded anew.")
_FPS = flags.DEFINE_float("fps", 0.0, "Most frames a second, encoded anew.")
_KEYFRAME_SECONDS = flags.DEFINE_float(
    "keyframe_seconds", 1.0, "From a keyframe to the next at most, encoded anew."
)
_MARGIN = flags.DEFINE_float(
    "margin", 0.0, "Seconds of its videos to keep around each span.", lower_bound=0.0
)
_OF_ENCODING = (_CODEC, _SHORT_SIDE, _FPS, _KEYFRAME_SECONDS)
_OF_SOURCES = (_SHARD, _COLUMNS, _TASK, _DECODE, _SHARE_MIB, _MARGIN, *_OF_ENCODING)


def main() -> int | None:
    return _prepare_dataset() if _DATASET.value else _prepare_manifests()


def _prepare_dataset() -> int:
    from vljepa_jax.data.manifest import ManifestError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.datasets import command, training_command
    from vljepa_jax.datasets.adapter import AdapterError

    if _DATASET.value in training_command.SOURCES:
        return _prepare_source()
    _refuse_flags_of_sources()
    if _DATASET.value == "list":
        training_command.show_list(terminal.PlainConsole())
    with command_line.explained(AdapterError, ManifestError, DatasetError, FileExistsError):
        return command.run(
            _DATASET.value,
            root=_ROOT.value,
            splits=_SPLITS.value,
            rows=_ROWS.value,
            output=_OUTPUT.value and os.path.abspath(_OUTPUT.value),
            check=_CHECK.value,
            on_error=_ON_ERROR.value,
            embed=_EMBED.value,
            num_workers=_NUM_WORKERS.value,
            console=terminal.PlainConsole(),
        )


def _refuse_flags_of_sources() -> None:
    unused = [flag.name for flag in _OF_SOURCES if flag.present]
    if unused:
        sys.exit(f"error: --{unused[0]} is for a source to train on (--dataset=list)")


def _prepare_source() -> int:
    from vljepa_jax.data.share_writer import ShareError
    from vljepa_jax.data.shares import SourceError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.transcode import Encoding, EncodingError
    from vljepa_jax.datasets import training_command

    errors = SourceError, ShareError, EncodingError, DatasetError, FileExistsError
    with command_line.explained(*errors):
        if not (_ROOT.value and _OUTPUT.value) or any((_SPLITS.value, _ROWS.value, _CHECK.value)):
            raise SourceError(f"{_DATASET.value}: give --root and --output; it is to train on")
        job = training_command.plan(
            _DATASET.value,
            root=_ROOT.value,
            output=_OUTPUT.value,
            columns=_COLUMNS.value,
            task=_TASK.value,
            embed=_EMBED.value,
            decode=_DECODE.value,
            on_error=_ON_ERROR.value,
            share_bytes=_SHARE_MIB.value << 20,
            encoding=Encoding(**{flag.name: flag.value for flag in _OF_ENCODING})
            if any(flag.present for flag in _OF_ENCODING)
            else None,
            margin=_MARGIN.value,
        )
        training_command.run(
            job, shard=_SHARD.value, num_workers=_NUM_WORKERS.value, console=terminal.PlainConsole()
        )
    return 0


def _prepare_manifests() -> None:
    _refuse_flags_of_sources()
    # After the flags, so that --help and a misspelt flag answer at once.
    from vljepa_jax.data.manifest import ManifestError, open_manifest
    from vljepa_jax.data.prepare import prepare
    from vljepa_jax.data.records import ClipError
    from vljepa_jax.data.storage import DatasetError

    with command_line.explained(ManifestError, DatasetError, ClipError, FileExistsError):
        manifests = []
        for entry in ",".join(_MANIFESTS.value).split(","):
            named = re.fullmatch(r"(\w+)=(.+)", entry)
            split, path = named.groups() if named else (_SPLIT.value, entry)
            where = {"split": split, "root": _ROOT.value}
            manifests.append(open_manifest(path, **where, encoding=_ENCODING.value))
        output = os.path.abspath(_OUTPUT.value)
        prepare(
            manifests,
            output,
            name=_NAME.value or manifests[0].name or os.path.basename(output),
            on_error=_ON_ERROR.value,
            embed=_EMBED.value,
            num_workers=_NUM_WORKERS.value,
            console=terminal.PlainConsole(),
        )


def run() -> None:
    command_line.run(main)

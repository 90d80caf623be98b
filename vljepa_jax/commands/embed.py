r"""Embeds a collection of videos, so that launch/search.py finds them by a text.

    python launch/embed.py --checkpoint=runs/demo --videos='footage/**/*.mp4' --output=index
    python launch/embed.py --checkpoint=runs/demo --videos=clips.jsonl --output=index
    python launch/embed.py --checkpoint=runs/demo --videos=datasets/clips:test --output=index

--videos is a file, a directory, a glob pattern, a manifest (the media of its rows), or a dataset of
launch/prepare.py with all splits or one, which may lie on gs://; it may be repeated. A path that is
there is taken as it is, even if it holds [ or *; in a pattern such a character of a name is written
[[] or [*]. Of a directory all videos and images below it are taken, by their content where the
extension does not tell, but not what begins with a dot; linked directories are followed, each once.
Long videos are cut into windows, so that a search answers with a time:

    python launch/embed.py --checkpoint=runs/demo --videos=footage --output=index \
        --window=4 --stride=2

The same command brings the index up to date: only files that are new or have changed are embedded,
and with --drop_missing those that --videos no longer names are removed. After an interruption it
goes on where it was. Clips that cannot be read are named, counted and skipped; unreadable.txt in
the index lists them, one a line, with line breaks, control characters and bytes of names that are
no UTF-8 as escapes (the index itself keeps names as they are).

--model=DIR in place of --checkpoint takes published weights of CLIP, SigLIP 2 or PE-Core
(docs/models.md). --parquet=FILE writes the whole index for a vector store, too (docs/search.md).

Started as several processes, as launch/train.py may be, they embed a share of the clips each.
"""

import os

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line
from vljepa_jax.host import host_cpus
from vljepa_jax.inference.search import SHARD_ROWS
from vljepa_jax.places import DATASET_BUCKETS, in_bucket

_MODEL = command_line.define_model()
_VIDEOS = command_line.define_path(
    "videos",
    "File, directory, glob, manifest or dataset[:split]; may be repeated.",
    many="repeated",
    buckets=DATASET_BUCKETS,
)
_ENCODING = command_line.define_encoding("manifests")
_OUTPUT = command_line.define_path("output", "The index's directory.")
_QUERY = command_line.define_text(
    "query", "", "Asked of every clip; the query-free form by default."
)
_FRAMES = flags.DEFINE_integer("frames", 0, "Frames taken of a clip; 0 as trained.", lower_bound=0)
_WINDOW = flags.DEFINE_float("window", 0.0, "Seconds of a window; 0 embeds every clip whole.")
_STRIDE = flags.DEFINE_float(
    "stride", None, "Seconds from one window to the next; the window by default."
)
_DROP_MISSING = flags.DEFINE_bool(
    "drop_missing", False, "Remove from the index what --videos does not name."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Clips embedded at once.", lower_bound=1)
_SHARD_ROWS = flags.DEFINE_integer(
    "shard_rows", SHARD_ROWS, "Embeddings after which a shard is written.", lower_bound=1
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", host_cpus(), "Decoding processes of a host.", lower_bound=0
)
_PARQUET = command_line.define_path("parquet", "A Parquet file to write the whole index to.")
flags.mark_flags_as_required(["videos", "output"])


def main() -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    import vljepa_jax
    from vljepa_jax.data.collection import list_items
    from vljepa_jax.data.manifest import ManifestError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.inference.search.collection import embed_collection
    from vljepa_jax.inference.search.export import export_parquet, require_parquet
    from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex
    from vljepa_jax.parallel.processes import first_process, require_shared
    from vljepa_jax.run_dir import CheckpointError

    errors = (CheckpointError, DatasetError, ManifestError, SearchIndexError, TokenizerError)
    with command_line.in_job(*errors):
        if _PARQUET.value:  # not after hours
            require_parquet()
        require_shared(_OUTPUT.value)
        run_dir = _MODEL()
        run_dir = run_dir if in_bucket(run_dir) else os.path.abspath(run_dir)
        model = vljepa_jax.load(run_dir, frames=_FRAMES.value, batch_size=_BATCH_SIZE.value)
        world = None if model.history is None else model.history.config.world
        items, faults = list_items(_VIDEOS.value, world, _ENCODING.value)
        summary = embed_collection(
            model,
            items,
            faults,
            _OUTPUT.value,
            query=_QUERY.value,
            window=_WINDOW.value,
            stride=_WINDOW.value if _STRIDE.value is None else _STRIDE.value,
            drop_missing=_DROP_MISSING.value,
            shard_rows=_SHARD_ROWS.value,
            num_workers=_NUM_WORKERS.value,
            console=terminal.PlainConsole(quiet=not first_process()),
        )
        if not summary.embedded and not summary.unchanged:
            raise SearchIndexError("no clip was embedded: none of those named can be read")
        if _PARQUET.value and first_process():
            export_parquet(VideoIndex(_OUTPUT.value), _PARQUET.value)


def run() -> None:
    command_line.run(main)

r"""Opens a page on which a model answers, searches and watches.

    python launch/app.py --checkpoint=runs/demo
    python launch/app.py --checkpoint=runs/demo --index=index --videos=footage
    python launch/app.py --model=siglip2-base --host=0.0.0.0 --port=8080

Ask takes a clip or a picture, a question and candidates, and shows their scores, a text, and the
frames that the model sees. Search finds clips in --index by a text or an example and plays them;
with --videos, as launch/embed.py takes them, the page makes and updates the index. Watch follows a
camera, a file or an address as launch/stream.py does. What a model cannot do, the page says.

It needs the extra app: pip install vljepa_jax[app]. The page is for this machine alone, at
http://127.0.0.1:7860, unless --host says otherwise; then whoever reaches the port may use it, as it
asks for no password. Nothing is fetched from elsewhere and nothing is sent elsewhere. Files that
are sent are no larger than --max_upload megabytes, and of one clip no longer than --max_seconds;
they are removed once they have been read. Ctrl-C ends it.

--model=DIR in place of --checkpoint takes published weights of CLIP, SigLIP 2 or PE-Core
(docs/models.md).
"""

import importlib.util
import os
import sys
import tempfile
import threading

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import command_line
from vljepa_jax.host import host_cpus
from vljepa_jax.places import BUCKETS, DATASET_BUCKETS

_MODEL = command_line.define_model()
_Y_DECODER = command_line.define_path(
    "y_decoder", "The Y-Decoder's run; RUN/y_decoder if there.", buckets=BUCKETS
)
_INDEX = command_line.define_path("index", "The index that is searched, of launch/embed.py.")
_VIDEOS = command_line.define_path(
    "videos",
    "What the page may put into --index: file, directory, glob, manifest or dataset[:split]; may "
    "be repeated.",
    many="repeated",
    buckets=DATASET_BUCKETS,
)
_FRAMES = flags.DEFINE_integer("frames", 0, "Frames taken of a clip; 0 as trained.", lower_bound=0)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address that it listens at; 0.0.0.0 for all.")
_PORT = flags.DEFINE_integer("port", 7860, "Its port.", lower_bound=1, upper_bound=65535)
_MAX_UPLOAD = flags.DEFINE_float("max_upload", 200.0, "Megabytes of a file.", lower_bound=0.1)
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 600.0, "Seconds of one clip.", lower_bound=1.0)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", host_cpus(), "Decoding processes of an update.", lower_bound=0
)


def main() -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    if importlib.util.find_spec("gradio") is None:
        sys.exit("error: the page needs the extra app: pip install 'vljepa_jax[app]'")
    import vljepa_jax
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.run_dir import CheckpointError

    if _VIDEOS.value and not _INDEX.value:
        sys.exit("error: --videos needs --index, which they are put into")
    console = terminal.PlainConsole()
    with (
        tempfile.TemporaryDirectory(prefix="vljepa_app_") as folder,
        command_line.explained(CheckpointError, TokenizerError),
    ):
        # Before Gradio is imported, which reads them.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from vljepa_jax.app.page import build
        from vljepa_jax.app.search import Library
        from vljepa_jax.app.server import serve
        from vljepa_jax.app.shared_model import SharedModel
        from vljepa_jax.app.visitors import Uploads

        model = SharedModel(
            vljepa_jax.load(_MODEL(), y_decoder=_Y_DECODER.value, frames=_FRAMES.value)
        )
        uploads = Uploads(folder, _MAX_SECONDS.value)
        uploads.sweep_forever()
        index = Library(model, _INDEX.value, _VIDEOS.value or (), _NUM_WORKERS.value)
        page = build(model, index, uploads)
        address = serve(page, host=_HOST.value, port=_PORT.value, max_upload=_MAX_UPLOAD.value)
        console.print(f"The page is at {address}; Ctrl-C ends it", soft_wrap=True)
        console.file.flush()  # it may be a log that somebody waits for
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def run() -> None:
    command_line.run(main)

r"""Follows a live source and says what it shows, only when it changes.

    python launch/stream.py --checkpoint=runs/demo --source=clip.mp4
    python launch/stream.py --checkpoint=runs/demo --source=rtsp://camera.local/live --rate_hz=0.2
    python launch/stream.py --checkpoint=runs/demo --source=camera --labels=labels.txt
    python launch/stream.py --checkpoint=runs/demo --source=rtsp://door.local --source=camera \
        --labels=labels.txt --on_event=https://alarms.local/hook --cooldown=60
    ffmpeg -re -i clip.mp4 -f rawvideo -pix_fmt rgb24 -s 96x96 - | \
        python launch/stream.py --checkpoint=runs/demo --source=- --size=96x96 --fps=25

--source is a file, rtsp:// or another address, "camera" ("camera:1" is the second), or "-" for raw
rgb24 frames on standard input. A recording, in a file or at an address (also a finished HLS
playlist), is followed at its own pace, or with --fast as fast as it can be. Every line has the
seconds it tells of; a line is printed when a segment of one meaning ends, or has lasted --patience
seconds, and only if it says something new. --model=DIR in place of --checkpoint takes published
weights of CLIP, SigLIP 2 or PE-Core (docs/models.md).

Texts are the Y-Decoder's, where the run has one (or --y_decoder names one), else the nearest of the
texts in --texts. With --labels=FILE, a label a line ("a dog | a puppy" are one), it monitors: each
line is the best label with its cosine. While it runs, a line typed is the next query (not with
--source=-), and so is the content of --query_file whenever it changes.

--jsonl=FILE adds every event, with the time of day, for other programs; --timeline=out.png is a
picture at the end. Where the machine is too slow, windows are dropped and it says so. A camera or
an address that breaks or falls silent is tried again, after 1, 2, 4, ... 30 seconds. Ctrl-C ends
with a summary.
"""

import sys

from absl import flags

from vljepa_jax.config import command_line
from vljepa_jax.places import BUCKETS

_MODEL = command_line.define_model()
_SOURCE = flags.DEFINE_multi_string(
    "source", None, "File, address, camera[:N], or - (raw rgb24); may be repeated."
)
_Y_DECODER = command_line.define_path(
    "y_decoder", "The Y-Decoder's run; RUN/y_decoder if there.", buckets=BUCKETS
)
_TEXTS = command_line.define_path("texts", "Texts to choose from, one a line: no Y-Decoder.")
_LABELS = command_line.define_path("labels", "Labels to monitor, one a line; | between wordings.")
_LABEL_THRESHOLD = flags.DEFINE_float(
    "label_threshold", None, "Least cosine of labels without one; of the calibration by default."
)
_ON_EVENT = flags.DEFINE_string("on_event", None, "A command or an address for events.")
_COOLDOWN = flags.DEFINE_float(
    "cooldown", 30.0, "Seconds without another event of a label and source.", lower_bound=0.0
)
_ENCODING = command_line.define_encoding("these files")
_QUERY = command_line.define_text("query", None, "Asked of every window; describe it, by default.")
_QUERY_FILE = command_line.define_path("query_file", "A file whose content is the query.")
_WINDOW = flags.DEFINE_float("window", 2.0, "Seconds of video in an embedding.", lower_bound=0.01)
_TICKS = flags.DEFINE_float("ticks_per_second", 2.0, "Embeddings a second.", lower_bound=0.001)
_RATE = flags.DEFINE_float("rate_hz", 0.35, "Wanted segments per second.", lower_bound=1e-4)
_THRESHOLD = flags.DEFINE_float("threshold", None, "On the gain of a split, instead of --rate_hz.")
_CHANGE_WINDOW = flags.DEFINE_float("change_window", 4.0, "Seconds to look for a change in.")
_CHANGE_DELAY = flags.DEFINE_float("change_delay", 1.0, "Seconds that a change must be old.")
_PATIENCE = flags.DEFINE_float("patience", 5.0, "Say what lasts so many seconds; 0: at its end.")
_FAST = flags.DEFINE_bool("fast", False, "Read a recording as fast as it can be.")
_SIZE = flags.DEFINE_string("size", "", "WIDTHxHEIGHT of raw frames.")
_FPS = flags.DEFINE_float("fps", 0.0, "Raw frames a second.")
_JSONL = command_line.define_path("jsonl", "Events for other programs.")
_TIMELINE = command_line.define_path("timeline", "A picture to write at the end.")
flags.mark_flags_as_required(["source"])
flags.register_validator(
    "label_threshold", lambda least: least is None or -1 <= least <= 1, "is no number from -1 to 1"
)
flags.register_validator(
    "timeline",
    lambda path: path is None or path.lower().endswith((".png", ".svg", ".pdf")),
    "must end in .png, .svg or .pdf",
)


def main() -> None:
    # After the flags, so that --help and a misspelt flag answer at once.
    import vljepa_jax
    from vljepa_jax.data.live_source import SourceError, parse_source
    from vljepa_jax.data.records import ClipError
    from vljepa_jax.data.tokenizers import TokenizerError
    from vljepa_jax.inference.streams.delivery import DeliveryError
    from vljepa_jax.inference.streams.live import LiveError, LiveSettings, follow
    from vljepa_jax.parallel.compilation_cache import keep_compiled
    from vljepa_jax.run_dir import CheckpointError

    errors = (CheckpointError, ClipError, DeliveryError, LiveError, SourceError, TokenizerError)
    with command_line.explained(*errors):
        keep_compiled()
        if _SOURCE.value.count("-") > 1:
            raise SourceError("--source=- is given twice, and there is one standard input")
        sources = [parse_source(text, size=_SIZE.value, rate=_FPS.value) for text in _SOURCE.value]
        settings = LiveSettings(
            query=_QUERY.value,
            query_file=_QUERY_FILE.value,
            typed="-" not in _SOURCE.value and sys.platform != "win32",
            window=_WINDOW.value,
            ticks_per_second=_TICKS.value,
            rate=None if _THRESHOLD.value is not None else _RATE.value,
            threshold=_THRESHOLD.value,
            change_window=_CHANGE_WINDOW.value,
            change_delay=_CHANGE_DELAY.value,
            patience=_PATIENCE.value,
            fast=_FAST.value,
            texts=_TEXTS.value,
            labels=_LABELS.value,
            label_threshold=_LABEL_THRESHOLD.value,
            on_event=_ON_EVENT.value,
            cooldown=_COOLDOWN.value,
            encoding=_ENCODING.value,
            jsonl=_JSONL.value,
            timeline=_TIMELINE.value,
        )
        follow(vljepa_jax.load(_MODEL(), y_decoder=_Y_DECODER.value), sources, settings)


def run() -> None:
    command_line.run(main)

"""What visitors of a page may send, and what they are told where it cannot be taken."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vljepa_jax.config import ConfigError, VideoInput
from vljepa_jax.config.endings import told
from vljepa_jax.data.live_source import SourceError
from vljepa_jax.data.manifest import ManifestError
from vljepa_jax.data.records import ClipError, Medium, shown
from vljepa_jax.data.storage import DatasetError
from vljepa_jax.data.tokenizers import TokenizerError
from vljepa_jax.data.video import play_time
from vljepa_jax.inference.search.index import SearchIndexError
from vljepa_jax.inference.streams.live import LiveError
from vljepa_jax.inference.videos import read_video

LONGEST_TEXT = 2_000  # characters of one text
MOST_LABELS = 500  # of one list
_TEMPORARY = re.compile(rf"{re.escape(tempfile.gettempdir())}/\S*/")
_OVERLAP = 60.0  # seconds within which two visitors may send the same file
_LONGEST_KEPT = 3600.0  # seconds that a file lies there, used or not
_SWEEP_SECONDS = 15.0
# What a visitor can mend; anything else is a fault of the program.
EXPECTED = (
    *(ClipError, ConfigError, DatasetError, LiveError, ManifestError, OSError),
    *(SearchIndexError, SourceError, TokenizerError),
)


class Refused(ConfigError):
    """Something a visitor sent that is not taken; the message says why."""


@dataclasses.dataclass(frozen=True)
class Upload:
    """A clip or a picture as the model sees it; the file is gone.

    Attributes:
        name: of the file, for people.
        clip: uint8 [frames, size, size, 3].
    """

    name: str
    clip: UInt8[np.ndarray, "T H W 3"]


class Uploads:
    """The folder into which a page's server writes what visitors send."""

    def __init__(self, folder: str | os.PathLike[str], longest: float) -> None:
        """``longest``: seconds of video that are taken as one clip."""
        self.folder, self._longest = Path(folder).resolve(), longest
        self._done: set[Path] = set()
        self._lock = threading.Lock()

    def read(self, path: str, video: VideoInput) -> Upload:
        """Reads a file that was sent; it is removed with the next ``sweep``.

        Raises:
            ClipError: it cannot be read; the message names it as its sender did.
            Refused: it is longer than is taken.
        """
        name = shown(os.path.basename(path))
        try:
            times = play_time(Medium(path=path))
            if times is not None and times[1] - times[0] > self._longest:
                raise Refused(
                    f"{name} is {times[1] - times[0]:.0f} s long; up to {self._longest:.0f} s are "
                    "taken as one clip. Watch follows longer ones, and an index holds them in "
                    "windows"
                )
            return Upload(name, read_video(path, video))
        except ClipError as error:
            raise ClipError(str(error).replace(shown(path), name)) from error
        finally:
            self.done(path)

    def done(self, path: str) -> None:
        """Says that a file is no longer needed."""
        with self._lock:
            self._done.add(Path(path).resolve())

    def sweep(self, now: float) -> None:
        """Removes what is no longer needed, and everything that is an hour old.

        Gradio gives the same file the same path, whoever sends it. So one that was written a moment
        ago stays: another visitor's may have come meanwhile.

        Args:
            now: ``time.time()``.
        """
        with self._lock:
            done = set(self._done)
        for path in sorted(self.folder.rglob("*"), reverse=True):  # files before their folder
            try:
                status = path.lstat()
                age = now - status.st_mtime
                if stat.S_ISDIR(status.st_mode):
                    if age > _OVERLAP and not any(path.iterdir()):
                        path.rmdir()
                # Gradio leaves an empty file for each one that it takes.
                elif age > _LONGEST_KEPT or (
                    age > _OVERLAP and (path in done or not status.st_size)
                ):
                    path.unlink()
            except FileNotFoundError:
                continue  # Gradio has moved it meanwhile
        with self._lock:
            self._done = {path for path in self._done if path.exists()}

    def sweep_forever(self) -> None:
        """Sweeps every few seconds, in a thread of its own, until the process ends."""

        def run() -> None:
            while True:
                time.sleep(_SWEEP_SECONDS)
                self.sweep(time.time())

        threading.Thread(target=run, daemon=True, name="sweep-uploads").start()


def text_of(what: str, text: str | None) -> str:
    """A text that was typed, without the spaces around it.

    Raises:
        Refused: it is too long.
    """
    text = (text or "").strip()
    if len(text) > LONGEST_TEXT:
        raise Refused(f"{what} has {len(text):,} characters; up to {LONGEST_TEXT:,} are taken")
    return text


def labels_of(what: str, text: str | None) -> list[list[str]]:
    """Labels that were typed, one a line, "a dog | a puppy" for two wordings of one.

    Raises:
        Refused: one is too long, or they are too many.
    """
    lines = [text_of(f"a line of the {what}", line) for line in (text or "").splitlines()]
    groups = [[part.strip() for part in line.split("|") if part.strip()] for line in lines]
    groups = [group for group in groups if group]
    if len(groups) > MOST_LABELS:
        raise Refused(f"the {what} are {len(groups):,}; up to {MOST_LABELS} are taken")
    return groups


def message(error: Exception) -> str:
    """One of ``EXPECTED``, in one line for people, without this machine's temporary folders."""
    return _TEMPORARY.sub("", shown(told(error)))

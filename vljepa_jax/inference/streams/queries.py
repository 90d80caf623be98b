"""The query of a followed stream: from a flag, a file that changes, or what is typed."""

from __future__ import annotations

import codecs
import os
import select
from collections.abc import Callable

from vljepa_jax.inference.streams.narrator import read_lines


class Queries:
    """The present query, from the flag, the file or the terminal."""

    def __init__(
        self,
        query: str,
        file: str | None,
        typed: bool,
        encoding: str | None,
        notify: Callable[[str], None],
    ) -> None:
        """``notify``: told why a file's content is no query; the others: see ``LiveSettings``."""
        self.notify = notify
        self.query, self._file, self._typed, self._encoding = query, file, typed, encoding
        self._stamp: int | None = None
        self._line = ""  # typed so far
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.changed()  # the file's, from the beginning

    def changed(self) -> bool:
        """Looks for a new query; whether there is one."""
        before = self.query
        if self._file:
            try:
                stamp = os.stat(self._file).st_mtime_ns
                if stamp != self._stamp:
                    self._stamp = stamp
                    self.query = " ".join(read_lines(self._file, self._encoding)) or before
            except FileNotFoundError:
                self._stamp = None  # not there yet, or being replaced
            except (OSError, ValueError) as error:  # until it changes again
                self.notify(f"--query_file is not taken: {error}")
        while self._typed and self._is_typing():
            data = os.read(0, 4096)
            self._typed = bool(data)  # else standard input was closed, maybe within a line
            text = self._line + self._decoder.decode(data, final=not data)
            *lines, self._line = (text if data else f"{text}\n").split("\n")
            for line in filter(None, map(str.strip, lines)):
                self.query = line
        return self.query != before

    def _is_typing(self) -> bool:
        try:
            return bool(select.select([0], [], [], 0)[0])
        except OSError:  # closed by who started the command
            self._typed = False
            return False

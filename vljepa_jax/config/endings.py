"""How a command ends, where it does not reach its end: in one line and with a status.

    1          what is wrong, and what to mend
    128 + n    ended by signal n: Ctrl-C (130), SIGTERM (143), or nobody reads its output (141)

A fault of the program itself keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import rich.console

from vljepa_jax.places import without_login

_MENDS = {
    (errno.ENOSPC, errno.EDQUOT): "free some space there, and start the same command again",
    (errno.EROFS, errno.EACCES, errno.EPERM): "name a place that can be read and written, or change"
    " its permissions",
    (errno.ENAMETOOLONG,): "name a shorter path",
}


_ENDING = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal that asks to end, as an exception; the message names it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def told(error: Exception) -> str:
    """An error in one line for people; of the system's, with the file and what to do.

    Without the names and passwords of addresses: it may be written into a log.
    """
    if not isinstance(error, OSError) or error.strerror is None:
        return without_login(str(error))
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    mends = [mend for numbers, mend in _MENDS.items() if error.errno in numbers]
    return without_login(": ".join([*names, error.strerror, *mends]))


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Around a whole command, in the main thread of its process.

    The first Ctrl-C or SIGTERM unwinds it, so that what it has begun is tidied up; the second
    kills. Parts that save at a signal have handlers of their own meanwhile. Where nobody reads its
    output any more, as in ``| head``, it is asked to end as by SIGTERM.
    """
    output = _Output()
    sys.unraisablehook = _raised_in_vain
    logging.getLogger("absl").addFilter(_is_no_end)
    rich.console.Console.on_broken_pipe = output.unread  # else status 1 at once, and nothing saved
    try:
        for number in _ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell sets it in the background
                signal.signal(number, _stop)
        try:
            yield
        finally:
            sys.stdout.flush()  # what is wrong with that shows here, and not when Python ends
    except BrokenPipeError:
        output.discard()
        sys.exit(128 + signal.SIGPIPE)
    except SystemExit:
        if output.discarded:
            sys.exit(128 + signal.SIGPIPE)
        raise
    except KeyboardInterrupt as stopped:
        if output.discarded:
            sys.exit(128 + signal.SIGPIPE)
        print(f"error: {stopped}", file=sys.stderr)
        sys.exit(128 + getattr(stopped, "number", signal.SIGINT))
    except OSError as error:
        output.discard()  # it may be the output that cannot be written
        sys.exit(f"error: {told(error)}")
    finally:
        _unheard()  # Python that ends has nobody to catch what a handler raises


def _is_no_end(record: logging.LogRecord) -> bool:
    """Libraries, Orbax for one, log what passes through them, with its traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], Stopped))


def _raised_in_vain(unraisable: Any) -> None:
    """Asks again where the exception came up in what Python calls by itself, as to free memory."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    number = unraisable.exc_value.number
    signal.signal(number, _stop)
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()


def _stop(number: int, frame: Any) -> None:
    del frame
    _unheard()
    raise Stopped(number)


def _unheard() -> None:
    """From now on a signal ends the process at once."""
    for number in _ENDING:
        if signal.getsignal(number) == _stop:
            signal.signal(number, signal.SIG_DFL)


class _Output:
    """Standard output, where its reader may have gone.

    Attributes:
        discarded: whether what is written goes nowhere.
    """

    def __init__(self) -> None:
        self.discarded = False
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started the command
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until Python ends)
        # Names that are no UTF-8, and what the terminal's encoding lacks, are printed as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")

    def discard(self) -> None:
        """Lets Python end without an error about what is not written yet."""
        self.discarded = True
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())

    def unread(self) -> None:
        self.discard()
        signal.raise_signal(signal.SIGTERM)

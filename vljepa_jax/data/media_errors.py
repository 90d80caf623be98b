"""Whatever a file makes the libraries do that read it is the file's fault: a ``ClipError``.

On damaged files PyAV and Pillow raise nearly every kind of error that Python has, so that a list of
kinds would be long, and would take bugs of this package for faults of a file. Where an error was
raised tells the two apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from PIL import Image

from vljepa_jax.data.records import ClipError, Medium, clip_error

# Larger pictures are refused, in images and in videos: where Pillow begins to warn of decompression
# bombs. docs/media.md says how much memory one of this size takes.
MAX_PIXELS = 89_478_485

_LIBRARIES = ("av", "PIL", "pillow_heif")
_OWN = "vljepa_jax"


@contextlib.contextmanager
def reading(medium: Medium) -> Iterator[None]:
    """Errors of files and of the libraries that read them become the medium's, and are chained.

    Any other error is a bug of this package, and keeps its traceback.

    Raises:
        ClipError: the system, PyAV, Pillow or a plugin of it raised inside the block.
    """
    try:
        yield
    except ClipError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"has more than {MAX_PIXELS:,} pixels, the most that are read: scale it down"
        raise clip_error(medium, reason) from error
    except MemoryError as error:
        raise clip_error(medium, "takes more memory than there is") from error
    except Exception as error:
        if not (isinstance(error, OSError) or raised_by_library(error)):
            raise
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise clip_error(medium, f"cannot be decoded ({reason})") from error


def check_size(size: tuple[int, int]) -> None:
    """Raises DecompressionBombError, inside ``reading``, for a picture of too many pixels."""
    if size[0] * size[1] > MAX_PIXELS:
        raise Image.DecompressionBombError


def raised_by_library(error: BaseException) -> bool:
    """Whether PyAV, Pillow or a plugin of it raised an error, and not this package.

    The innermost function that is one's or the other's tells; those of Python's own library, which
    both call, do not.
    """
    raised, trace = type(error).__module__, error.__traceback__
    if _root(raised) in _LIBRARIES:
        return True
    inmost = ""
    while trace is not None:
        frame = trace.tb_frame
        # Functions that Cython compiled, as PyAV's, have no globals there, but a full name.
        root = _root(frame.f_globals.get("__name__") or frame.f_code.co_name)
        if root == _OWN or root in _LIBRARIES:
            inmost = root
        trace = trace.tb_next
    return inmost in _LIBRARIES


def _root(module: str) -> str:
    return module.partition(".")[0]

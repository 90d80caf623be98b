"""Where files lie: on a disk, or in a bucket (gs://BUCKET/DIR, s3://BUCKET/DIR).

Buckets are reached through ``etils.epath``, as Orbax does, with the credentials and the
environment variables of gcsfs (STORAGE_EMULATOR_HOST) and s3fs (AWS_ENDPOINT_URL, AWS_REGION).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Collection

from etils import epath

AnyPath = pathlib.Path | epath.Path

BUCKETS = ("gs://", "s3://")
DATASET_BUCKETS = ("gs://",)  # of these array_record reads
_CLIENTS = {"gs://": "gcsfs", "s3://": "s3fs"}
# At the beginning, and after what the flags put before a path: SPLIT=PATH and PATH,PATH. With one
# slash it is what a path made of an address.
_ADDRESS = re.compile(r"(?:^|[=,])((?:[A-Za-z][A-Za-z0-9+.-]*:/|gs:|s3:)/)")

# Name and password in an address: up to the last @ before its path, or, where what follows the
# colon is no port, so that characters of a password stand in it as they are, up to the last @.
_LOGIN = re.compile(
    r"(?<=:/)(/?)(?:"
    r"[^\s/?#]*@(?:[^\s/]*@)?"
    r"|(?!\[)[^\s/?#:]*:(?!\d*(?:[/?#\s'\"]|$))\S*@)"
)


def without_login(text: str) -> str:
    """A text for people, with names and passwords left out of the addresses in it."""
    return _LOGIN.sub(r"\1", text) if "@" in text else text


def why_not(text: str, accepted: Collection[str] = ()) -> str:
    """Why files cannot lie there, in words that continue "'TEXT' "; "" where they can.

    Args:
        text: a path or an address, or several, as flags and recipes take them.
        accepted: beginnings of addresses that can be used, of ``BUCKETS``, where it is one path.
    """
    for match in _ADDRESS.finditer(text):
        address = match[1]
        if address not in accepted or match.start(1) > 0:
            return (
                f"is an address, but this must lie {' or '.join(['on a disk', *accepted])}: mount "
                "the bucket (gcsfuse, Mountpoint for S3) or copy it, and give the path there"
            )
        if importlib.util.find_spec(_CLIENTS[address]) is None:
            return f"needs the package {_CLIENTS[address]}: pip install 'vljepa_jax[buckets]'"
    return ""


def place(path: str | os.PathLike[str], accepted: Collection[str] = BUCKETS) -> AnyPath:
    """A path on a disk as ``pathlib.Path``, an address of a bucket as ``epath.Path``.

    Args:
        accepted: as of ``why_not``.

    Raises:
        ValueError: it is an address of another kind, or a ``pathlib.Path`` made of one.
    """
    text = os.fspath(path)
    if fault := why_not(text, accepted):
        raise ValueError(f"'{without_login(text)}' {fault}")
    if not in_bucket(text):
        return pathlib.Path(text)
    _list_anew()
    return epath.Path(text)


@functools.cache
def _list_anew() -> None:
    """Lets what was listed once be asked for again: other programs write to a bucket too.

    They are TensorStore and other processes; fsspec, on which epath stands, would not see them.
    """
    import fsspec.config  # comes with the clients

    for protocol in ("gs", "gcs", "s3"):
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False


def in_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether it is the address of a place in a bucket."""
    return os.fspath(path).startswith(BUCKETS)


def complaint(path: AnyPath) -> str:
    """Why nothing under ``path`` can be listed, which ``exists`` would not tell; "" if it can."""
    bucket = epath.Path(*path.parts[:3])
    try:
        next(path.iterdir(), None)
    except FileNotFoundError:  # an empty directory, as buckets have none
        return "" if bucket.exists() else f"there is no bucket '{bucket}', or no right to read it"
    except Exception as error:  # of the client, whose kinds of errors are its own
        return f"{type(error).__name__}: {error}"
    return ""


def make_directory(path: AnyPath) -> None:
    """Makes a directory and those above it; a bucket has none, and is not made itself."""
    if not in_bucket(path):
        path.mkdir(parents=True, exist_ok=True)


def file_stamp(path: AnyPath) -> str:
    """Changes when a file is written anew: its size and time."""
    status = path.stat()
    if in_bucket(path):
        return f"{status.length}-{status.mtime}"
    return f"{status.st_size}-{status.st_mtime_ns}"


def write_text(path: AnyPath, text: str) -> None:
    """As ``write_bytes``; lone surrogates, of names that are no UTF-8, are escaped."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Replaces a file in one stroke: a killed process leaves the old one or the new one."""
    if in_bucket(path):
        path.write_bytes(data)  # an object appears when it is whole
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)

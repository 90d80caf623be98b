"""Small files in the formats of sources to train on, made up for tests."""

import io
import json
import pathlib
import tarfile

import numpy as np

from tests.helpers.sample_media import png


def image(value: int = 0) -> bytes:
    return png(np.full((8, 8, 3), value, np.uint8))


def write_tar(path: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
    """An archive of members in the order given; a name ending in "*" is written without it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name.rstrip("*"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def captioned(*keys: str, text: str = "text of {}") -> dict[str, bytes]:
    """Members of samples as img2dataset writes them; the picture's brightness is its place."""
    return {
        name: data
        for place, key in enumerate(keys)
        for name, data in (
            (f"{key}.jpg", image(place)),
            (f"{key}.txt", text.format(key).encode()),
            (f"{key}.json", json.dumps({"caption": key, "status": "success"}).encode()),
        )
    }


def write_lines(path: pathlib.Path, rows: list) -> pathlib.Path:
    """JSON lines; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """A conversation of questions and answers."""
    speakers = [("human", question) for question, _ in pairs], [("assistant", a) for _, a in pairs]
    return [
        {"from": who, "value": said} for pair in zip(*speakers, strict=True) for who, said in pair
    ]


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    """All files of a folder with their bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }

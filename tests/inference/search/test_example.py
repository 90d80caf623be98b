"""The clip of a search by example, as a person names it."""

import numpy as np
import pytest
from PIL import Image

from vljepa_jax.data.records import ClipError
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.search.example import ExampleError, read_example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    clip = write_mp4(np.zeros((100, 32, 32, 3), np.uint8), fps=1)
    (folder / "clip.mp4").write_bytes(clip)
    (folder / "a@4-8").write_bytes(clip)
    (folder / "text.mp4").write_bytes(b"no video")
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    return folder


@pytest.mark.parametrize(
    ("named", "path", "start", "end"),
    [
        ("clip.mp4", "clip.mp4", None, None),
        ("clip.mp4@4-8", "clip.mp4", 4.0, 8.0),
        ("clip.mp4@1:05-1:09.5", "clip.mp4", 65.0, 69.5),
        ("clip.mp4@0:01:05-", "clip.mp4", 65.0, None),
        ("clip.mp4@-8", "clip.mp4", None, 8.0),
        ("a@4-8", "a@4-8", None, None),  # it is there under this name
        ("a@4-8@1-2", "a@4-8", 1.0, 2.0),
        ("picture.png", "picture.png", None, None),
    ],
)
def test_a_file_or_a_part_of_it(folder, named, path, start, end):
    medium = read_example(str(folder / named))
    assert (medium.path, medium.start, medium.end) == (str(folder / path), start, end)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("clip.mp4@", "after @ comes a span, START-END"),
        ("clip.mp4@-", "after @ comes a span"),
        ("clip.mp4@soon", "clip.mp4@4-8"),
        ("clip.mp4@200-204", "starts at 200.0 s, but is 100.00 s long"),
        ("clip.mp4@8-4", "ends at 4 s, but starts at 8 s"),
        ("picture.png@1-2", "is a picture, which has no span: leave out @1-2"),
        ("text.mp4@1-2", "text.mp4: cannot be decoded"),
        ("gone.mp4@1-2", "gone.mp4"),
    ],
)
def test_what_is_no_example_is_told(folder, named, message):
    with pytest.raises((ExampleError, ClipError), match=message):
        read_example(str(folder / named))

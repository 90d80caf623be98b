import os
import pickle

import pytest

from vljepa_jax.data.records import ClipError, Medium, clip_error, shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/[c] é 会議\u3000録画.mp4", "a b/[c] é 会議\u3000録画.mp4"),
        (os.fsdecode(b"caf\xe9\xff.mp4"), r"caf\xe9\xff.mp4"),
        ("a\nb\tc\r\x1b[31m\x00\x7f", r"a\nb\tc\r\x1b[31m\x00\x7f"),
        ("gnp.\u202eexe\u2028\u200b", r"gnp.\u202eexe\u2028\u200b"),  # turns letters round
        ("\ud800\U000e0001", r"\ud800\U000e0001"),
        ("", ""),
    ],
)
def test_names_are_shown_in_a_line(name, expected):
    assert shown(name) == shown(expected) == expected
    shown(name).encode()


def test_an_error_is_a_line():
    error = clip_error(Medium(path="/a\n\udce9.mp4"), "is empty")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == r"/a\n\xe9.mp4: is empty"
    assert isinstance(error, ClipError)

"""What is typed becomes the query, however its bytes come."""

import os

import pytest

from vljepa_jax.inference.streams.queries import Queries


@pytest.fixture
def typing():
    """Standard input is what is written to this file descriptor."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    yield writing
    os.dup2(before, 0)
    for descriptor in (before, reading):
        os.close(descriptor)


def test_a_letter_may_come_in_two_parts_and_the_last_line_without_an_end(typing):
    queries = Queries("what?", None, True, None, print)
    for part, now in ((b"caf\xc3", "what?"), (b"\xa9?\nwh", "café?"), (b"o?", "café?")):
        os.write(typing, part)
        queries.changed()
        assert queries.query == now
    os.close(typing)
    assert queries.changed()
    assert queries.query == "who?"
    assert not queries.changed()

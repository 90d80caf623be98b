"""docs/troubleshooting.md quotes the messages that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()


def messages():
    """The texts in the source, with "…" for what is put into them."""
    for path in (ROOT / "vljepa_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                yield "".join(parts)


def quoted():
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            cell = line.removeprefix("| ").partition(" | ")[0]
            yield from re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def found():
    return list(messages())


@pytest.mark.parametrize("message", list(quoted()))
def test_a_quoted_message_is_one(found, message):
    assert any(message in each for each in found)


def test_the_page_quotes_some():
    assert len(list(quoted())) > 50

import json
import sys

import pytest

from vljepa_jax.json_text import JSONError, parse_json, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_documents_of_any_unicode(encoding):
    assert parse_json('{"é": [1, {"a": null}]}'.encode(encoding)) == {"é": [1, {"a": None}]}


@pytest.mark.parametrize("depth", [101, 900, sys.getrecursionlimit() * 3, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting(opening, closing, depth):
    innermost = "[]" if opening == "[" else "{}"
    with pytest.raises(JSONError, match="^is nested deeper than 100 times$"):
        parse_json(opening * depth + innermost + closing * depth)
    parse_json(opening * 99 + innermost + closing * 99)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1,}', "1" * 5000, b"\xff\xfe{", b'"caf\xe9"'])
def test_what_is_no_json(text):
    with pytest.raises(JSONError, match="^is (no JSON|not in UTF-8)"):
        parse_json(text)


def test_files_are_named(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(JSONError, match=r"a.json: cannot be read \(No such file"):
        read_json(path, dict)
    path.write_text(json.dumps([1]))
    assert read_json(path, list) == [1]
    with pytest.raises(JSONError, match="a.json: is JSON, but not an object"):
        read_json(path, dict)
    path.write_text("{")
    with pytest.raises(JSONError, match="a.json: is no JSON"):
        read_json(path, dict)

import random

import pytest

from vljepa_jax.data.grouped_rows import GroupedRows, pack, write_rows
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.shares import Refused, readable


def row(name, path, **medium):
    annotation = Annotation(name, "vqa", "what?", texts=(name,), tags={"kind": "x"})
    return Record(name, (Medium(path=path, **medium),), (annotation,))


def test_files_depend_on_the_rows_alone_and_media_come_together(tmp_path):
    rows = [row(f"{n}", f"/caf\udce9-{n % 3}.mp4", start=1.0, end=2.5 + n % 2) for n in range(12)]
    rows += [Refused("r", "no text", "it's empty"), row("e", "", data=b"\xff\0")]
    for seed in range(2):
        shuffled = random.Random(seed).sample(rows, len(rows))
        (tmp_path / str(seed)).mkdir()
        write_rows(str(tmp_path / str(seed)), 7, map(pack, shuffled))
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["00007.rows"]
    found = [(tmp_path / str(seed) / "00007.rows").read_bytes() for seed in range(2)]
    assert found[0] == found[1]
    source = GroupedRows({}, str(tmp_path / "0"))
    read = list(source.read(*source.pieces()))
    assert [r for r in read if isinstance(r, Refused)] == rows[12:13]
    records = [r for r in read if isinstance(r, Record)]
    assert len(records) == 7  # three files, two spans each, and the embedded one
    expected = {}
    for record in rows[:12] + rows[13:]:
        expected.setdefault(record.media, set()).update(a.id for a in record.annotations)
    assert {r.media: {a.id for a in r.annotations} for r in records} == expected


@pytest.mark.parametrize("end", [b"\xc1\xc1\xc1\xc1\xc1", b""])
def test_a_damaged_or_truncated_file_gives_what_is_before_the_damage(tmp_path, end):
    write_rows(str(tmp_path), 0, [pack(row(str(n), str(n))) for n in range(4)])
    path = tmp_path / "00000.rows"
    path.write_bytes(path.read_bytes()[:-5] + end)
    source = GroupedRows({}, str(tmp_path))
    (piece,) = source.pieces()
    *records, refused = readable(source, piece)
    assert len(records) >= 2
    assert refused.kind == "damaged file"

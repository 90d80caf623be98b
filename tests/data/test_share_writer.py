import dataclasses
import hashlib
import itertools
import json
import shutil

import pytest

from tests.helpers.training_files import contents, image, turns, write_lines
from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.records import Medium, Record
from vljepa_jax.data.share_writer import ShareError, ShareJob, ShareOptions
from vljepa_jax.data.shares import Piece, Refused, divide, grouped, lines
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.datasets.columns import caption
from vljepa_jax.datasets.sft_lines import SFTLines

BAD = 5  # of the source's rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four files of 30 rows about ten images, three after each other about each; five are bad."""
    root = tmp_path_factory.mktemp("source")
    for value in range(10):
        (root / f"{value}.png").write_bytes(image(value))
    (root / "no.png").write_bytes(b"?")
    for number in range(4):
        rows = [
            {
                "image": f"{row // 3}.png",
                "conversations": turns(("<image>\nwhat?", f"{number}-{row}")),
            }
            for row in range(30)
        ]
        write_lines(root / f"{number}.jsonl", rows)
    bad = [
        *({"image": "gone.png", "text": "a"}, {"image": "../x.png", "text": "a"}, b"{no json"),
        *({"image": "no.png", "text": "a"}, {"image": "0.png", "text": " "}),
    ]
    write_lines(root / "4.jsonl", bad)
    return root


def plan(root, output, on_error="skip", decode=True, size=1):
    options = ShareOptions("train", MediaCheck(embed=True, decode=decode), on_error)
    return ShareJob.plan(SFTLines({"title": "Lines"}, str(root)), options, output, "lines", size)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The files of the dataset, written in one process in order."""
    job = plan(root, tmp_path_factory.mktemp("whole") / "d")
    list(job.write(job.missing(), 0))
    job.finish()
    return contents(job.output)


def test_rows_of_one_medium_that_follow_each_other_are_one_record(root, whole, tmp_path):
    job = plan(root, tmp_path / "d")
    list(job.write(job.missing(), 0))
    card = job.finish()
    assert (card["rows"], card["records"], card["annotations"]) == (125, 40, 120)
    assert card["skipped"] == {
        "missing file": 1,
        "name leads out of the root": 1,
        "no JSON": 1,
        "no text": 1,
        "unreadable": 1,
    }
    records = list(open_dataset(job.output).records("train"))
    assert [len(record.annotations) for record in records] == [3] * 40
    assert records[11].media == (Medium(data=image(1)),)
    assert [a.texts for a in records[11].annotations] == [("1-3",), ("1-4",), ("1-5",)]
    assert {a.query for record in records for a in record.annotations} == {"what?"}
    told = [json.loads(line) for line in (job.output / "skipped.jsonl").read_text().splitlines()]
    assert sum(card["skipped"].values()) == len(told) == BAD
    assert card["files"][0]["sha256"] == hashlib.sha256((root / "0.jsonl").read_bytes()).hexdigest()
    assert open_dataset(job.output).sources[0]["skipped"] == card["skipped"]


def test_whatever_is_there_already_and_whoever_writes_the_bytes_are_the_same(root, whole, tmp_path):
    job = plan(root, tmp_path / "d")
    # Job arrays, of which one was ended: a share without its report, and the folder of a writer.
    list(job.write(job.missing(2, 3), 0))
    list(job.write(job.missing(0, 3), 0))
    assert [index for index, _ in job.missing()] == [1, 4]
    (job.partial / "train-00000.report.json").unlink()
    (job.partial / "train-00002.table.npy").write_bytes(b"half")
    (job.partial / "train-00002.report.json").unlink()
    shutil.copytree(job.partial, tmp_path / "copy")
    shutil.move(tmp_path / "copy", job.partial / ".train-00001.abc")
    with pytest.raises(ShareError, match="4 of 5 shares are not written"):
        job.finish()
    again = plan(root, tmp_path / "d")
    list(again.write(list(reversed(again.missing())), 2))
    again.finish()
    assert contents(again.output) == whole


def test_one_that_was_ended_before_it_had_its_name_is_finished(root, whole, tmp_path, monkeypatch):
    job = plan(root, tmp_path / "d")
    list(job.write(job.missing(), 0))
    with monkeypatch.context() as patch:
        patch.setattr(ShareJob, "_clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            job.finish()
    (job.partial / "train-00003.report.json").unlink()  # _clear had begun
    again = plan(root, tmp_path / "d")
    assert again.missing() == []
    again.finish()
    assert contents(again.output) == whole


def test_a_fault_is_refused_and_what_was_written_stays(root, tmp_path):
    job = plan(root, tmp_path / "d", on_error="refuse")
    with pytest.raises(
        ShareError, match="leads out of the root: .*x.png.* of share 4.*--on_error=skip"
    ):
        list(job.write(job.missing(), 0))
    assert [index for index, _ in job.missing()] == [4]
    assert not list(job.partial.glob(".train*"))


def test_other_options_or_other_files_are_another_job(root, tmp_path):
    plan(root, tmp_path / "d")
    with pytest.raises(ShareError, match="begun with other options, or .* files have changed"):
        plan(root, tmp_path / "d", decode=False)
    with pytest.raises(ShareError, match="begun with other options"):
        plan(root, tmp_path / "d", size=1 << 20)
    (tmp_path / "e").mkdir()
    with pytest.raises(FileExistsError):
        plan(root, tmp_path / "e")


def test_the_first_bytes_alone_may_be_looked_at(root, whole, tmp_path):
    job = plan(root, tmp_path / "d", decode=False)
    list(job.write(job.missing(), 0))
    job.finish()
    found = contents(job.output)
    assert found.keys() == whole.keys()
    parts = [name for name in whole if name.endswith((".array_record", ".npy"))]
    assert len(parts) == 15
    assert all(found[name] == whole[name] for name in parts)


def test_each_line_is_of_the_piece_in_which_it_begins(tmp_path):
    path = tmp_path / "lines"
    text = b"".join(b"x" * length + b"\n" for length in (0, 3, 1, 7, 2, 0, 5)) + b"last"
    path.write_bytes(text)
    expected = [(0, b"\n")]
    for line in text.split(b"\n")[1:]:
        expected.append((expected[-1][0] + len(expected[-1][1]), line + b"\n"))
    expected[-1] = (expected[-1][0], b"last")
    for size in range(1, len(text) + 2):
        ends = itertools.pairwise([*range(0, len(text), size), len(text)])
        found = [line for piece in ends for line in lines(Piece(str(path), *piece))]
        assert found == expected


def test_shares_are_of_the_size_asked_for(tmp_path):
    paths = [tmp_path / str(index) for index in range(5)]
    for path, size in zip(paths, (5, 5, 30, 1, 1), strict=True):
        path.write_bytes(b"x" * size)
    shares = divide((Piece(str(path)) for path in paths), 10)
    assert [[piece.path[-1] for piece in share] for share in shares] == [
        ["0", "1"],
        ["2"],
        ["3", "4"],
    ]


def test_an_id_that_was_there_before_in_a_share_is_refused(root, tmp_path):
    row = Record("a", (Medium(path=str(root / "0.png")),), (caption("a", "one"),))
    other = dataclasses.replace(row, media=(Medium(path=str(root / "1.png")),))

    @dataclasses.dataclass(frozen=True)
    class Twice(SFTLines):
        def read(self, piece):
            yield from (row, other)

    options = ShareOptions("train", MediaCheck(embed=False), "skip")
    (tmp_path / "a.jsonl").write_text("x")
    job = ShareJob.plan(Twice({}, str(tmp_path)), options, tmp_path / "d", "d")
    list(job.write(job.missing(), 0))
    card = job.finish()
    assert (card["annotations"], card["skipped"]) == (1, {"duplicate id": 1})


def test_refused_rows_do_not_part_those_of_a_medium():
    medium, other = (Medium(path="a"),), (Medium(path="b"),)
    rows = [Record("1", medium, ("x",)), Refused("2", "k", "r"), Record("3", medium, ("y",))]
    found = list(grouped([*rows, Record("4", other, ("z",))]))
    assert found == [rows[1], Record("1", medium, ("x", "y")), Record("4", other, ("z",))]

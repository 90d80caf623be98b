"""Each source in its published form, and what is wrong with files of it."""

import io
import json
import tarfile

import pytest
import rich.console

from tests.helpers.training_files import captioned, image, turns, write_lines, write_tar
from vljepa_jax.data.records import Medium, Record
from vljepa_jax.data.shares import SourceError, UnreadableFile
from vljepa_jax.datasets import training_command
from vljepa_jax.datasets.columns import Columns
from vljepa_jax.datasets.ego4d import json_items
from vljepa_jax.datasets.training_sources import NOT_PUBLISHED, SOURCES

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def read(name, root, columns=None, task=""):
    """(records, the kinds of refusal, by id) of all pieces."""
    records, refused = [], {}
    source = SOURCES[name].open(str(root), columns or Columns(), task)
    for piece in source.pieces():
        try:
            for row in source.read(piece):
                if isinstance(row, Record):
                    records.append(row)
                else:
                    refused[row.id] = row.kind
        except UnreadableFile as error:
            refused[piece.path.rpartition("/")[2]] = error.kind
    return records, refused


def texts(records):
    return {a.id: (a.task, a.query, *a.texts) for record in records for a in record.annotations}


# ---------------------------------------------------------------------------------------------
# Webdataset
# ---------------------------------------------------------------------------------------------
def test_datacomp_is_read_in_its_archives(tmp_path):
    archive = write_tar(tmp_path / "00000.tar", captioned("000000", "000001"))
    (first, second), refused = read("datacomp", tmp_path)
    assert not refused
    assert texts([first]) == {"00000/000000": ("caption", "", "text of 000000")}
    (medium,) = second.media
    data = archive.read_bytes()
    assert data[medium.offset : medium.offset + medium.length] == image(1)
    recaptioned, _ = read("datacomp", tmp_path, Columns(text="json.caption"))
    assert texts(recaptioned)["00000/000001"] == ("caption", "", "000001")


def test_what_is_wrong_with_a_sample_is_told(tmp_path):
    members = {
        **captioned("a"),
        "no_image.txt": b"x",
        "no_text.jpg": image(),
        "latin.jpg": image(),
        "latin.txt": "\xe9".encode("latin-1"),
        "empty.jpg": image(),
        "empty.txt": b" ",
        "../out.jpg": image(),
        "../out.txt": b"x",
        "a.jpg*": image(),
        "a.txt*": b"again",
        "twice.jpg": image(),
        "twice.txt": b"x",
        "twice.txt*": b"y",
    }
    records, refused = read("datacomp", write_tar(tmp_path / "t.tar", members).parent)
    assert texts(records) == {"t/a": ("caption", "", "text of a")}
    assert refused == {
        "t/no_image": "no image",
        "t/no_text": "no text",
        "t/latin": "text is not UTF-8",
        "t/empty": "no text",
        "t/../out": "name leads out of the root",
        "t/a": "duplicate key",
        "t/twice": "duplicate key",
    }


def test_damaged_archives_give_what_is_before_the_damage(tmp_path):
    path = write_tar(tmp_path / "t.tar", captioned("0", "1", "2"))
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        ends = [m.offset_data + -(-m.size // 512) * 512 for m in archive.getmembers()]
    assert data[ends[-1] : ends[-1] + 512] == bytes(512)
    damaged = bytearray(data)
    damaged[ends[5] + 148 : ends[5] + 156] = b"????????"  # the checksum of the header of 2.jpg
    for broken, whole in (
        (data[: ends[5] + 700], 2),  # in the middle of 2.jpg
        (data[: ends[8]], 2),  # before the zeros at the end: 2 may not be whole
        (bytes(damaged), 1),  # of 1 more may follow
        (b"no archive" * 100, 0),
        (b"", 0),
    ):
        path.write_bytes(broken)
        records, refused = read("webdataset", tmp_path)
        assert (len(records), refused) == (whole, {"t.tar": "damaged file"}), len(broken)


def test_conversations_of_any_webdataset(tmp_path):
    talk = {"conversations": turns(("<image>\nWho?", "a dog"), ("Where?", "here"))}
    members = {"x.png": image(), "x.json": json.dumps(talk).encode()}
    members |= {"y.png": image(), "y.json": b"{no", "z.png": image(), "z.json": b'{"a": 1}'}
    records, refused = read("webdataset", write_tar(tmp_path / "d" / "t.tar", members).parents[1])
    assert texts(records) == {
        "d/t/x/1": ("vqa", "Who?", "a dog"),
        "d/t/x/3": ("vqa", "Where?", "here"),
    }
    assert refused == {"d/t/y": "another schema", "d/t/z": "another schema"}


# ---------------------------------------------------------------------------------------------
# Parquet
# ---------------------------------------------------------------------------------------------
def write_parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def test_images_of_hugging_face_with_conversations_or_captions(tmp_path):
    talk = [turns(("<image>Who?", "a dog")), turns(("", "said unasked")), None]
    pictures = [{"bytes": image(), "path": "x.png"}, {"bytes": None, "path": "p.png"}, None]
    write_parquet(tmp_path / "sa1b" / "0.parquet", image=pictures, conversations=talk)
    write_parquet(tmp_path / "b.parquet", image=[image(), image(1)], caption=["one", None])
    write_parquet(tmp_path / "c.parquet", image=["../x.png"], caption=["one"])
    records, refused = read("plm_image_auto", tmp_path)
    assert texts(records) == {
        "sa1b/0:0/1": ("vqa", "Who?", "a dog"),
        "sa1b/0:1/1": ("caption", "", "said unasked"),
        "b:0": ("caption", "", "one"),
    }
    media = {record.id: record.media for record in records}
    assert media["sa1b/0:0"] == (Medium(data=image()),)
    assert media["sa1b/0:1"] == (Medium(path=str(tmp_path / "p.png")),)
    assert refused == {
        "sa1b/0:2": "no image",
        "b:1": "another schema",
        "c:0": "name leads out of the root",
    }


def test_damaged_and_other_parquet(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", image=[image()] * 9, caption=["x"] * 9)
    write_parquet(tmp_path / "b.parquet", url=["x"])
    raw = pyarrow.array([b"\xff", b"y"]).view(pyarrow.string())
    write_parquet(tmp_path / "c.parquet", image=[image()] * 2, caption=raw)
    (tmp_path / "d.parquet").write_bytes(path.read_bytes()[:-20])
    records, refused = read("parquet", tmp_path)
    assert len(records) == 10
    assert refused == {
        "b.parquet": "another schema",
        "c:0": "text is not UTF-8",
        "d.parquet": "damaged file",
    }
    records, _ = read("parquet", tmp_path, Columns(text="caption", image="image"))
    assert len(records) == 10
    _, refused = read("parquet", tmp_path, Columns(text="capton"))
    assert refused["a.parquet"] == "another schema"


def test_damaged_parquet_gives_what_is_before_the_damage(tmp_path):
    """Groups of rows that are whole; what follows the first damaged one is not looked for."""
    table = pyarrow.table({"image": [image()] * 5000, "caption": [f"{n}" for n in range(5000)]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=1000)
    group = parquet.ParquetFile(path).metadata.row_group(3)
    first = group.column(1).dictionary_page_offset or group.column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[first : first + 400] = bytes(400)
    path.write_bytes(data)
    records, refused = read("parquet", tmp_path)
    assert refused == {"a.parquet": "damaged file"}
    assert [record.id for record in records] == [f"a:{n}" for n in range(len(records))]
    assert 2000 < len(records) <= 3000


# ---------------------------------------------------------------------------------------------
# Tables, lines and trees
# ---------------------------------------------------------------------------------------------
def test_yfcc_in_both_published_forms(tmp_path):
    old = ["1", "u", "n", "", "", "", "Spam+Musubi", "a%20dog%2C%0Ahere", *[""] * 12, "jpg", "0"]
    old.insert(20, "")
    assert len(old) == 23
    hashed = ["7", "2", "abcdef99", *old[1:]]
    video = ["8", "3", "123456ff", *old[1:-1], "1"]
    wrong = ["4", "x"]
    bad = ["5", *old[1:6], "%ff", "", *old[8:]]
    rows = ["\t".join(row) for row in (old, hashed, video, wrong, bad)]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "b.tsv").write_text("photoid\ttitle\text\n6\tsix\tpng\n")
    records, refused = read("yfcc100m", tmp_path)
    assert texts(records) == {
        **{f"{n}/title": ("caption", "", "Spam Musubi") for n in (1, 2, 3)},
        **{f"{n}/description": ("caption", "", "a dog,\nhere") for n in (1, 2, 3)},
        "6/title": ("caption", "", "six"),
    }
    assert [record.media[0].path.removeprefix(f"{tmp_path}/") for record in records] == [
        "images/1.jpg",
        "data/images/abc/def/abcdef99.jpg",
        "data/videos/mp4/123/456/123456ff.mp4",
        "images/6.png",
    ]
    assert records[0].annotations[1].tags == {"field": "description"}
    assert sorted(refused.values()) == ["another schema", "no text", "text is not UTF-8"]


NODES = [
    {
        "node_id": "n0",
        "level": 0,
        "start": 0.0,
        "end": 9.5,
        "plm_action": "Cook",
        "plm_caption": None,
        "llama3_caption": "A long text.",
        "gpt": {
            "summary": {"brief": "brief", "detailed": ""},
            "action": {"brief": "N/A", "detailed": "detail", "actor": "a man"},
        },
    },
    {"node_id": "n1", "level": 1, "start": 0.0, "end": 4.0, "plm_action": "Cut", "gpt": None},
    {"node_id": "n2", "level": 1, "start": 4.0, "end": 4.0, "plm_action": "Cut", "gpt": None},
]


def test_action100m_is_a_record_a_video(tmp_path):
    columnar = {"video_uid": ["u"], "metadata": [{}], "nodes": [NODES]}
    (tmp_path / "u.json").write_text(json.dumps(columnar))
    write_parquet(tmp_path / "data" / "0.parquet", video_uid=["v", "w"], nodes=[NODES, []])
    records, refused = read("action100m", tmp_path)
    assert [record.id for record in records] == ["v", "u"]
    for record in records:
        path = f"{tmp_path}/videos/{record.id}.mp4"
        assert record.media == (
            Medium(path=path, start=0.0, end=9.5),
            Medium(path=path, start=0.0, end=4.0),
        )
        found = [(a.tags["field"], a.tags["level"], a.inputs, *a.texts) for a in record.annotations]
        assert found == [
            ("plm_action", "0", (0,), "Cook"),
            ("llama3_caption", "0", (0,), "A long text."),
            ("gpt.summary.brief", "0", (0,), "brief"),
            ("gpt.action.detailed", "0", (0,), "detail"),
            ("gpt.action.actor", "0", (0,), "a man"),
            ("plm_action", "1", (1,), "Cut"),
        ]
    assert refused == {
        "v/n0/gpt.action.brief": "no text",
        "v/n2": "end before start",
        "w": "no text",
        "u/n0/gpt.action.brief": "no text",
        "u/n2": "end before start",
    }


def test_ego4d_narrations(tmp_path):
    def narration(second, text):
        return {"timestamp_sec": second, "narration_text": text, "annotation_uid": "x"}

    first = [
        narration(0.5, "#C C opens a door"),
        narration(9, "#O A man X sits"),
        narration(1, "#C C takes #unsure"),
    ]
    passes = {"narration_pass_1": {"narrations": first}, "status": "complete"}
    passes["narration_pass_2"] = {"narrations": [narration(2, "plain"), {"narration_text": "x"}]}
    content = {"v1": passes, "v2": {"status": "redacted"}}
    (tmp_path / "narration.json").write_text(json.dumps(content))
    (tmp_path / "video_540ss").mkdir()
    (tmp_path / "video_540ss" / "v1.mp4").write_bytes(b"x")
    records, refused = read("ego4d", tmp_path)
    assert texts(records) == {
        "v1/1/0": ("caption", "", "C opens a door"),
        "v1/1/1": ("caption", "", "A man X sits"),
        "v1/2/0": ("caption", "", "plain"),
    }
    path = str(tmp_path / "video_540ss" / "v1.mp4")
    assert records[0].media == (Medium(path=path, start=-0.5, end=1.5),)
    assert records[1].annotations[0].tags == {"actor": "O"}
    assert refused == {"v1/1/2": "unsure", "v1/2/1": "another schema"}


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
def test_entries_of_an_object_are_read_one_after_another(tmp_path, monkeypatch, block):
    monkeypatch.setattr("vljepa_jax.datasets.ego4d._BLOCK", block)
    path = tmp_path / "x.json"
    content = {"a": {"b": [1, 2.5, 'c"}']}, "d": 12345, "é": [], "": None, "f": {}}
    for indent in (None, 1):
        path.write_text(json.dumps(content, indent=indent, ensure_ascii=False))
        assert dict(json_items(str(path))) == content
    text = path.read_text()
    for broken in (text[:-1], text[:20], "", "[1]", text.replace(":", ";", 1), '{"a": x}'):
        path.write_text(broken)
        with pytest.raises(UnreadableFile):
            list(json_items(str(path)))


def test_plm_conversations_have_an_annotation_a_turn_of_the_assistant(tmp_path):
    rows = [
        {
            "image": "a.png",
            "conversations": turns(("<image>\nWho?", "a dog"), ("Where?", " here ")),
        },
        {"image": ["a.png", "b.png"], "conversations": turns(("Same?", "no"))},
        {"video": "v.mp4", "start_time": 1, "end_time": 2.5, "text": "a caption"},
        {"video": "v.mp4", "start_time": 3, "end_time": 2.5, "text": "x"},
        {"image": "a.png", "bbox": [1, 2, 3, 4], "conversations": turns(("<image>?", "x"))},
        {"conversations": turns(("Hello", "x"))},
        {"image": 3, "text": "x"},
        {"image": "a.png", "conversations": [{"from": "nobody", "value": "x"}]},
        ["x"],
        b'{"image": "a.png", "text": "\xff"}',
    ]
    write_lines(tmp_path / "rows.jsonl", rows)
    records, refused = read("plm_sft", tmp_path)
    found = list(texts(records).values())
    assert found == [
        ("vqa", "Who?", "a dog"),
        ("vqa", "Where?", "here"),
        ("vqa", "Same?", "no"),
        ("caption", "", "a caption"),
    ]
    assert records[1].annotations[0].inputs == (0, 1)
    assert records[2].media == (Medium(path=str(tmp_path / "v.mp4"), start=1, end=2.5),)
    assert sorted(refused.values()) == sorted(
        ["end before start", "about a region", "no image", "text is not UTF-8"]
        + 3 * ["another schema"]
    )
    records, _ = read("plm_sft", tmp_path, task="classification")
    assert {a.task for record in records for a in record.annotations} == {
        "classification",
        "caption",
    }


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------
def test_the_command_writes_what_is_missing_and_shows_a_card(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", {**captioned("a", "b"), "c.txt": b"x"})
    console = rich.console.Console(file=io.StringIO(), width=100)

    def run(shard=""):
        job = training_command.plan(
            "datacomp", root=str(tmp_path / "in"), output=str(tmp_path / "out")
        )
        training_command.run(job, shard=shard, num_workers=0, console=console)

    run("0/2")
    assert not (tmp_path / "out").exists()
    run()
    printed = console.file.getvalue()
    assert "0 of 1 shares are to be written" in printed
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["source"]["title"] == "DataComp-1B"
    assert card["source"]["licence"].startswith("CC BY 4.0")
    assert (card["annotations"], card["skipped"]) == (2, {"no image": 1})
    assert "skipped: no image" in printed
    for shard in ("2/2", "x", "1"):
        job = training_command.plan(
            "datacomp", root=str(tmp_path / "in"), output=str(tmp_path / "x")
        )
        with pytest.raises(SourceError, match="write i/n"):
            training_command.run(job, shard=shard, num_workers=0, console=console)


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(SourceError, match="--columns is not for this source"):
        SOURCES["yfcc100m"].open("x", Columns(image="jpg"), "")
    with pytest.raises(SourceError, match="--task is not for this source"):
        SOURCES["datacomp"].open("x", Columns(), "vqa")
    with pytest.raises(SourceError, match="--task=capton: .*did you mean 'caption'"):
        SOURCES["plm_sft"].open("x", Columns(), "capton")
    with pytest.raises(SourceError, match="'imge=x' is none of image, text"):
        Columns.parse(["imge=x"])
    with pytest.raises(SourceError, match=r"there is no \*.tar below"):
        list(SOURCES["datacomp"].open(str(tmp_path), Columns(), "").pieces())
    assert Columns.parse(["text=json.a", "image=jpg"]) == Columns(image="jpg", text="json.a")


def test_the_list_names_all_and_what_is_not_published():
    console = rich.console.Console(file=io.StringIO(), width=200)
    training_command.show_list(console)
    printed = console.file.getvalue()
    assert all(name in printed for name in [*SOURCES, *NOT_PUBLISHED])

import io
import json
import pathlib
import subprocess
import sys

import pyarrow
import pytest
import rich.console
from pyarrow import parquet

from tests.helpers.official_files import rows, write
from tests.helpers.sample_media import encode, numbered_frames
from vljepa_jax.data.manifest import ManifestError, open_manifest
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.datasets import command, conversion
from vljepa_jax.datasets.action_clips import SSV2
from vljepa_jax.datasets.adapter import AdapterError

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "prepare.py"


@pytest.fixture
def ssv2(tmp_path):
    records = [{"id": str(n), "template": "Tearing [something]"} for n in range(3)]
    files = {
        "labels/labels.json": {"Tearing something": "0"},
        "labels/train.json": records[:1],
        "labels/validation.json": records[1:],
    }
    write(tmp_path / "ssv2", files)
    (tmp_path / "ssv2/videos").mkdir()
    encode(tmp_path / "ssv2/videos/1.webm", numbered_frames(8))
    return tmp_path / "ssv2"


def run(name, **options):
    defaults = {"root": None, "splits": (), "rows": None, "output": None, "check": False}
    defaults |= {"on_error": "skip", "embed": True, "num_workers": 0}
    console = rich.console.Console(file=io.StringIO(), width=200)
    status = command.run(name, **defaults | options, console=console)
    return status, console.file.getvalue()


def test_rows_that_no_manifest_can_have_are_told_and_left_out(tmp_path):
    """COIN's times as text, and a task that ends before it begins; the third row is whole."""
    video = {"class": "Cook", "annotation": [], "subset": "testing", "recipe_type": 1}
    times = {"a": ("x", 2.0), "b": (5.0, 1.0), "c": (0.0, 2.0)}
    database = {n: video | {"start": start, "end": end} for n, (start, end) in times.items()}
    root = str(write(tmp_path / "coin", {"COIN.json": {"database": database}}))
    written = tmp_path / "rows.jsonl"
    status, shown = run("coin_task", root=root, splits=["testing"], rows=str(written))
    assert status == 0
    assert (
        "2 rows cannot be used and are left out, the first: split 'testing', row 1, 'a': " in shown
    )
    assert "media[0].start must be a number of seconds" in shown
    assert "split 'testing': 3 media files, not 2,797" in shown
    assert [json.loads(line)["id"] for line in written.read_text().splitlines()] == ["c"]
    manifest = open_manifest(str(written), split=None, root=None)  # its count is that of the rows
    assert manifest is not None
    status, shown = run("coin_task", root=root, splits=["testing"], check=True)
    assert status == 1
    assert "2 rows cannot be used, the first: " in shown


def test_names_in_official_files_stay_below_the_root(ssv2, tmp_path):
    labels = ssv2 / "labels/validation.json"
    (tmp_path / "secret.webm").write_bytes((ssv2 / "videos/1.webm").read_bytes())
    record = {"id": "../../secret", "template": "Tearing [something]"}
    labels.write_text(json.dumps([record]))
    with pytest.raises(AdapterError, match="names what is not below --root"):
        run("ssv2", root=str(ssv2), splits=["validation"], output=str(tmp_path / "out"))
    for path in ("/etc/passwd", "..", "a/../../b"):
        with pytest.raises(AdapterError, match="not below --root"):
            conversion.inside(ssv2, path)
    assert conversion.inside(ssv2, "a/../..b") == ssv2 / "a/../..b"
    assert not (tmp_path / "out").exists()


def test_rows_are_a_manifest_and_absent_media_are_listed(ssv2, tmp_path):
    written = tmp_path / "out" / "rows.jsonl"
    status, shown = run("ssv2", root=str(ssv2), splits=["validation"], rows=str(written))
    assert status == 0
    assert "split 'validation': 2 rows, not 24,777" in shown
    assert "split 'validation': 1 labels in ssv2, not 174" in shown
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert lines == list(rows(SSV2, ssv2, "validation"))
    assert (tmp_path / "out/rows.absent.txt").read_text() == "20bn-something-something-v2/2.webm\n"
    # As prepare reads it: its root, label sets and number of rows are right.
    manifest = open_manifest(str(written), split=None, root=None)
    assert manifest.license == SSV2.licence
    (source,) = manifest.sources
    assert source["citation"] == SSV2.citation
    assert [file["path"] for file in source["files"]] == [
        "labels/labels.json",
        "labels/validation.json",
    ]
    first, second = manifest.rows()
    assert (manifest.name, manifest.split) == ("ssv2", "validation")
    assert first.annotation.task == "classification"
    assert second.kind == "missing file"


def test_rows_of_several_splits_are_several_files(ssv2, tmp_path):
    run("ssv2", root=str(ssv2), rows=str(tmp_path / "r.jsonl"))
    assert {path.name for path in tmp_path.glob("r.*.jsonl")} == {
        "r.train.jsonl",
        "r.validation.jsonl",
    }
    assert open_manifest(str(tmp_path / "r.train.jsonl"), split=None, root=None).split == "train"


def test_a_dataset_without_what_is_absent(ssv2, tmp_path):
    status, shown = run("ssv2", root=str(ssv2), splits=["validation"], output=str(tmp_path / "d"))
    assert status == 0
    assert "1 media files are absent" in shown
    dataset = open_dataset(tmp_path / "d")
    assert (dataset.name, dataset.splits) == ("ssv2", {"validation": 1})
    ((_, annotation),) = dataset.annotations("validation")
    assert dataset.candidates(annotation) == (("Tearing something",),)
    assert (tmp_path / "d/absent.txt").read_text() == "20bn-something-something-v2/2.webm\n"
    assert dataset.license == SSV2.licence
    assert [source["home"] for source in dataset.sources] == [SSV2.home]
    assert not (tmp_path / "d/skipped.jsonl").exists()


def test_absent_media_can_be_refused(ssv2, tmp_path):
    options = {"root": str(ssv2), "splits": ["validation"], "output": str(tmp_path / "d")}
    with pytest.raises(ManifestError, match="1 of 2 rows are faulty and nothing was written"):
        run("ssv2", **options, on_error="refuse")
    assert not (tmp_path / "d").exists()


def test_nothing_is_written_where_all_media_are_absent(ssv2, tmp_path):
    with pytest.raises(
        AdapterError, match="no row can be used.*: 1 rows, 1 media .*20bn-.*/0.webm"
    ):
        run("ssv2", root=str(ssv2), splits=["train"], output=str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()


def test_nothing_is_written_of_a_file_without_rows(ssv2, tmp_path):
    write(ssv2, {"labels/train.json": []})
    with pytest.raises(AdapterError, match="no row can be used.*: 0 rows, 0 media files absent"):
        run("ssv2", root=str(ssv2), splits=["train"], output=str(tmp_path / "d"))


def test_other_counts_stop_a_check_before_anything_is_written(ssv2, tmp_path):
    for target in ({}, {"rows": str(tmp_path / "r.jsonl")}, {"output": str(tmp_path / "d")}):
        status, shown = run("ssv2", root=str(ssv2), splits=["validation"], check=True, **target)
        assert status == 1
        assert "otherwise than published: split 'validation': 2 rows, not 24,777" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"ssv2"}


def test_splits_with_other_labels_are_not_mixed(tmp_path):
    folder = "testTrainMulti_7030_splits"
    files = {
        f"{folder}/wave_test_split1.txt": "a.avi 2\n",
        f"{folder}/brush_hair_test_split2.txt": "b.avi 2\n",
    }
    root = str(write(tmp_path / "in", files))
    with pytest.raises(AdapterError, match="other labels in hmdb51 each"):
        run("hmdb51", root=root, splits=["test01", "test02"], rows=str(tmp_path / "r.jsonl"))


def test_right_counts_pass():
    published = SSV2.splits[1]
    labels = {"ssv2": 174}
    right = conversion.SplitCount("validation", published.rows, published.media, (), labels)
    assert conversion.differences(SSV2, [right]) == []


def test_text_alone(tmp_path):
    """Records of triplets have no media to embed."""
    triplet = {"id": 0, "filename": "1.jpg", "caption": "A.", "caption2": "B."}
    subsets = ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    files = {f"{subset}.json": [triplet | {"negative_caption": "C."}] for subset in subsets}
    root = write(tmp_path / "in", files)
    status, _ = run("sugarcrepe_pp", root=str(root), output=str(tmp_path / "d"))
    assert status == 0
    _, annotation = open_dataset(tmp_path / "d").annotations("test")[4]
    assert annotation.texts == ("A.", "B.", "C.")


def test_images_in_an_official_file_are_unpacked(tmp_path):
    def image(value):
        from PIL import Image

        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "JPEG")
        return {"bytes": buffer.getvalue(), "path": "7.jpg"}

    root = tmp_path / "in"
    root.mkdir()
    table = {"example_id": ["a"], "image_id": [7], "target_object": ["dog"], "question": ["Dog?"]}
    table |= {"normal_label": ["yes"], "counterfactual_label": ["no"]}
    table |= {"normal_image": [image(0)], "counterfactual_image": [image(255)]}
    parquet.write_table(pyarrow.table(table), root / "test.parquet")
    run("popev2", root=str(root), output=str(tmp_path / "d"))
    assert open_dataset(tmp_path / "d").splits == {"test": 2}
    assert (root / "images/000000000007.jpg").read_bytes() == image(255)["bytes"]


def test_the_list_has_all_and_what_has_no_adapter():
    _, shown = run("list")
    for name in ("ssv2", "visla", "COIN.json", "worldprediction_wm", "no adapter: "):
        assert name in shown


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "give --root"),
        ({"root": "."}, "give one of --output and --rows, or --check alone"),
        ({"root": ".", "rows": "a", "output": "b"}, "give one of --output and --rows"),
        ({"root": ".", "rows": "a"}, "ends in .jsonl"),
    ],
)
def test_what_is_not_said_is_asked_for(options, fault):
    with pytest.raises(AdapterError, match=fault):
        run("ssv2", **options)


def test_script(ssv2):
    def script(*arguments):
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    checked = script("--dataset=ssv2", f"--root={ssv2}", "--splits=validation", "--check")
    assert checked.returncode == 1
    assert "2 rows, not 24,777" in checked.stdout
    missing = script("--dataset=pope", f"--root={ssv2}", "--check")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: pope, split 'test': there is no coco_pope_random.json")
    neither = script(f"--root={ssv2}")
    assert neither.returncode == 1
    assert "give --manifest and --output, or --dataset" in neither.stderr
    for arguments, fault in (
        (("--dataset=ssv2", "--split=validation"), "--split is not for a public dataset"),
        (("--manifest=a.jsonl", "--output=b", "--check"), "--check is for a public dataset"),
    ):
        refused = script(*arguments)
        assert refused.returncode == 1
        assert fault in refused.stderr

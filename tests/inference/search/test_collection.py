import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.helpers.random_run import random_params, save_run
from tests.helpers.subprocesses import PROGRAMS
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.calibration import Calibration
from vljepa_jax.inference.model import Model
from vljepa_jax.inference.search.collection import embed_collection
from vljepa_jax.inference.search.contact_sheet import contact_sheet
from vljepa_jax.inference.search.example import read_example
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex

ROOT = Path(__file__).parents[3]
WIDE = os.environ | {"COLUMNS": "1000"}


@pytest.fixture(scope="module")
def config():
    return tiny_train_config()


@pytest.fixture(scope="module")
def params(config):
    return random_params(config)


@pytest.fixture(scope="module")
def model(config, params):
    return Model(config, params, batch_size=4)


def write_clip(path, seed, seconds=2):
    frames = np.random.default_rng(seed).integers(0, 256, (seconds * 4, 32, 32, 3), np.uint8)
    path.write_bytes(write_mp4(frames, fps=4))


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for index in range(3):
        write_clip(folder / f"{index}.mp4", index)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def embed(model, clips, output, **changes):
    told = io.StringIO()
    settings = {
        "query": "What moves?",
        "window": 0.0,
        "stride": 0.0,
        "drop_missing": False,
        "shard_rows": 2,
        "num_workers": 0,
        "console": Console(file=told, width=1000),
    }
    items, faults = list_items([str(clips)], model.config.world)
    return embed_collection(model, items, faults, output, **settings | changes), told.getvalue()


def names(hits):
    return [Path(hit.name).name for hit in hits]


def test_only_what_is_new_is_embedded(model, clips, tmp_path):
    summary, told = embed(model, clips, tmp_path / "index")
    assert (summary.embedded, summary.rows, summary.unchanged, summary.removed) == (3, 3, 0, 0)
    assert len(summary.unreadable) == 1
    assert f"{clips}/broken.mp4: cannot be decoded" in told
    assert "broken.mp4" in (tmp_path / "index" / "unreadable.txt").read_text()
    found = model.retrieve("a dog", tmp_path / "index")
    expected = (
        model.embed_video([clips / f"{i}.mp4" for i in range(3)], "What moves?")
        @ model.embed_text("a dog")[0]
    )
    assert names(found) == [f"{index}.mp4" for index in np.argsort(-expected)]
    np.testing.assert_allclose([hit.score for hit in found], np.sort(expected)[::-1], atol=1e-5)

    write_clip(clips / "1.mp4", seed=9)
    write_clip(clips / "3.mp4", seed=3)
    (clips / "2.mp4").unlink()
    (clips / "0.mp4").write_bytes(b"no longer a video")
    summary, _ = embed(model, clips, tmp_path / "index")
    # The one that became unreadable is not what was embedded; the one that is gone stays.
    assert (summary.embedded, summary.unchanged, summary.removed) == (2, 0, 1)
    assert sorted(names(model.retrieve("a dog", tmp_path / "index"))) == ["1.mp4", "2.mp4", "3.mp4"]
    summary, _ = embed(model, clips, tmp_path / "index", drop_missing=True)
    assert (summary.embedded, summary.unchanged, summary.removed) == (0, 2, 1)
    hits = model.retrieve(["a dog", "a cat"], VideoIndex(tmp_path / "index"), top=1)
    assert [len(each) for each in hits] == [1, 1]
    again = model.embed_video(clips / "1.mp4", "What moves?") @ model.embed_text("a dog")[0]
    scores = {Path(h.name).name: h.score for h in model.retrieve("a dog", tmp_path / "index")}
    assert scores["1.mp4"] == pytest.approx(float(again[0]), abs=1e-5)


NAMES = [
    b"[bold]x[red] :smile:",
    b"a:b",
    b"caf\xe9.MP4",
    b"esc\x1b[31m.mp4",
    b"new\nline.mp4",
    b"\xff",
]


def test_names_of_any_bytes(model, tmp_path):
    clips = tmp_path / "[cam 1]"
    clips.mkdir()
    paths = [os.path.join(clips, os.fsdecode(name)) for name in NAMES]
    for seed, path in enumerate(paths):
        write_clip(Path(path), seed)
    Path(paths[0]).write_bytes(Path(paths[0]).read_bytes()[:64])  # unreadable
    Path(paths[1]).unlink()
    os.symlink("gone\n", paths[1])
    output = tmp_path / os.fsdecode(b"index\xe9[b]")
    for embedded, unchanged in ((4, 0), (0, 4)):  # stored as they are: found again
        summary, told = embed(model, clips, output, num_workers=embedded and 1)
        assert (summary.embedded, summary.unchanged, len(summary.unreadable)) == (
            embedded,
            unchanged,
            2,
        )
        assert r"index\xe9[b]" in "".join(told.split())  # a title as narrow as its table
        assert "[cam 1]/[bold]x[red] :smile:: " in told
    assert len((output / "unreadable.txt").read_text().splitlines()) == 2
    hits = model.retrieve("a dog", output)
    assert {hit.name for hit in hits} == set(paths[2:])
    sheet = np.asarray(contact_sheet("a dog", hits))
    Path(hits[-1].name).unlink()
    assert (np.asarray(contact_sheet("a dog", hits)) != sheet).any()  # says that it is gone


def test_windows_answer_with_a_time(model, clips, tmp_path):
    summary, _ = embed(model, clips, tmp_path / "index", window=1.0, stride=0.5)
    assert (summary.embedded, summary.rows, len(summary.unreadable)) == (3, 9, 1)
    hits = model.retrieve("a dog", tmp_path / "index", top=20)
    spans = {}
    for hit in hits:
        spans.setdefault(hit.name, set()).add((hit.start, hit.end))
    # Of windows that overlap, the best: both ends, or the middle.
    assert len(spans) == 3
    assert all(own in ({(0.0, 1.0), (1.0, 2.0)}, {(0.5, 1.5)}) for own in spans.values())
    once = model.retrieve("a dog", tmp_path / "index", top=20, each_once=True)
    assert len(once) == 3
    assert once[0][:5] == hits[0][:5]
    sheet = contact_sheet("a dog", once[:2])
    assert sheet.size[1] > contact_sheet("a dog", once[:1]).size[1]
    other = once[0]._replace(start=3.0, end=4.0)  # of one clip, one row
    assert contact_sheet("a dog", [once[0], other]).size == contact_sheet("a dog", once[:1]).size
    Path(hits[0].name).unlink()
    assert np.asarray(contact_sheet("a dog", hits[:1])).min() == 0  # says why it shows no frames


def test_what_is_unlike_training_is_no_match(config, params, clips, tmp_path):
    model = Model(config, params)
    size = config.model.x_encoder.hidden_size
    known = Calibration(model.fingerprint, 30, np.zeros(size), np.zeros((size, size)), {"": -1.0})
    model.calibration = known
    summary, told = embed(model, clips, tmp_path / "like", query="")
    assert summary.unlike == 0
    hits = model.retrieve("a dog", tmp_path / "like")
    assert {(hit.match, hit.novelty) for hit in hits} == {(True, 0.0)}
    model.calibration = dataclasses.replace(known, floors={"": 1.01})
    assert {hit.match for hit in model.retrieve("a dog", tmp_path / "like")} == {False}
    model.calibration = dataclasses.replace(known, whitening=1e6 * np.eye(size))
    summary, told = embed(model, clips, tmp_path / "unlike", query="")
    assert (summary.rows, summary.unlike) == (3, 3)
    assert "unlike the training clips" in told
    assert {hit.match for hit in model.retrieve("a dog", tmp_path / "unlike")} == {False}


def test_a_clip_finds_itself_and_its_like(model, config, params, clips, tmp_path):
    """By what the index has of it: the same query, frames and, of a part, the same window."""
    embed(model, clips, tmp_path / "index", window=1.0, stride=0.5)
    shutil.copy(clips / "1.mp4", tmp_path / "copy.mp4")
    part = read_example(f"{tmp_path}/copy.mp4@0.5-1.5")
    hits = model.retrieve_like(part, tmp_path / "index", top=9)
    assert (names(hits)[0], hits[0].start, hits[0].match) == ("1.mp4", 0.5, None)
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].folded  # the windows that overlap it
    assert all(other.name == hits[0].name for other in hits[0].folded)
    several = model.retrieve_like([part, np.zeros((32, 32, 3), np.uint8)], tmp_path / "index")
    assert several[0][0].name == hits[0].name
    assert len(several) == 2
    other = Model(config, params, frames=8)
    with pytest.raises(SearchIndexError, match="4 frames of each clip, and this model takes 8"):
        other.retrieve_like(part, tmp_path / "index")
    with pytest.raises(ClipError, match="broken.mp4: cannot be decoded"):
        model.retrieve_like(clips / "broken.mp4", tmp_path / "index")


@pytest.mark.parametrize("times", [(1.0, 0.0), (0.0, 1.0), (1.0, 2.0), (-1.0, -1.0)])
def test_window_and_stride_must_make_sense(model, clips, tmp_path, times):
    with pytest.raises(ConfigError, match="give both in seconds"):
        embed(model, clips, tmp_path / "index", window=times[0], stride=times[1])


def test_another_model_is_refused(model, config, params, clips, tmp_path):
    embed(model, clips, tmp_path / "index")
    changed = dict(params, y_head={"kernel": params["y_head"]["kernel"] + 1e-6})
    other = Model(config, changed)
    with pytest.raises(SearchIndexError, match="was made by another model"):
        other.retrieve("a dog", tmp_path / "index")
    with pytest.raises(SearchIndexError, match="model: "):
        embed(other, clips, tmp_path / "index")
    with pytest.raises(SearchIndexError, match="query: 'What moves\\?' in the index, '' here"):
        embed(model, clips, tmp_path / "index", query="")
    same = Model(config, params, frames=8)  # a text has no frames
    assert same.fingerprint == model.fingerprint
    assert len(same.retrieve("a dog", tmp_path / "index")) == 3


def launch(script, *arguments, **kwargs):
    command = [sys.executable, f"launch/{script}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **kwargs)


def test_commands(config, params, clips, tmp_path):
    """Killed with SIGKILL after its first shard, started again, and searched."""
    save_run(tmp_path / "run", config, params)
    odd = os.fsdecode(b"caf\xe9 [b]\n\x1b[31m.mp4")
    write_clip(clips / odd, seed=7)
    arguments = [f"--checkpoint={tmp_path / 'run'}", f"--videos={clips}", "--num_workers=0"]
    arguments += [f"--output={tmp_path / 'index'}", "--shard_rows=1"]
    killed = subprocess.run(
        [sys.executable, PROGRAMS / "interrupted_embed.py", *arguments],
        cwd=ROOT,
        capture_output=True,
    )
    assert killed.returncode == -9
    assert len(VideoIndex(tmp_path / "index").entries) == 1
    done = launch("embed", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{clips}/broken.mp4: cannot be decoded" in done.stdout
    assert len(VideoIndex(tmp_path / "index").entries) == 4

    table = launch("search", f"--index={tmp_path / 'index'}", "a [dog]", env=WIDE)
    assert table.returncode == 0, table.stderr
    assert r"clips/caf\xe9 [b]\n\x1b[31m.mp4" in table.stdout  # from here, where that is shorter
    assert "'a [dog]' among 4 embeddings" in table.stdout
    search = launch(
        "search",
        *(f"--index={tmp_path / 'index'}", f"--contact_sheet={tmp_path / 'found.png'}"),
        *("--top=4", "--json", "a dog that spins"),
    )
    assert search.returncode == 0, search.stderr
    rows = json.loads(search.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert f"{clips}/{odd}" in [row["name"] for row in rows]
    assert rows[0]["score"] >= rows[1]["score"]
    like = launch(
        "search",
        *(f"--index={tmp_path / 'index'}", f"--like={clips}/1.mp4", f"--names={clips}/?.mp4"),
        *("--threshold=-1", "--fold=1", "--json", f"--parquet={tmp_path / 'index.parquet'}"),
    )
    assert like.returncode == 0, like.stderr
    found = json.loads(like.stdout)
    assert {row["name"] for row in found} == {f"{clips}/{n}.mp4" for n in range(3)}
    assert (found[0]["name"], found[0]["folded"]) == (f"{clips}/1.mp4", [])
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "index.parquet").stat().st_size > 0
    assert Image.open(tmp_path / "found.png").size[0] > 500
    undrawn = launch(
        "search",
        *(f"--index={tmp_path / 'index'}", f"--contact_sheet={tmp_path}/no/found.png", "--json"),
        "a dog that spins",
    )
    assert json.loads(undrawn.stdout) == rows  # shown before they are drawn
    assert undrawn.returncode == 1
    assert undrawn.stderr == f"error: {tmp_path}/no/found.png: No such file or directory\n"


def test_an_index_of_nothing_is_a_failure(config, params, clips, tmp_path):
    save_run(tmp_path / "run", config, params)
    flags = f"--checkpoint={tmp_path}/run", "--num_workers=0", f"--output={tmp_path}/index"
    done = launch("embed", *flags, f"--videos={clips}/broken.mp4")
    assert done.returncode == 1
    assert "broken.mp4: cannot be decoded" in done.stdout
    assert done.stderr == "error: no clip was embedded: none of those named can be read\n"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("search", ["--index=none", "a dog"], "'none' is no index; launch/embed.py makes one"),
        ("search", ["--index=none"], "give the text to search for, in quotes"),
        ("search", ["--index=none", "a", "dog"], "unexpected argument 'dog'"),
        ("search", ["--index=none", "--contact_sheet=x.txt", "a"], "must end in .png"),
        ("search", ["--index=none", "--threshold=high", "a"], "--threshold=high"),
        ("search", ["--index=none", "--threshold=nan", "a"], "is no number from -1 to 1"),
        ("search", ["--index=none", "--fold=0", "a"], "is no number over 0"),
        ("search", ["--index=none", "--like=a.mp4", "a"], "give a text or --like, not both"),
        ("embed", ["--videos=x", "--output=y"], "(checkpoint, model) must have a value"),
        (
            "embed",
            ["--checkpoint=z", "--videos=x", "--output=y"],
            "z' holds no model",
        ),
    ],
)
def test_a_wrong_command_is_answered_in_a_line(script, arguments, message):
    answer = launch(script, *arguments)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr

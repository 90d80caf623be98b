"""The stages of the 1B recipe on small files of their sources, prepared as docs/data.md says."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.sample_tokenizer import write_tokenizer
from tests.helpers.tiny import tiny_train_config
from tests.helpers.training_files import captioned, image, turns, write_lines, write_tar
from vljepa_jax.config import TrainConfig, parse
from vljepa_jax.config.recipe_file import load_recipe
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.transcode import Encoding
from vljepa_jax.data.video import write_mp4
from vljepa_jax.datasets import training_command

REPOSITORY = Path(__file__).parents[2]
COMMAND = re.compile(r"^    python launch/prepare\.py (--dataset=.*)$", re.MULTILINE)
STAGES = ("image", "video8", "video32", "sft")
ROWS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The datasets that the page's commands make of small files in each published form."""
    folder = tmp_path_factory.mktemp("stages")
    write_tokenizer(folder / "t.json", "a dog text of what is it")
    write_tar(folder / "DataComp" / "00000.tar", captioned(*map(str, range(20))))
    table = [["photoid", "title", "description", "ext"]]
    table += [[str(n), f"title+{n}", "a%20dog", "png"] for n in range(5)]
    (folder / "YFCC" / "images").mkdir(parents=True)
    (folder / "YFCC" / "t.tsv").write_text("".join("\t".join(row) + "\n" for row in table))
    for n in range(5):
        (folder / "YFCC" / "images" / f"{n}.png").write_bytes(image(n))
    frames = np.zeros((12, 32, 32, 3), np.uint8)
    (folder / "Action100M" / "videos").mkdir(parents=True)
    for n in range(4):
        (folder / "Action100M" / "videos" / f"v{n}.mp4").write_bytes(write_mp4(frames + 9 * n, 6))
        nodes = [
            {
                "node_id": f"n{s}",
                "level": 1,
                "start": s,
                "end": s + 1.0,
                "plm_action": f"act {s}",
                "gpt": None,
            }
            for s in (0.0, 0.5)
        ]
        row = {"video_uid": [f"v{n}"], "metadata": [{}], "nodes": [nodes]}
        (folder / "Action100M" / f"v{n}.json").write_text(json.dumps(row))
    for kind in ("vqa", "captions", "classes"):
        rows = [
            {"image": f"{n}.png", "conversations": turns(("<image>\nwhat is it", f"{kind} {n}"))}
            for n in range(6)
        ]
        write_lines(folder / "PLM" / kind / "rows.jsonl", rows)
        for n in range(6):
            (folder / "PLM" / kind / f"{n}.png").write_bytes(image(n))
    for line in COMMAND.findall((REPOSITORY / "docs" / "data.md").read_text()):
        flags = dict(flag.lstrip("-").partition("=")[::2] for flag in shlex.split(line))
        if flags["dataset"] == "list":
            continue
        job = training_command.plan(
            flags["dataset"],
            root=str(folder / flags["root"]),
            output=str(folder / flags["output"]),
            task=flags.get("task", ""),
            embed="noembed" not in flags,
            encoding=Encoding(short_side=int(flags["short_side"]), fps=float(flags["fps"]))
            if "short_side" in flags
            else None,
        )
        list(job.write(job.missing(), 0))
        assert not job.finish()["skipped"], line
    return folder


def reduced(stage, folder):
    """The recipe's stage: its own sources, frames, query and schedule; the model of other tests."""
    config = parse(TrainConfig, load_recipe(REPOSITORY / "configs" / "vljepa_1b.py", stage))
    tiny = tiny_train_config(steps=2, batch_size=ROWS)
    tokenizer = str(folder / "t.json")
    data = dataclasses.replace(
        config.data,
        sources=tuple(
            dataclasses.replace(source, path=str(folder / source.path))
            for source in config.data.sources
        ),
        video=dataclasses.replace(config.data.video, image_size=32),
        text=dataclasses.replace(
            config.data.text,
            query_tokenizer=tokenizer,
            target_tokenizer=tokenizer,
            query_length=min(16, config.data.text.query_length),
            target_length=16,
        ),
        num_workers=0,
    )
    frames = max(2, config.data.video.frames)
    x_encoder = dataclasses.replace(tiny.model.x_encoder, num_frames=frames)
    return dataclasses.replace(
        tiny,
        data=data,
        model=dataclasses.replace(tiny.model, x_encoder=x_encoder),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
    )


@pytest.mark.parametrize("stage", STAGES)
def test_batches_of_each_stage_are_of_its_own_sources(folder, stage):
    config = reduced(stage, folder)
    pipeline = TrainPipeline(config)
    batches = list(pipeline.batches(0))
    assert len(batches) == config.steps
    for batch in batches:
        assert not batch.replaced
        found = {name: (array.shape, array.dtype) for name, array in batch.arrays.items()}
        assert found == array_spec(config)
        asked = batch.arrays["query_mask"].sum(1) > 2  # beyond the tokens that frame a text
        weights = np.array([source.weight for source in config.data.sources])
        if len(weights) > 1:
            counts = np.bincount(batch.arrays["source"], minlength=len(weights))
            assert np.abs(counts - ROWS * weights / weights.sum()).max() < 1
        assert asked.any() == (stage == "sft")
    rows = [rows for rows, _ in pipeline.seen(config.steps)]
    assert sum(rows) == config.steps * ROWS


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_trains(folder, tmp_path, stage):
    from vljepa_jax.run_dir import read_metrics
    from vljepa_jax.training.train_loop import train

    config = reduced(stage, folder)
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2]
    names = config.data.source_names
    if len(names) > 1:
        weights = np.array([source.weight for source in config.data.sources])
        told = [n for n, w in zip(names, weights, strict=True) if ROWS * w >= weights.sum()]
        for row in rows:
            assert sorted(k for k in row if k.startswith("loss/")) == sorted(
                f"loss/{n}" for n in told
            )
            assert all(np.isfinite(row[f"loss/{name}"]) for name in told)
        assert sum(rows[-1][f"data/rows/{name}"] for name in names) == 2 * ROWS

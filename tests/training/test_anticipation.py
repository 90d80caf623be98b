"""configs/anticipation.py:ek100 and :coin, from the official files to two steps of a tiny model."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import rich.console

from tests.helpers.official_files import write
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import TrainConfig, load_recipe, parse
from vljepa_jax.data.video import write_mp4
from vljepa_jax.datasets import command
from vljepa_jax.run_dir import read_metrics
from vljepa_jax.training.flops import model_flops
from vljepa_jax.training.train_loop import train

CONFIGS = Path(__file__).parents[2] / "configs"
_HEADER = (
    "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration,verb_class,"
    "noun_class\n"
)
_STEPS = ("take out the screw", "remove the cover", "put in the disk", "close the box")


def film():
    """Ten seconds of noise."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    return write_mp4(frames, 4)


def official(variant):
    if variant == "ek100":
        rows = [
            f"P01_01_{i},P01,P01_01,00:00:0{i}.00,00:00:0{i + 1}.00,{text},{i},{i}\n"
            for i, text in enumerate(("open door", "take cup", "wash cup"))
        ]
        table = _HEADER + "".join(rows)
        tables = {"EPIC_100_train.csv": table, "EPIC_100_validation.csv": table}
        return tables | {"P01/P01_01.MP4": film()}
    steps = [
        {"id": str(i), "segment": [2.0 * i, 2.0 * i + 2], "label": label}
        for i, label in enumerate(_STEPS)
    ]
    video = {"class": "ReplaceDisk", "start": 0.0, "end": 8.0, "annotation": steps}
    video |= {"duration": 10.0, "recipe_type": 1, "subset": "training"}
    return {"COIN.json": {"database": {"abc": video}}, "abc.mp4": film()}


@pytest.mark.parametrize(("variant", "labels"), [("ek100", 3), ("coin", 4)])
def test_two_steps_on_official_files(variant, labels, tmp_path):
    recipe = parse(TrainConfig, load_recipe(CONFIGS / "anticipation.py", variant))
    (source,) = recipe.data.sources
    status = command.run(
        source.path.removeprefix("datasets/"),
        root=str(write(tmp_path / "official", official(variant))),
        splits=(source.split,),
        rows=None,
        output=str(tmp_path / "data"),
        check=False,
        on_error="skip",
        embed=True,
        num_workers=0,
        console=rich.console.Console(file=io.StringIO()),
    )
    assert status == 0
    told = json.loads((tmp_path / "data" / "dataset.json").read_text())["labels"].values()
    assert labels in map(len, told)
    tiny = tiny_train_config()
    save_run(tmp_path / "sft", tiny, random_params(tiny))
    # All that does not depend on the size of the model is the recipe's.
    config = dataclasses.replace(
        recipe,
        init_from=str(tmp_path / "sft"),
        steps=2,
        batch_size=4,
        micro_batch_size=0,
        log_every=1,
        model=tiny.model,
        sharding=tiny.sharding,
        data=dataclasses.replace(
            recipe.data,
            sources=(dataclasses.replace(source, path=str(tmp_path / "data")),),
            video=tiny.data.video,
            text=tiny.data.text,
            num_workers=0,
        ),
        optimizer=dataclasses.replace(recipe.optimizer, warmup_steps=1),
    )
    train(config, tmp_path / "run")
    losses = [row["loss"] for row in read_metrics(tmp_path / "run")]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ek100", "coin"])
def test_a_step_at_full_size_is_that_of_the_model_it_starts_from(variant):
    """Traced, not run: the same work an example."""
    recipe = parse(TrainConfig, load_recipe(CONFIGS / "anticipation.py", variant))
    base = parse(TrainConfig, load_recipe(CONFIGS / "vljepa_1b.py", "sft"))
    per_example = [model_flops(config) / config.batch_size for config in (recipe, base)]
    assert per_example[0] == pytest.approx(per_example[1], rel=0.01)

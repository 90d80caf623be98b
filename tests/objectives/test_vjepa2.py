"""Stage 0: what the encoder sees, the loss, the teacher, and runs that stop, go on and grow."""

import dataclasses
import json
import shutil

import chex
import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from tests.helpers.tiny import (
    fake_masked,
    tiny_pretraining_config,
    tiny_probe_config,
    tiny_train_config,
)
from vljepa_jax import losses, run_dir
from vljepa_jax.config import ConfigError, SourceConfig
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.video import write_mp4
from vljepa_jax.inference.load import load
from vljepa_jax.models import layers
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.run_dir import read_metrics
from vljepa_jax.training import checkpoint
from vljepa_jax.training.train_loop import train
from vljepa_jax.training.train_step import Trainer

CONSOLE = Console(quiet=True)
STEPS = 4


@pytest.fixture(scope="module")
def built():
    config = tiny_pretraining_config()
    objective = make_objective(config)
    params, extra = jax.jit(objective.init)(jax.random.key(0))
    return config, objective, params, extra, fake_masked(config)


def pixels_of(tokens):
    """[b, T, H, W, 1] bool: the pixels of these tokens."""
    seen = np.zeros((len(tokens), 18), bool)
    np.put_along_axis(seen, tokens, True, axis=1)
    return einops.repeat(seen, "b (f r c) -> b (f 2) (r 16) (c 16) 1", f=2, r=3)


# ---------------------------------------------------------------------------------------------
# The encoder
# ---------------------------------------------------------------------------------------------
def test_the_encoder_sees_kept_tokens_only(built):
    """Bit for bit; and it does see those."""
    config, _, params, _, arrays = built
    encode = jax.jit(make_video_encoder(config.model).apply)
    variables = {"params": params["x_encoder"]}
    kept, video = arrays["kept_0"], arrays["video"]
    before = np.asarray(encode(variables, video, kept))
    noise = np.random.default_rng(1).integers(0, 256, video.shape, np.uint8)
    seen = pixels_of(kept)
    for hidden in (noise, np.full_like(video, 255)):
        changed = np.where(seen, video, hidden)
        np.testing.assert_array_equal(encode(variables, changed, kept), before)
    changed = np.where(pixels_of(kept[:, -1:]), noise, video)
    after = np.asarray(encode(variables, changed, kept))
    assert (np.abs(after - before).max(axis=(1, 2)) > 1e-3).all()


def test_keeping_every_token_in_any_order_is_keeping_all(built):
    config, _, params, _, arrays = built
    encoder, video = make_video_encoder(config.model), arrays["video"]
    variables = {"params": params["x_encoder"]}
    every = encoder.apply(variables, video)
    order = np.random.default_rng(0).permutation(18)
    kept = np.broadcast_to(order, (8, 18)).astype(np.int32)
    np.testing.assert_allclose(
        encoder.apply(variables, video, kept), every[:, order], rtol=1e-4, atol=1e-5
    )


# ---------------------------------------------------------------------------------------------
# Loss and teacher
# ---------------------------------------------------------------------------------------------
def test_loss_by_hand():
    """Two kinds of masks with errors of 2 and of 1/2 weigh alike, whatever their sizes."""
    target = jnp.array([[[0.0, 4.0]], [[2.0, 4.0]]])  # [2 clips, 1 token, 2 features]
    wide = jnp.tile(target, (1, 3, 1))
    loss, metrics = losses.masked_prediction([(target + 2, target), (wide - 0.5, wide)])
    assert loss == pytest.approx((2 + 0.5) / 2)
    assert metrics["loss/mask_0"] == pytest.approx(2)
    assert metrics["loss/mask_1"] == pytest.approx(0.5)
    assert metrics["loss/constant"] == pytest.approx(0.5)  # features off by 1 and by 0


def test_collapse_shows():
    rng = np.random.default_rng(0)
    alive = layers.standardise(rng.standard_normal((64, 8, 16)))
    same_clips = jnp.broadcast_to(alive[:1], alive.shape)
    one_token = jnp.broadcast_to(alive[:1, :1], alive.shape)
    line = layers.standardise(one_token + 0.1 * rng.standard_normal((64, 1, 1)) * alive[:1, 1:2])
    found = {
        name: losses.teacher_metrics(target)
        for name, target in {
            "alive": alive,
            "same_clips": same_clips,
            "one_token": one_token,
            "line": line,
        }.items()
    }
    assert found["alive"]["target/std"] == pytest.approx(1.0, abs=0.05)
    assert found["alive"]["target/rank"] > 8
    assert found["same_clips"]["target/std"] > 0.5
    assert found["same_clips"]["target/std_of_clips"] < 1e-5
    assert found["one_token"]["target/std"] < 1e-5
    assert found["line"]["target/rank"] == pytest.approx(1.0, abs=0.1)


def test_targets_are_the_teachers_normalised_tokens(built):
    """With a teacher of its own; and the loss is that of the definition, in numpy."""
    config, objective, params, _, arrays = built
    teacher = jax.tree.map(lambda leaf: leaf * 1.5 + 0.1, params["x_encoder"])
    extra = {"teacher": {"x_encoder": teacher}}
    found = objective.represent(params, extra, arrays, jax.random.key(0))
    tokens = np.asarray(
        make_video_encoder(config.model).apply({"params": teacher}, arrays["video"])
    ).astype(np.float64)
    centred = tokens - tokens.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found.target, expected, atol=1e-5)
    loss, _ = objective.loss(params, found, arrays, jax.random.key(0), None)
    by_mask = []
    for index in range(2):
        masked = arrays[f"predicted_{index}"]
        right = np.stack([row[at] for row, at in zip(expected, masked, strict=True)])
        assert found.predicted[index].shape == right.shape
        by_mask.append(np.abs(np.asarray(found.predicted[index]) - right).mean())
    assert loss == pytest.approx(np.mean(by_mask), rel=1e-5)


def test_the_teacher_is_a_moving_average(built):
    _, objective, params, extra, _ = built
    chex.assert_trees_all_equal(extra["teacher"]["x_encoder"], params["x_encoder"])
    moved = jax.tree.map(lambda leaf: leaf + 1.0, params)
    once = objective.update_extra(extra, moved)
    twice = objective.update_extra(once, moved)
    for updated, distance in ((once, 0.1), (twice, 0.19)):  # 1 - 0.9, 1 - 0.9 ** 2
        jax.tree.map(
            lambda new, old, d=distance: np.testing.assert_allclose(new, old + d, atol=1e-5),
            updated["teacher"]["x_encoder"],
            params["x_encoder"],
        )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("masks", (), "name at least one kind"),
        ("teacher_momentum", 1.5, "teacher_momentum: 1.5"),
    ],
)
def test_wrong_settings_are_named(field, value, message):
    config = tiny_pretraining_config()
    model = dataclasses.replace(config.model, **{field: value})
    with pytest.raises(ConfigError, match=message):
        make_objective(dataclasses.replace(config, model=model))


def test_an_objective_has_a_model_of_its_own():
    config = tiny_train_config()
    with pytest.raises(ConfigError, match="'vjepa2' takes as 'model' .* mask_predictor, masks"):
        dataclasses.replace(config, objective="vjepa2")


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def config(tmp_path_factory):
    rng = np.random.default_rng(0)

    def record(index):
        data = write_mp4(rng.integers(0, 256, (8, 48, 48, 3), np.uint8), 8)
        annotation = Annotation(f"{index}", "caption", texts=("a clip",))
        return Record(str(index), (Medium(data=data),), (annotation,))

    directory = tmp_path_factory.mktemp("data") / "clips"
    write_dataset(
        directory, {"train": map(record, range(12))}, name="clips", description="", labels={}
    )
    base = tiny_pretraining_config(steps=STEPS)
    encoder = dataclasses.replace(base.model.x_encoder, rope="tiled")  # so that it can be exported
    source = SourceConfig(str(directory), "train", 1.0, {"caption": 1.0}, {})
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, x_encoder=encoder),
        data=dataclasses.replace(base.data, sources=(source,)),
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train(config, workdir)
    return workdir


def test_batches_hold_clips_and_masks(config):
    batches = list(TrainPipeline(config).batches(0))
    for batch in batches:
        found = {name: (array.shape, array.dtype) for name, array in batch.arrays.items()}
        assert found == array_spec(config)
    again = list(TrainPipeline(config).batches(2))
    for one, other in zip(batches[2:], again, strict=True):
        chex.assert_trees_all_equal(one.arrays, other.arrays)
    masks = np.concatenate([batch.arrays["kept_0"] for batch in batches])
    assert len(np.unique(masks, axis=0)) > 4


def test_a_run_logs_what_shows_collapse(finished):
    rows = read_metrics(finished)
    wanted = {"target/std", "target/std_of_clips", "target/rank", "loss/constant", "loss/mask_1"}
    assert all(wanted <= row.keys() for row in rows)


def test_a_resumed_run_is_bitwise_the_uninterrupted_one(config, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    train(config, workdir)
    for read in (lambda run: run_dir.load_params(run)[1], run_dir.read_extra):
        chex.assert_trees_all_equal(read(workdir), read(finished))
    losses_of = lambda run: [row["loss"] for row in read_metrics(run)]  # noqa: E731
    assert losses_of(workdir) == losses_of(finished)
    student = run_dir.load_params(finished)[1]["x_encoder"]["norm"]["bias"]
    teacher = run_dir.read_extra(finished)["teacher"]["x_encoder"]["norm"]["bias"]
    assert not np.array_equal(student, teacher)


@pytest.mark.slow
def test_a_second_stage_has_other_frames_and_sizes(config, finished, tmp_path):
    video = dataclasses.replace(config.data.video, frames=8, image_size=64)
    later = dataclasses.replace(
        config, init_from=str(finished), data=dataclasses.replace(config.data, video=video), steps=1
    )
    optimizer = dataclasses.replace(config.optimizer, learning_rate=0.0)
    train(dataclasses.replace(later, optimizer=optimizer), tmp_path / "run")
    before, after = run_dir.read_extra(finished), run_dir.read_extra(tmp_path / "run")
    # The rate is zero: the student stays, and the teacher goes a tenth of the way towards it.
    student = run_dir.load_params(finished)[1]
    chex.assert_trees_all_equal(run_dir.load_params(tmp_path / "run")[1], student)
    jax.tree.map(
        lambda new, old, goal: np.testing.assert_allclose(new, 0.9 * old + 0.1 * goal, atol=1e-6),
        after["teacher"]["x_encoder"],
        before["teacher"]["x_encoder"],
        student["x_encoder"],
    )


def test_the_teacher_is_exported_and_read_again(config, finished, tmp_path):
    export_checkpoint(finished, tmp_path / "out", CONSOLE)
    rest = safetensors.numpy.load_file(tmp_path / "out" / "vjepa2.safetensors")
    assert all(name.startswith("mask_predictor/") for name in rest)
    assert (tmp_path / "out" / "x_encoder" / "config.json").is_file()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["objective"] == "vjepa2"
    directory = {"x_encoder": tmp_path / "out" / "x_encoder"}
    convert_checkpoint(config, directory, tmp_path / "again", CONSOLE)
    teacher = run_dir.read_extra(finished)["teacher"]["x_encoder"]
    chex.assert_trees_all_equal(
        run_dir.load_params(tmp_path / "again")[1]["x_encoder"],
        teacher,
    )
    with pytest.raises(ConversionError, match="predictor: the model of objective 'vjepa2' has"):
        convert_checkpoint(config, {"predictor": tmp_path}, tmp_path / "no", CONSOLE)


def test_another_objective_starts_from_the_teacher(config, finished, tmp_path):
    probe = tiny_probe_config(steps=1)
    probe = dataclasses.replace(
        probe,
        model=dataclasses.replace(probe.model, x_encoder=config.model.x_encoder),
        init_from=f"{finished}:x_encoder",
    )
    mesh = make_mesh(probe.sharding, jax.devices()[:1])
    trainer = Trainer(probe, make_objective(probe), mesh)
    state = checkpoint.initial_state(
        probe.init_from, trainer.init, trainer.init_extra, trainer.abstract_state
    )
    teacher = run_dir.read_extra(finished)["teacher"]["x_encoder"]
    chex.assert_trees_all_equal(state.params["x_encoder"], teacher)
    fresh = trainer.init()
    for name in fresh.params.keys() - {"x_encoder"}:
        chex.assert_trees_all_equal(state.params[name], fresh.params[name])
    wrong = dataclasses.replace(config.model.x_encoder, mlp_size=8)
    model = dataclasses.replace(probe.model, x_encoder=wrong)
    probe = dataclasses.replace(probe, model=model)
    trainer = Trainer(probe, make_objective(probe), mesh)
    with pytest.raises(run_dir.CheckpointError, match="x_encoder/layers/mlp/down/kernel"):
        checkpoint.initial_state(
            probe.init_from, trainer.init, trainer.init_extra, trainer.abstract_state
        )


def test_inference_says_that_there_is_no_vljepa(finished):
    with pytest.raises(ConfigError, match="objective 'vjepa2', and no VL"):
        load(finished)

"""Stage 0 and the attentive pooler beside transformers, at sizes other than the goldens'."""

import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.helpers.stage0_twins import (
    POOLED_TWIN,
    pooler_parameters,
    predictor_parameters,
    run_pooler,
    run_predictor,
)
from tests.helpers.tiny import tiny_pretraining_config
from tests.helpers.twins import TOLERANCE, VJEPA2_TWIN, error
from vljepa_jax import run_dir
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.train_step import Trainer

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tests.helpers.reference_twins as reference  # noqa: E402


@pytest.mark.parametrize(("frames", "side"), [(2, 8), (8, 20)])
def test_mask_predictor(frames, side):
    rng = np.random.default_rng(0)
    model = reference.vjepa2_reference(VJEPA2_TWIN, side)
    weights = reference.weights_of(model, seed=11)
    weights = {key: value for key, value in weights.items() if key.startswith("predictor.")}
    grid = frames // 2, side // 4, side // 4
    count = int(np.prod(grid))
    order = np.stack([rng.permutation(count) for _ in range(3)]).astype(np.int32)
    kept, predicted = order[:, : count // 3], order[:, count // 3 :]  # in no order
    tokens = rng.standard_normal((3, count, VJEPA2_TWIN.hidden_size)).astype(np.float32)
    inputs = {"tokens": tokens, "kept": kept, "predicted": predicted, "grid": np.array(grid)}
    theirs = reference.run_mask_predictor(model, tokens, kept, predicted)
    assert error(run_predictor(predictor_parameters(weights), inputs), theirs) < TOLERANCE


def test_attentive_pooler():
    model = reference.pooler_reference(POOLED_TWIN)
    weights = reference.weights_of(model, seed=12)
    tokens = np.random.default_rng(1).standard_normal((3, 11, 12)).astype(np.float32)
    theirs = reference.run_pooler(model, tokens)
    assert error(run_pooler(*pooler_parameters(weights), tokens), theirs) < TOLERANCE


def test_the_exported_teacher_is_what_transformers_computes(tmp_path):
    config = tiny_pretraining_config()
    encoder = dataclasses.replace(config.model.x_encoder, rope="tiled", image_size=48)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, x_encoder=encoder))
    objective = make_objective(config)
    trainer = Trainer(config, objective, make_mesh(config.sharding, jax.devices()[:1]))
    state = trainer.init()
    rng = np.random.default_rng(0)
    teacher = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), state.extra
    )
    run_dir.claim(tmp_path / "run", config)
    with Checkpoints(tmp_path / "run", config.checkpoint) as checkpoints:
        checkpoints.save(state.replace(extra=teacher), {"step": 1}, 0.0)
    export_checkpoint(tmp_path / "run", tmp_path / "out", Console(quiet=True))
    model = transformers.VJEPA2Model.from_pretrained(
        tmp_path / "out" / "x_encoder", attn_implementation="eager"
    ).eval()
    video = rng.standard_normal((2, 4, 48, 48, 3)).astype(np.float32)
    theirs = reference.run_vjepa2(model, video)["output"]
    tree = teacher["teacher"]["x_encoder"]
    ours = make_video_encoder(config.model).apply({"params": tree}, video, method="encode")
    assert error(np.asarray(ours), theirs) < TOLERANCE

"""An objective that the package does not know: a class and a row of the table."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import OBJECTIVES
from vljepa_jax.config.objectives import ObjectiveEntry
from vljepa_jax.data.rows import Row, Rows
from vljepa_jax.objectives.base import Objective, Part
from vljepa_jax.run_dir import newest, read_params
from vljepa_jax.training.run_log import read_metrics
from vljepa_jax.training.train_loop import train


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """One number a channel."""

    x_encoder: object  # whose pixels the loader reads
    scale: float
    dtype: str = "float32"


class ToyRows(Rows):
    """Clips alone, of whatever is said of them."""

    def __init__(self, config):
        del config

    @staticmethod
    def spec(config):
        return {}

    def draw(self, annotations, dataset, choose, rng):
        annotation = choose(annotations, rng)
        return Row(annotation.id, annotation.inputs, None)

    def arrays(self, contents):
        return {}


class ToyObjective(Objective):
    """The mean colour of a clip is learnt: L2 between it and one parameter a channel."""

    parts = (Part("Colour", r"^colour$"),)

    def __init__(self, config):
        self._scale = config.model.scale

    @staticmethod
    def seen(config, visual):
        return f"{config.data.video.frames} frames are seen"

    def init(self, rng):
        return {"colour": jax.random.uniform(rng, (3,))}, {}

    def represent(self, params, extra, arrays, rng):
        mean = arrays["video"].astype(jnp.float32).mean(axis=(1, 2, 3)) / 255
        return mean - params["colour"]

    def loss(self, params, representations, arrays, rng, mesh):
        loss = self._scale * jnp.mean(representations**2)
        return loss, {"error": jnp.sqrt(loss)}


def toy_config(**overrides):
    config = tiny_train_config(steps=40, **overrides)
    rule = dataclasses.replace(config.optimizer.rules[-1], pattern="colour")
    optimizer = dataclasses.replace(
        config.optimizer, rules=(rule,), learning_rate=0.1, weight_decay=0.0, warmup_steps=0
    )
    sharding = dataclasses.replace(
        config.sharding, rules=(dataclasses.replace(config.sharding.rules[-1], pattern="."),)
    )
    return dataclasses.replace(
        config,
        objective="toy",
        model=ToyConfig(config.model.x_encoder, scale=2.0),
        data=dataclasses.replace(config.data, text=None),
        loss=None,
        optimizer=optimizer,
        sharding=sharding,
    )


def test_a_new_objective_is_one_row_and_one_class(monkeypatch, tmp_path):
    row = ObjectiveEntry(
        model=ToyConfig,
        text=types.NoneType,
        loss=types.NoneType,
        sees="video",
        rows=f"{__name__}:ToyRows",
        objective=f"{__name__}:ToyObjective",
    )
    monkeypatch.setitem(OBJECTIVES, "toy", row)
    config = toy_config()
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    losses = [row["loss"] for row in rows]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:2])
    np.testing.assert_allclose(rows[-1]["error"] ** 2, rows[-1]["loss"], rtol=1e-5)
    # In micro-batches it is the same training.
    train(dataclasses.replace(config, micro_batch_size=2), tmp_path / "pieces")
    whole, pieces = (read_params(newest(tmp_path / name)) for name in ("run", "pieces"))
    np.testing.assert_allclose(whole["colour"], pieces["colour"], rtol=1e-5)

"""Which attentions of whole programs are fused, on devices that are not there.

Programs are lowered for them and not compiled, which takes neither such a device nor its compiler.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from vljepa_jax.config import TrainConfig, load_recipe, parse
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.models.attention import compiled_for
from vljepa_jax.models.placement import Accelerator, on_mesh
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.planning.fused import fused_attentions
from vljepa_jax.training.train_step import Trainer

ROOT = Path(__file__).parents[2]
A100, H100, B200 = (Accelerator("cuda", capability) for capability in ((8, 0), (9, 0), (10, 0)))
TPU = Accelerator("tpu")
FORWARD, BOTH = ["forward"], ["backward", "forward"]


def recipe(name):
    """A recipe of the paper's size for one device and few rows."""
    name, _, variant = name.partition(":")
    path = ROOT / "configs" / f"{name}.py"
    config = parse(TrainConfig, load_recipe(path, *filter(None, [variant])))
    sharding = dataclasses.replace(config.sharding, data=1, fsdp=1)
    return dataclasses.replace(config, batch_size=2, sharding=sharding)


def lowered(traced, device):
    platforms = (device.platform,)
    return fused_attentions(traced.lower(lowering_platforms=platforms).as_text(dialect="hlo"))


def attentions_of_step(config, device):
    mesh = make_mesh(config.sharding, jax.devices()[:1])
    with compiled_for(device):
        traced = Trainer(config, make_objective(config), mesh).trace(array_spec(config))
        return lowered(traced, device)


# The X-Encoder is frozen, so nothing is differentiated there. Only Hopper's kernel takes the
# Y-Encoder's heads of 256 features in training.
@pytest.mark.parametrize(
    ("name", "x_encoder", "predictor", "y_encoder"),
    [
        ("vljepa_1b:image", 256, 272, 128),
        ("vljepa_1b:video8", 1024, 1040, 512),
        ("vljepa_1b:video32", 4096, 4112, 512),
        ("vljepa_1b:sft", 2048, 2560, 512),
    ],
)
def test_training_on_gpus_is_fused(name, x_encoder, predictor, y_encoder):
    config = recipe(name)
    everywhere = {f"{x_encoder}x{x_encoder}x64": FORWARD, f"{predictor}x{predictor}x64": BOTH}
    on_hopper = everywhere | {f"{y_encoder}x{y_encoder}x256": BOTH}
    assert attentions_of_step(config, A100) == everywhere
    assert attentions_of_step(config, H100) == on_hopper


def test_the_y_decoder_on_gpus_is_fused():
    """Its 135 tokens are padded to 136; the Y-Encoder is frozen."""
    config = recipe("y_decoder_1b")
    assert attentions_of_step(config, A100) == {"136x136x64": BOTH}
    assert attentions_of_step(config, H100) == {"136x136x64": BOTH, "512x512x256": FORWARD}


def test_blackwell_leaves_wide_heads_out():
    found = attentions_of_step(recipe("vljepa_1b:image"), B200)
    assert found == {"256x256x64": FORWARD, "272x272x64": BOTH}


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        # The Y-Encoder's 128 tokens are too few.
        ("vljepa_1b:image", {"256x256x64": FORWARD, "384x384x64": BOTH}),
        (
            "vljepa_1b:video8",
            {"1024x1024x64": FORWARD, "1152x1152x64": BOTH, "512x512x256": BOTH},
        ),
        (
            "vljepa_1b:video32",
            {"4096x4096x64": FORWARD, "4224x4224x64": BOTH, "512x512x256": BOTH},
        ),
        ("vljepa_1b:sft", {"2048x2048x64": FORWARD, "2560x2560x64": BOTH, "512x512x256": BOTH}),
        ("y_decoder_1b", {"512x512x256": FORWARD}),
    ],
)
def test_training_on_tpus_is_fused(name, fused):
    assert attentions_of_step(recipe(name), TPU) == fused


@pytest.mark.parametrize(
    ("device", "fused"),
    [
        (A100, {"1024x1024x64": FORWARD, "1040x1040x64": FORWARD}),
        (H100, {"1024x1024x64": FORWARD, "1040x1040x64": FORWARD, "512x512x256": FORWARD}),
        (TPU, {"1024x1024x64": FORWARD, "1152x1152x64": FORWARD, "512x512x256": FORWARD}),
    ],
    ids=str,
)
def test_inference_is_fused(device, fused):
    config = recipe("vljepa_1b:video8")
    model = VLJEPA(config.model)
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype)
        for name, (shape, dtype) in array_spec(config).items()
    }

    def embed(params, batch):
        visual = model.apply(params, batch["video"], method="encode_video")
        tokens, mask = batch["query_tokens"], batch["query_mask"]
        predicted = model.apply(params, visual, tokens, mask, method="predict")
        tokens, mask = batch["target_tokens"], batch["target_mask"]
        return predicted, model.apply(params, tokens, mask, method="encode_text")

    with on_mesh(make_mesh(config.sharding, jax.devices()[:1])), compiled_for(device):
        params = jax.eval_shape(model.init, jax.random.key(0), batch)
        assert lowered(jax.jit(embed).trace(params, batch), device) == fused


def test_what_is_not_attention_is_left_out():
    assert fused_attentions(jax.jit(jnp.sin).lower(1.0).as_text(dialect="hlo")) == {}

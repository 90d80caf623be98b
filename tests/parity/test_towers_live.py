"""CLIP, SigLIP 2 and PE-Core against transformers, timm and OpenCLIP, live."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.helpers.tower_twins import TOLERANCE, TWINS, errors, inputs, parameters, run

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("transformers")
import tests.helpers.tower_references as reference  # noqa: E402


def needs(config):
    if config.family == "pe_core":
        pytest.importorskip("timm")
        pytest.importorskip("open_clip")


def changed(config, image=None, text=None):
    return dataclasses.replace(
        config,
        image=dataclasses.replace(config.image, **(image or {})),
        text=dataclasses.replace(config.text, **(text or {})),
    )


CASES = {
    **TWINS,
    "clip one layer": changed(TWINS["clip"], {"num_layers": 1}, {"num_layers": 1}),
    "clip larger": changed(
        TWINS["clip"], {"image_size": 28, "num_heads": 2}, {"max_length": 12, "num_layers": 4}
    ),
    "siglip2 larger": changed(
        TWINS["siglip2"], {"image_size": 31, "num_heads": 9}, {"max_length": 20, "num_heads": 4}
    ),
    "pe_core larger": changed(
        TWINS["pe_core"],
        {"image_size": 28, "num_heads": 4, "mlp_size": 64},
        {"embedding_size": 21, "num_heads": 6},
    ),
    "pe_core_g larger": changed(TWINS["pe_core_g"], {"image_size": 20, "hidden_size": 48}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_in_every_layer(case):
    config = CASES[case]
    needs(config)
    model, weights = reference.reference_of(config, seed=21)
    arrays = inputs(config, 3, (config.text.max_length, 5, 2))
    theirs = reference.run_reference(config, model, arrays)
    found = errors(run(config, parameters(config, weights), arrays), theirs)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("case", TWINS)
def test_no_two_keys_can_be_exchanged_unnoticed(case):
    config = TWINS[case]
    needs(config)
    model, weights = reference.reference_of(config, seed=22)
    arrays = inputs(config, 4, (9, 5, 2))
    theirs = reference.run_reference(config, model, arrays)
    unnoticed = []
    for one, other in itertools.combinations(weights, 2):
        if weights[one].shape != weights[other].shape or "logit" in one + other:
            continue
        # It shifts all scores of a query alike, which the softmax does not see.
        if one.endswith("k_proj.bias") and other.endswith("k_proj.bias"):
            continue
        swapped = weights | {one: weights[other], other: weights[one]}
        found = errors(run(config, parameters(config, swapped), arrays), theirs)
        if max(found["image 0"], found["text 0"]) < 100 * TOLERANCE:
            unnoticed.append((one, other))
    assert not unnoticed


def test_open_clip_holds_what_the_twin_holds():
    """The keys of the whole model of OpenCLIP, of the smallest published size."""
    needs(TWINS["pe_core"])
    import open_clip

    from vljepa_jax.config.published_towers import PUBLISHED_TOWERS

    config = PUBLISHED_TOWERS["timm/PE-Core-T-16-384"]
    model = open_clip.create_model("PE-Core-T-16-384").eval()
    weights = reference.weights_of(model, seed=23)
    arrays = inputs(config, 5, (32,))
    images = np.float32(arrays["images"])
    import torch

    with torch.no_grad():
        image = model.encode_image(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
        text = model.encode_text(torch.tensor(arrays["tokens"], dtype=torch.long)).numpy()
    ours = run(config, parameters(config, weights), arrays)
    found = errors(ours, {"image": image, "text": text})
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < TOLERANCE, found


def test_metas_own_checkpoints(tmp_path):
    """docs/pe_core_pt_to_safetensors.py; of the image tower, beside what timm makes of the same."""
    needs(TWINS["pe_core"])
    import runpy
    from pathlib import Path

    import torch
    from timm.models.eva import checkpoint_filter_fn

    script = Path(__file__).parents[2] / "docs/pe_core_pt_to_safetensors.py"
    converted = runpy.run_path(str(script))["renamed"]
    config = TWINS["pe_core"]
    model, weights = reference.reference_of(config, seed=24)
    weights["visual.trunk.head.bias"] = np.zeros_like(weights["visual.trunk.head.bias"])
    meta = metas(weights)
    found = {key: tensor.numpy() for key, tensor in converted(meta).items()}
    assert found.keys() == weights.keys()
    for key, array in weights.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    for key, tensor in checkpoint_filter_fn(meta, model.visual.trunk).items():
        np.testing.assert_array_equal(found[f"visual.trunk.{key}"], tensor, err_msg=key)
    assert isinstance(next(iter(meta.values())), torch.Tensor)


def metas(weights):
    """The arrays under the names of facebookresearch/perception_models, written out here."""
    import torch

    names = {
        "patch_embed.proj.weight": "conv1.weight",
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "norm_pre.weight": "ln_pre.weight",
        "norm_pre.bias": "ln_pre.bias",
        "norm.weight": "ln_post.weight",
        "norm.bias": "ln_post.bias",
        "attn_pool.latent": "attn_pool.probe",
        "attn_pool.proj.weight": "attn_pool.attn.out_proj.weight",
        "attn_pool.proj.bias": "attn_pool.attn.out_proj.bias",
        "attn_pool.norm.weight": "attn_pool.layernorm.weight",
        "attn_pool.norm.bias": "attn_pool.layernorm.bias",
        "attn_pool.mlp.fc1.weight": "attn_pool.mlp.c_fc.weight",
        "attn_pool.mlp.fc1.bias": "attn_pool.mlp.c_fc.bias",
        "attn_pool.mlp.fc2.weight": "attn_pool.mlp.c_proj.weight",
        "attn_pool.mlp.fc2.bias": "attn_pool.mlp.c_proj.bias",
    }
    inside = {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    found = {}
    for key, array in weights.items():
        if not key.startswith("visual.trunk."):
            found[key.removeprefix("text.")] = array
            continue
        own = key.removeprefix("visual.trunk.")
        if own.startswith("blocks."):
            _, layer, *rest = own.split(".")
            module, kind = ".".join(rest[:-1]), rest[-1]
            block = f"transformer.resblocks.{layer}"
            fused = module == "attn.qkv"
            name = f"{block}.attn.in_proj_{kind}" if fused else f"{block}.{inside[module]}.{kind}"
            found[f"visual.{name}"] = array
        elif own in names:
            shape = {"cls_token": array.shape[-1:], "pos_embed": array.shape[1:]}.get(own)
            found[f"visual.{names[own]}"] = array if shape is None else array.reshape(shape)
    trunk = "visual.trunk"
    for kind in ("weight", "bias"):
        parts = [weights[f"{trunk}.attn_pool.{part}.{kind}"] for part in ("q", "kv")]
        found[f"visual.attn_pool.attn.in_proj_{kind}"] = np.concatenate(parts)
    found["visual.proj"] = weights[f"{trunk}.head.weight"].T
    return {key: torch.tensor(array) for key, array in found.items()}

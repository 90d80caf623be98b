"""V-JEPA 2.1 against an implementation in torch, written for this test: transformers has none.

It follows facebookresearch/vjepa2's app/vjepa_2_1 in what it computes and shares no code with ours:
the patches are a convolution, queries, keys and values one matrix, the rotation a product of
complex numbers. Weights go the users' way: a .pt file, docs/vjepa2_pt_to_safetensors.py, and
conversion.
"""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.published_twins import twin_config
from tests.helpers.twins import TOLERANCE, VJEPA21_TWIN, errors, run, shapes
from vljepa_jax.convert.export import export_backbone
from vljepa_jax.convert.published import read_backbone

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from tests.helpers.reference_twins import random_weights  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "docs/vjepa2_pt_to_safetensors.py"
WIDTH, HEADS, MLP, LAYERS, PATCH = 28, 2, 30, 2, 4  # of VJEPA21_TWIN
TRAINED_SIDE = 5

SHAPES = {
    "patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH),
    "patch_embed_img.proj.weight": (WIDTH, 3, 1, PATCH, PATCH),
    "video_mod_embed": (1, 1, WIDTH),
    "img_mod_embed": (1, 1, WIDTH),
} | {"patch_embed.proj.bias": (WIDTH,), "patch_embed_img.proj.bias": (WIDTH,)}
for _norm in range(4):
    SHAPES |= {f"norms_block.{_norm}.weight": (WIDTH,), f"norms_block.{_norm}.bias": (WIDTH,)}
for _layer in range(LAYERS):
    for _name, _sizes in {
        "attn.qkv": (3 * WIDTH, WIDTH),
        "attn.proj": (WIDTH, WIDTH),
        "mlp.fc1": (MLP, WIDTH),
        "mlp.fc2": (WIDTH, MLP),
        "norm1": (WIDTH,),
        "norm2": (WIDTH,),
    }.items():
        SHAPES |= {f"blocks.{_layer}.{_name}.weight": _sizes}
        SHAPES |= {f"blocks.{_layer}.{_name}.bias": _sizes[:1]}


@torch.no_grad()
def reference(weights, video):
    """video [b, T, H, W, 3]; T = 1 is an image."""
    w = {key: torch.tensor(np.float32(array)) for key, array in weights.items()}

    def linear(x, name):
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x, name):
        return functional.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    suffix, modality = ("_img", "img") if video.shape[1] == 1 else ("", "video")
    kernel = w[f"patch_embed{suffix}.proj.weight"]
    x = functional.conv3d(
        torch.tensor(video).permute(0, 4, 1, 2, 3),
        kernel,
        w[f"patch_embed{suffix}.proj.bias"],
        stride=kernel.shape[2:],
    )
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2) + w[f"{modality}_mod_embed"]

    # Heads of 14 features: two pairs turn with the frame, two with the row, two with the column;
    # the second of each turns 10,000 ** 0.5 times as slowly as the first.
    turns = torch.zeros(len(x[0]), 7)
    for token, position in enumerate(itertools.product(*map(range, grid))):
        for axis, place in enumerate(position):
            stretch = (TRAINED_SIDE - 1) / (grid[axis] - 1) if axis else 1.0
            turns[token, 2 * axis : 2 * axis + 2] = place * stretch * torch.tensor([1.0, 0.01])
    turns = torch.polar(torch.ones_like(turns), turns)[None, :, None]

    def rotated(x):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns).flatten(-2)

    hidden = []
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        query, key, value = qkv.unflatten(-1, (3, HEADS, -1)).unbind(2)
        scores = torch.einsum("bihk,bjhk->bhij", rotated(query), rotated(key)) / 14**0.5
        mixed = torch.einsum("bhij,bjhk->bihk", scores.softmax(-1), value).flatten(2)
        x = x + linear(mixed, f"{block}.attn.proj")
        inner = functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + linear(inner, f"{block}.mlp.fc2")
        hidden.append(x.numpy())
    return {"hidden": np.stack(hidden), "output": norm(x, "norms_block.3").numpy()}


def videos():
    rng = np.random.default_rng(1)
    for size in ((1, 12, 12), (6, 12, 12), (4, 20, 20), (2, 28, 28), (4, 8, 24)):
        yield rng.standard_normal((2, *size, 3)).astype(np.float32)


def converted(folder, weights, **flags):
    """Through the script and the converter: (filled, faults)."""
    folder.mkdir()
    saved = {f"module.backbone.{key}": torch.tensor(value) for key, value in weights.items()}
    torch.save({"ema_encoder": saved, "epoch": 1}, folder / "vit.pt")
    command = [sys.executable, SCRIPT, folder / "vit.pt", folder / "x", "--image_size=20"]
    flags = {"heads": 2, "encoder": "ema_encoder"} | flags
    subprocess.run([*command, *(f"--{k}={v}" for k, v in flags.items())], check=True)
    config = twin_config(folder)
    model = dataclasses.replace(config.model, x_encoder=VJEPA21_TWIN)
    config = dataclasses.replace(config, model=model)
    return config, *read_backbone(config, "x_encoder", folder / "x", shapes(VJEPA21_TWIN))


def test_every_layer_equals_the_reference(tmp_path):
    weights = random_weights(SHAPES, seed=21)
    config, filled, faults = converted(tmp_path / "a", weights)
    assert not faults
    assert filled.ignored == {"norms of earlier layers, for distillation": 6}
    for video in videos():
        theirs = reference(weights, video)
        found = errors(run(VJEPA21_TWIN, filled.tree, {"video": video}), theirs)
        print(video.shape, {name: f"{value:.1e}" for name, value in found.items()})
        assert max(found.values()) < TOLERANCE, found

    export_backbone(config.model, "x_encoder", filled.tree, tmp_path / "out")
    settings = json.loads((tmp_path / "out/config.json").read_text())
    assert (settings["model_type"], settings["rotary_size"]) == ("vjepa2_1", 20)
    again, faults = read_backbone(config, "x_encoder", tmp_path / "out", shapes(VJEPA21_TWIN))
    assert not faults
    for name in ("video_modality", "image_modality"):
        np.testing.assert_array_equal(again.tree[name], filled.tree[name])


def test_no_two_keys_can_be_exchanged_unnoticed():
    """Ours equals the reference: a conversion that exchanged two would differ as this does."""
    weights = random_weights(SHAPES, seed=21)
    used = [
        key for key in SHAPES if not key.startswith(tuple(f"norms_block.{i}" for i in range(3)))
    ]
    image, video = itertools.islice(videos(), 2)
    before = [reference(weights, v)["output"] for v in (image, video)]
    for one, other in itertools.combinations(used, 2):
        if SHAPES[one] == SHAPES[other]:
            swapped = weights | {one: weights[other], other: weights[one]}
            after = [reference(swapped, v)["output"] for v in (image, video)]
            change = max(np.abs(a - b).max() for a, b in zip(after, before, strict=True))
            assert change > 1e-2, (one, other)


def test_wrong_heads_are_named(tmp_path):
    _, _, faults = converted(tmp_path / "a", random_weights(SHAPES, seed=21), heads=4)
    assert len(faults) == 1
    assert "num_attention_heads: is 4, where 2 is expected" in faults[0]

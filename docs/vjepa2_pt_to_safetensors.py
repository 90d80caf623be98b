"""Turns an original V-JEPA 2 or 2.1 checkpoint into a directory that launch/convert.py reads.

    python -m venv pt && pt/bin/pip install torch safetensors numpy
    pt/bin/python docs/vjepa2_pt_to_safetensors.py vitl.pt weights/vjepa2-vitl --heads=16
    pt/bin/python docs/vjepa2_pt_to_safetensors.py vitg-384.pt weights/vjepa2-vitg-384 \
        --heads=22 --image_size=384
    pt/bin/python docs/vjepa2_pt_to_safetensors.py vjepa2_1_vitl_dist_vitG_384.pt \
        weights/vjepa2.1-vitl --heads=16 --encoder=ema_encoder

To be run in an environment of its own, since it needs torch, which vljepa_jax does not. A .pt file
is a pickle, which may run any code when it is opened. ``weights_only=True`` opens tensors and
plain containers alone; where torch then refuses a file, leave it and take the weights from the
Hugging Face repositories instead. Do not switch the flag off.

It takes the averaged encoder, as upstream's hub does: "target_encoder", but "ema_encoder" in the
distilled V-JEPA 2.1 files (ViT-B and L).
"""

import argparse
import json
import pathlib
import re

import safetensors.torch
import torch

RENAMED = (
    (r"^blocks\.(\d+)\.attn\.", r"encoder.layer.\1.attention."),
    (r"^blocks\.", "encoder.layer."),
    (r"^patch_embed\.", "encoder.embeddings.patch_embeddings."),
    (r"^norm\.", "encoder.layernorm."),
)
# Weights that rotary positions have replaced.
DROPPED = ("pos_embed",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--heads", type=int, required=True, help="ViT-B 12, L and H 16, g 22, G 26")
    parser.add_argument("--image_size", type=int, default=256, help="V-JEPA 2.1: leave it")
    parser.add_argument("--encoder", default="target_encoder", help="its name in the checkpoint")
    arguments = parser.parse_args()
    saved = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    if arguments.encoder not in saved:
        parser.error(f"--encoder: {arguments.checkpoint} has {', '.join(map(str, saved))}")
    tensors = renamed(saved[arguments.encoder])
    arguments.output.mkdir(parents=True)
    safetensors.torch.save_file(
        tensors, arguments.output / "model.safetensors", metadata={"format": "pt"}
    )
    settings = config_of(tensors, arguments.heads, arguments.image_size)
    (arguments.output / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    print(f"{len(tensors)} tensors in {arguments.output}")


def renamed(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {}
    for key, tensor in source.items():
        name = key.removeprefix("module.").removeprefix("backbone.")
        if name in DROPPED:
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".qkv." in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[name.replace("qkv", part)] = piece.contiguous()
        else:
            tensors[name] = tensor.contiguous()
    return tensors


def config_of(tensors: dict[str, torch.Tensor], heads: int, image_size: int) -> dict:
    patches = tensors["encoder.embeddings.patch_embeddings.proj.weight"]  # [width, 3, t, h, w]
    layers = {key.split(".")[2] for key in tensors if key.startswith("encoder.layer.")}
    mlp = tensors["encoder.layer.0.mlp.fc1.weight"]
    if "video_mod_embed" in tensors:  # V-JEPA 2.1: transformers has no class for it
        kind = {"model_type": "vjepa2_1", "rotary_size": image_size}
    else:
        kind = {
            "architectures": ["VJEPA2Model"],
            "model_type": "vjepa2",
            "crop_size": image_size,
        }
    return {
        **kind,
        "frames_per_clip": 64,
        "patch_size": patches.shape[3],
        "tubelet_size": patches.shape[2],
        "in_chans": patches.shape[1],
        "hidden_size": patches.shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "mlp_ratio": mlp.shape[0] / patches.shape[0],
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }


if __name__ == "__main__":
    main()

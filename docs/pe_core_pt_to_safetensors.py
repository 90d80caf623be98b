"""Turns one of Meta's PE-Core checkpoints into a directory in OpenCLIP's layout.

    python -m venv pt && pt/bin/pip install torch safetensors numpy
    pt/bin/python docs/pe_core_pt_to_safetensors.py PE-Core-L14-336.pt weights/pe-core-l14-336

To be run in an environment of its own, since it needs torch, which vljepa_jax does not. A .pt file
is a pickle, which may run any code when it is opened. ``weights_only=True`` opens tensors and
plain containers alone; where torch then refuses a file, leave it and take timm's safetensors of the
same weights instead (docs/models.md). Do not switch the flag off.

The tokenizer is CLIP's: put its tokenizer.json beside the weights.
"""

import argparse
import json
import pathlib
import re

import safetensors.torch
import torch

# Width of the image tower -> timm's name of it, side in pixels; context and width, heads and layers
# of the text tower; size of the embedding.
SIZES = {
    192: ("vit_pe_core_tiny_patch16_384", 384, 32, 512, 8, 12, 512),
    384: ("vit_pe_core_small_patch16_384", 384, 32, 512, 8, 12, 512),
    768: ("vit_pe_core_base_patch16_224", 224, 32, 1024, 16, 24, 1024),
    1024: ("vit_pe_core_large_patch14_336", 336, 32, 1024, 16, 24, 1024),
    1536: ("vit_pe_core_gigantic_patch14_448", 448, 72, 1280, 20, 24, 1280),
}
# Of the image tower, in this order.
RENAMED = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"^(blocks\.\d+\.attn)\.in_proj_", r"\1.qkv."),
    (r"^attn_pool\.attn\.", "attn_pool."),
    (r"^attn_pool\.layernorm\.", "attn_pool.norm."),
    (r"^attn_pool\.probe$", "attn_pool.latent"),
    (r"\.out_proj\.", ".proj."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    saved = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    saved = saved.get("state_dict", saved.get("weights", saved))
    tensors = renamed(saved)
    arguments.output.mkdir(parents=True)
    safetensors.torch.save_file(
        tensors, arguments.output / "open_clip_model.safetensors", metadata={"format": "pt"}
    )
    width = tensors["visual.trunk.patch_embed.proj.weight"].shape[0]
    settings = json.dumps(config_of(width), indent=2) + "\n"
    (arguments.output / "open_clip_config.json").write_text(settings)
    print(f"{len(tensors)} tensors in {arguments.output}")


def renamed(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Meta's keys and arrays as OpenCLIP has them, around timm's image tower."""
    tensors = {}
    for key, tensor in source.items():
        name = key.removeprefix("module.")
        if not name.startswith("visual."):
            tensors[name if name == "logit_scale" else f"text.{name}"] = tensor.contiguous()
            continue
        name = name.removeprefix("visual.")
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        tensors |= {f"visual.trunk.{key}": t.contiguous() for key, t in _arrays(name, tensor)}
    return tensors


def _arrays(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    if name == "proj":  # without a bias, where timm has one
        return [("head.weight", tensor.T), ("head.bias", torch.zeros_like(tensor[0]))]
    if name == "cls_token":
        return [(name, tensor[None, None])]
    if name == "pos_embed":
        return [(name, tensor[None])]
    if match := re.fullmatch(r"attn_pool\.in_proj_(weight|bias)", name):
        width = len(tensor) // 3
        query, rest = tensor[:width], tensor[width:]
        return [(f"attn_pool.q.{match[1]}", query), (f"attn_pool.kv.{match[1]}", rest)]
    return [(name, tensor)]


def config_of(width: int) -> dict:
    name, side, length, text_width, heads, layers, size = SIZES[width]
    return {
        "model_cfg": {
            "embed_dim": size,
            "vision_cfg": {"image_size": side, "timm_model_name": name, "timm_pool": "map"},
            "text_cfg": {
                "context_length": length,
                "vocab_size": 49_408,
                "width": text_width,
                "heads": heads,
                "layers": layers,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }


if __name__ == "__main__":
    main()

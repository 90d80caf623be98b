"""Lets a V-JEPA 2 encoder see larger pictures in as many patches; how the bundled one came to 80.

    python docs/resize_patches.py OLD NEW --patch_size=20 --mlp_size=672

To be run in the environment of ``make test-parity``, since it needs torch. OLD and NEW are
directories in the published layout. The patch kernel answers an enlarged picture as the old one
answers the small one (FlexiViT's pseudo-inverse resize, Beyer et al. 2023, arXiv 2212.08013), and
each MLP keeps the units whose weights are largest, by the product of their norms in and out. The
second changes what the encoder says: train it on.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

KERNEL = "encoder.embeddings.patch_embeddings.proj.weight"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, help="must not be there yet")
    parser.add_argument("--patch_size", type=int, required=True, help="pixels, more than now")
    parser.add_argument("--mlp_size", type=int, required=True, help="units, no more than now")
    options = parser.parse_args()
    config = json.loads((options.old / "config.json").read_text())
    tensors = load_file(options.old / "model.safetensors")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    tensors[KERNEL] = resized(tensors[KERNEL], options.patch_size)
    for layer in range(config["num_hidden_layers"]):
        prune(tensors, f"encoder.layer.{layer}.mlp", options.mlp_size)
    config |= {
        "crop_size": config["crop_size"] // config["patch_size"] * options.patch_size,
        "patch_size": options.patch_size,
        "mlp_ratio": options.mlp_size / config["hidden_size"],
    }
    options.new.mkdir(parents=True)
    save_file(tensors, options.new / "model.safetensors", metadata={"format": "pt"})
    (options.new / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def resized(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """[d, 3, tubelet, p, p] -> [d, 3, tubelet, size, size]."""
    old = kernel.shape[-1]
    basis = torch.eye(old * old, dtype=torch.float64).reshape(-1, 1, old, old)
    enlarged = torch.nn.functional.interpolate(basis, size=(size, size), mode="bilinear")
    # Each row of ``enlarged`` is what one old pixel becomes.
    inverse = torch.linalg.pinv(enlarged.reshape(old * old, size * size))
    flat = inverse @ kernel.double().reshape(-1, old * old).T
    return flat.T.float().reshape(*kernel.shape[:-2], size, size).contiguous()


def prune(tensors: dict[str, torch.Tensor], mlp: str, size: int) -> None:
    """Keeps ``size`` units of a layer's MLP, in their order."""
    weight_in, weight_out = tensors[f"{mlp}.fc1.weight"], tensors[f"{mlp}.fc2.weight"]
    kept = (weight_in.norm(dim=1) * weight_out.norm(dim=0)).topk(size).indices.sort().values
    tensors[f"{mlp}.fc1.weight"] = weight_in[kept].contiguous()
    tensors[f"{mlp}.fc1.bias"] = tensors[f"{mlp}.fc1.bias"][kept].contiguous()
    tensors[f"{mlp}.fc2.weight"] = weight_out[:, kept].contiguous()


if __name__ == "__main__":
    main()

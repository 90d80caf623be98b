"""The backbones at their published sizes, with random weights that transformers saves.

Slow: some minutes and 10 GB of memory a test; run one at a time by ``make test-slow``. The errors
of bfloat16 that it prints stand in docs/weights.md.
"""

import gc
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.helpers.twins import TOLERANCE, error, errors, run, shapes
from vljepa_jax.config import TrainConfig, load_recipe, parse
from vljepa_jax.convert.published import read_backbone

pytestmark = [pytest.mark.parity, pytest.mark.slow]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers.initialization import no_init_weights  # noqa: E402

import tests.helpers.reference_twins as reference  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config():
    """The paper's recipe with 16 frames: what the published directories are converted by."""
    return parse(TrainConfig, load_recipe(ROOT / "configs/vljepa_1b.py", "sft"))


def saved(make, directory):
    """A reference with every weight random and a bfloat16 number, as transformers saves it."""
    with no_init_weights():
        model = cast(make(), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    for name, values in model.state_dict().items():
        fresh = torch.randn(values.shape, generator=generator)
        if values.ndim == 1:  # as in reference_twins.random_weights
            fresh = 0.4 * fresh + (0.8 if name.endswith("norm.weight") else 0.2)
        elif "embed_tokens" not in name:
            fresh *= 1.5 / values[0].numel() ** 0.5
        values.copy_(fresh)
    model.save_pretrained(directory, max_shard_size="1GB")
    return model.eval()


def cast(model, dtype):
    """The parameters alone, as from_pretrained does: rotary frequencies stay in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def compare(name, backbone, params, inputs, model, run_reference):
    """float32 layer by layer; then the two bfloat16 computations, each against float32."""
    brief = run_reference(model, inputs)
    theirs = run_reference(cast(model, torch.float32), inputs)
    found = errors(run(backbone, params, inputs), theirs)
    print(f"\n{name}: float32 {max(found.values()):.1e}", end="")
    assert max(found.values()) < TOLERANCE, found
    ours = run(backbone, params, inputs, jnp.bfloat16)
    rows = {"ours": ours, "transformers": brief}
    for whose, result in rows.items():
        output, exact = result["output"], theirs["output"]
        rms = np.sqrt(np.mean((output - exact) ** 2) / np.mean(exact**2))
        print(f"; bfloat16 {whose}: max {error(output, exact):.1e}, rms {rms:.1e}", end="")
    print()
    # No worse than the reference does it in the same number format.
    assert error(ours["output"], theirs["output"]) < 2 * error(brief["output"], theirs["output"])


def converted(config, part, directory, backbone):
    filled, faults = read_backbone(config, part, directory, shapes(backbone))
    assert not faults
    return filled.tree


@pytest.fixture(autouse=True)
def one_at_a_time():
    yield
    gc.collect()


def test_vjepa2_vitl(config, tmp_path):
    backbone = config.model.x_encoder
    model = saved(lambda: reference.vjepa2_reference(backbone), tmp_path)
    params = converted(config, "x_encoder", tmp_path, backbone)
    video = np.random.default_rng(1).standard_normal((1, 16, 256, 256, 3)).astype(np.float32)
    compare(
        "V-JEPA 2 ViT-L, 16 frames",
        *(backbone, params, {"video": video}, model),
        lambda model, inputs: reference.run_vjepa2(model, **inputs),
    )


def test_llama_layers_8_to_16(config, tmp_path):
    backbone = config.model.predictor
    model = saved(lambda: reference.llama_reference(backbone, num_layers=16), tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    model.layers = model.layers[8:]
    params = converted(config, "predictor", tmp_path, backbone)
    compare(
        "Llama-3.2-1B, layers 8-16",
        *(backbone, params, texts(backbone.vocab_size, 600, (600, 333)), model),
        lambda model, inputs: reference.run_llama(model, **inputs, causal=False),
    )


def test_embedding_gemma(config, tmp_path):
    backbone = config.model.y_encoder
    model = saved(lambda: reference.gemma_reference(backbone), tmp_path)
    dense = reference.dense_weights(backbone, seed=2)
    for key, array in dense.items():
        folder, name = key.split("/")
        (tmp_path / folder).mkdir()
        safetensors.numpy.save_file({name: array}, tmp_path / folder / "model.safetensors")
    params = converted(config, "y_encoder", tmp_path, backbone)
    dense = {key: array.astype(np.float32) for key, array in dense.items()}
    # 400 tokens reach beyond the sliding window.
    compare(
        "EmbeddingGemma-300M",
        *(backbone, params, texts(backbone.vocab_size, 400, (400, 64, 7)), model),
        lambda model, inputs: reference.run_gemma(model, dense, **inputs),
    )


def texts(vocab_size, length, lengths):
    tokens = np.random.default_rng(2).integers(0, vocab_size, (len(lengths), length))
    return {"tokens": tokens.astype(np.int32), "mask": np.arange(length) < np.c_[list(lengths)]}

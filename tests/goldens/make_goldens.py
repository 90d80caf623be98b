"""Makes the committed reference outputs anew: ``make goldens`` (needs the parity extra).

Each file holds the twin's random weights under their published names (float16 values, so that the
reference in float32 saw exactly these), the inputs of several cases and the reference's outputs:
"weights/KEY", "CASE/inputs/NAME", "CASE/outputs/hidden", "CASE/outputs/output".
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import tests.helpers.reference_twins as reference
import tests.helpers.tower_references as towers
from tests.helpers import tower_twins
from tests.helpers.stage0_twins import POOLED_TWIN
from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    GOLDENS,
    LLAMA_TWIN,
    QWEN3_TWIN,
    VJEPA2_TWIN,
    VLM_TWIN,
)


def main() -> None:
    families = {"mask_predictor": mask_predictor, "attentive_pooler": attentive_pooler}
    families |= {"vjepa2": vjepa2, "llama": llama, "gemma": gemma, "qwen3": qwen3, "bert": bert}
    for name in ("clip", "siglip2", "pe_core"):
        families[name] = functools.partial(dual_encoder, tower_twins.TWINS[name])
    for name, make in families.items():
        weights, cases = make(np.random.default_rng(7))
        arrays = {f"weights/{key}": value for key, value in weights.items()}
        for case, (inputs, outputs) in cases.items():
            arrays |= {f"{case}/inputs/{key}": value for key, value in inputs.items()}
            arrays |= {f"{case}/outputs/{key}": value for key, value in outputs.items()}
        path = GOLDENS / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB, {sorted(cases)}")


def vjepa2(rng):
    model = reference.vjepa2_reference(VJEPA2_TWIN)
    weights = reference.weights_of(model, seed=1)
    cases = {}
    for name, frames, side in (
        ("image", 1, 12),
        ("short", 2, 12),
        ("trained", 6, 12),
        ("larger", 4, 16),
    ):
        model = reference.vjepa2_reference(VJEPA2_TWIN, side)
        reference.weights_of(model, seed=1)
        video = rng.standard_normal((2, frames, side, side, 3)).astype(np.float16)
        cases[name] = {"video": video}, reference.run_vjepa2(model, video)
    return {k: v for k, v in weights.items() if not k.startswith("predictor.")}, cases


def mask_predictor(rng):
    """Other grids than the trained one, too: positions go by the grid that is asked about."""
    cases = {}
    for name, frames, side in (("trained", 6, 12), ("larger", 4, 16)):
        model = reference.vjepa2_reference(VJEPA2_TWIN, side)
        weights = reference.weights_of(model, seed=1)
        tokens = frames // 2 * (side // 4) ** 2
        order = np.stack([rng.permutation(tokens) for _ in range(2)]).astype(np.int32)
        kept, predicted = np.sort(order[:, :5]), np.sort(order[:, 5:16])
        hidden = rng.standard_normal((2, tokens, VJEPA2_TWIN.hidden_size)).astype(np.float16)
        inputs = {"tokens": hidden, "kept": kept, "predicted": predicted}
        inputs["grid"] = np.array([frames // 2, side // 4, side // 4])
        outputs = {"output": reference.run_mask_predictor(model, hidden, kept, predicted)}
        cases[name] = inputs, outputs
    return {k: v for k, v in weights.items() if k.startswith("predictor.")}, cases


def attentive_pooler(rng):
    model = reference.pooler_reference(POOLED_TWIN)
    weights = reference.weights_of(model, seed=6)
    tokens = rng.standard_normal((2, 7, POOLED_TWIN.hidden_size)).astype(np.float16)
    return weights, {
        "pooled": ({"tokens": tokens}, {"output": reference.run_pooler(model, tokens)})
    }


def llama(rng):
    weights = reference.weights_of(reference.llama_reference(LLAMA_TWIN, 3), seed=2)
    inputs = _texts(rng, LLAMA_TWIN.vocab_size, 9, (9, 5, 1))
    cases = {}
    for name, causal, layers in (
        ("bidirectional", False, slice(0, 3)),
        ("causal", True, slice(0, 3)),
        ("slice", False, slice(1, 3)),
    ):
        model = reference.llama_reference(LLAMA_TWIN, 3)
        reference.weights_of(model, seed=2)
        model.layers = model.layers[layers]
        model.config.num_hidden_layers = len(model.layers)
        cases[name] = inputs, reference.run_llama(model, **inputs, causal=causal)
    return weights, cases | {"vlm": vlm(rng)}


def vlm(rng):
    """The same weights behind visual tokens of width 12; a row of the query alone among them."""
    model = reference.vlm_reference(VLM_TWIN.predictor)
    reference.weights_of(model.model, seed=2)
    inputs = _texts(rng, LLAMA_TWIN.vocab_size, 7, (7, 5, 2))
    inputs["target_mask"] = inputs["mask"] & (np.arange(7) >= np.array([[3], [1], [2]]))
    for name, shape in (("visual", (3, 4, 12)), ("kernel", (12, 18)), ("bias", (18,))):
        inputs[name] = (rng.standard_normal(shape) / 2).astype(np.float16)
    return inputs, reference.run_vlm(model, **inputs)


def gemma(rng):
    model = reference.gemma_reference(GEMMA_TWIN)
    weights = reference.weights_of(model, seed=3)
    dense = reference.dense_weights(GEMMA_TWIN, seed=4)
    cases = {}
    for name, length, lengths in (
        ("beyond_window", 11, (11, 7, 1)),
        ("within_window", 4, (4, 2, 3)),
    ):
        inputs = _texts(rng, GEMMA_TWIN.vocab_size, length, lengths)
        cases[name] = inputs, reference.run_gemma(model, dense, **inputs)
    bare = dataclasses.replace(GEMMA_TWIN, dense_sizes=())
    assert not reference.dense_weights(bare, seed=4)
    cases["bare"] = inputs, reference.run_gemma(model, {}, **inputs)
    return weights | dense, cases


def qwen3(rng):
    model = reference.qwen3_reference(QWEN3_TWIN)
    weights = reference.weights_of(model, seed=5)
    inputs = _texts(rng, QWEN3_TWIN.vocab_size, 9, (9, 5, 1))
    return weights, {"padded": (inputs, reference.run_qwen3(model, **inputs))}


def bert(rng):
    """Each kind of pooling, the mean with a Normalize behind it."""
    model = reference.bert_reference(BERT_TWIN)
    weights = reference.weights_of(model, seed=6)
    inputs = _texts(rng, BERT_TWIN.vocab_size, 9, (9, 5, 1))
    cases = {"mean": (inputs, reference.run_bert(model, BERT_TWIN, **inputs))}
    for pooling in ("cls", "lasttoken", "max"):
        config = dataclasses.replace(BERT_TWIN, pooling=pooling, normalised=False)
        found = reference.run_bert(model, config, **inputs)
        cases[pooling] = inputs, {"output": found["output"]}  # the layers are the same
    return weights, cases


def dual_encoder(config, rng):
    """Both embeddings of a pair; what every layer gives is compared live."""
    model, weights = towers.reference_of(config, seed=8)
    arrays = tower_twins.inputs(config, int(rng.integers(100)), (9, 5, 2))
    outputs = towers.run_reference(config, model, arrays)
    return weights, {"pairs": (arrays, {name: outputs[name] for name in ("image", "text")})}


def _texts(rng, vocab_size, length, lengths):
    tokens = rng.integers(1, vocab_size, (len(lengths), length)).astype(np.int32)
    mask = np.arange(length) < np.array(lengths)[:, None]
    return {"tokens": np.where(mask, tokens, 0), "mask": mask}


if __name__ == "__main__":
    main()

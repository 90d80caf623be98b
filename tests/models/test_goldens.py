"""Ours against the committed outputs of the reference implementations, layer by layer."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    GOLDENS,
    LLAMA_TWIN,
    QWEN3_TWIN,
    TOLERANCE,
    VJEPA2_TWIN,
    error,
    errors,
    parameters,
    run,
    run_vlm,
)

CASES = {
    "vjepa2/image": VJEPA2_TWIN,
    "vjepa2/short": VJEPA2_TWIN,
    "vjepa2/trained": VJEPA2_TWIN,
    "vjepa2/larger": VJEPA2_TWIN,
    "llama/bidirectional": LLAMA_TWIN,
    "llama/causal": dataclasses.replace(LLAMA_TWIN, causal=True),
    "llama/slice": dataclasses.replace(LLAMA_TWIN, first_layer=1, num_layers=2),
    "gemma/beyond_window": GEMMA_TWIN,
    "gemma/within_window": GEMMA_TWIN,
    "gemma/bare": dataclasses.replace(GEMMA_TWIN, dense_sizes=()),
    "qwen3/padded": QWEN3_TWIN,
    "bert/mean": BERT_TWIN,
}


def tolerance(case):
    return 1e-5 if case.startswith("bert/") else TOLERANCE


def golden(case):
    """Weights, inputs and outputs of one case."""
    family, name = case.split("/")
    with np.load(GOLDENS / f"{family}.npz") as file:
        return tuple(
            {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
            for prefix in ("weights/", f"{name}/inputs/", f"{name}/outputs/")
        )


@pytest.mark.parametrize("case", CASES)
def test_equals_reference_in_every_layer(case):
    weights, inputs, outputs = golden(case)
    found = errors(run(CASES[case], parameters(CASES[case], weights), inputs), outputs)
    assert max(found.values()) < tolerance(case), found


@pytest.mark.parametrize(
    "case",
    ["vjepa2/trained", "llama/bidirectional", "gemma/beyond_window", "qwen3/padded", "bert/mean"],
)
def test_no_two_keys_can_be_exchanged_unnoticed(case):
    weights, inputs, outputs = golden(case)
    config = CASES[case]
    unnoticed = []
    for one, other in itertools.combinations(weights, 2):
        if weights[one].shape != weights[other].shape:
            continue
        # Without rotation a key's bias moves all scores of a query alike: softmax takes it away.
        if "bert" in case and one.endswith("key.bias") and other.endswith("key.bias"):
            continue
        swapped = weights | {one: weights[other], other: weights[one]}
        found = errors(run(config, parameters(config, swapped), inputs), outputs)
        if found["output"] < 10 * tolerance(case):
            unnoticed.append((one, other, found["output"]))
    assert not unnoticed


@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max"])
def test_bert_pools_as_sentence_transformers(pooling):
    weights, inputs, outputs = golden(f"bert/{pooling}")
    config = dataclasses.replace(BERT_TWIN, pooling=pooling, normalised=False)
    found = run(config, parameters(config, weights), inputs)["output"]
    assert error(found, outputs["output"]) < tolerance("bert/")


def test_a_vlm_equals_llama_behind_visual_tokens():
    """Its logits, and the loss over targets that transformers takes of labels."""
    weights, inputs, outputs = golden("llama/vlm")
    found = run_vlm(weights, inputs)
    assert error(found["logits"], outputs["logits"]) < TOLERANCE
    assert float(found["loss"]) == pytest.approx(float(outputs["loss"]), rel=TOLERANCE)
    swapped = inputs | {"visual": inputs["visual"][:, ::-1]}  # the order of patches counts
    assert error(run_vlm(weights, swapped)["logits"], outputs["logits"]) > 10 * TOLERANCE


def test_goldens_stay_small():
    assert sum(path.stat().st_size for path in GOLDENS.glob("*.npz")) < 480 * 1024

"""The families' tables against the checkpoints' keys; values are in models/test_goldens.py."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    GOLDENS,
    LLAMA_TWIN,
    QWEN3_TWIN,
    VJEPA2_TWIN,
    parameters,
)
from vljepa_jax.convert.rules import ConversionError

TWINS = {"vjepa2": VJEPA2_TWIN, "llama": LLAMA_TWIN, "gemma": GEMMA_TWIN, "qwen3": QWEN3_TWIN}
TWINS |= {"bert": BERT_TWIN}


def weights(family):
    with np.load(GOLDENS / f"{family}.npz") as file:
        return {k.removeprefix("weights/"): file[k] for k in file if k.startswith("weights/")}


@pytest.mark.parametrize("family", TWINS)
def test_every_key_is_needed(family):
    arrays = weights(family)
    for key in arrays:
        with pytest.raises(ConversionError, match="missing"):
            parameters(TWINS[family], {k: v for k, v in arrays.items() if k != key})


@pytest.mark.parametrize(
    ("family", "prefix", "extra"),
    [
        ("vjepa2", "vjepa2.", ["vjepa2.predictor.layernorm.weight", "pooler.query_tokens"]),
        ("llama", "model.", ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]),
        ("gemma", "model.", []),
        ("qwen3", "model.", ["lm_head.weight"]),
        (
            *("bert", "bert."),
            ["cls.predictions.bias", "bert.pooler.dense.bias", "bert.embeddings.position_ids"],
        ),
    ],
)
def test_known_variants_of_the_keys(family, prefix, extra):
    arrays = weights(family)
    variant = {key if "Dense" in key else prefix + key: value for key, value in arrays.items()}
    found = parameters(TWINS[family], variant | dict.fromkeys(extra, np.ones(3)))
    np.testing.assert_equal(found, parameters(TWINS[family], arrays))


def test_slices_of_llama_take_their_own_layers():
    arrays = weights("llama")
    whole = parameters(LLAMA_TWIN, arrays)
    part = parameters(dataclasses.replace(LLAMA_TWIN, first_layer=1, num_layers=2), arrays)
    np.testing.assert_array_equal(
        part["layers"]["mlp"]["gate"]["kernel"], whole["layers"]["mlp"]["gate"]["kernel"][1:]
    )
    with pytest.raises(ConversionError, match=r"layers\.3\.mlp\.gate_proj\.weight: missing"):
        parameters(dataclasses.replace(LLAMA_TWIN, first_layer=2, num_layers=2), arrays)


def test_gemma_without_dense_layers_leaves_theirs_out():
    bare = dataclasses.replace(GEMMA_TWIN, dense_sizes=())
    assert not any(name.startswith("dense") for name in parameters(bare, weights("gemma")))

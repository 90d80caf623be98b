"""Ours against transformers on torch, live: more shapes than the goldens hold."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    LLAMA_TWIN,
    QWEN3_TWIN,
    TOLERANCE,
    VJEPA2_TWIN,
    errors,
    parameters,
    run,
)
from vljepa_jax.config.published_sizes import PUBLISHED

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("transformers")
import tests.helpers.reference_twins as reference  # noqa: E402


def check(ours, theirs, tolerance=TOLERANCE):
    found = errors(ours, theirs)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < tolerance, found


@pytest.mark.parametrize(
    ("changes", "frames", "side"),
    [
        ({}, 1, 12),
        ({}, 6, 12),
        ({}, 14, 8),
        ({}, 2, 44),
        ({"tubelet_size": 3, "patch_size": 5}, 9, 15),
        ({"hidden_size": 64, "num_heads": 2, "mlp_size": 279}, 4, 12),  # heads of 32, mlp 48/11
        ({"num_layers": 1, "norm_eps": 1e-2}, 4, 16),
    ],
)
def test_vjepa2(changes, frames, side):
    config = dataclasses.replace(VJEPA2_TWIN, **changes)
    model = reference.vjepa2_reference(config, side)
    params = parameters(config, reference.weights_of(model, seed=11))
    video = np.random.default_rng(1).standard_normal((3, frames, side, side, 3))
    video = video.astype(np.float32)
    check(run(config, params, {"video": video}), reference.run_vjepa2(model, video))


def texts(vocab_size, length, lengths):
    tokens = np.random.default_rng(2).integers(0, vocab_size, (len(lengths), length))
    return {"tokens": tokens.astype(np.int32), "mask": np.arange(length) < np.c_[list(lengths)]}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("changes", "length", "lengths"),
    [
        ({}, 9, (9, 9)),
        ({}, 70, (70, 33, 1)),  # beyond the original context of 40
        ({"num_heads": 3, "num_kv_heads": 3, "head_size": 10}, 6, (3, 6)),
        ({"num_heads": 9, "num_kv_heads": 1, "rope_scaling": None}, 6, (5, 2)),
    ],
)
def test_llama(changes, length, lengths, causal):
    config = dataclasses.replace(LLAMA_TWIN, causal=causal, **changes)
    model = reference.llama_reference(config, config.num_layers)
    params = parameters(config, reference.weights_of(model, seed=12))
    inputs = texts(config.vocab_size, length, lengths)
    check(run(config, params, inputs), reference.run_llama(model, **inputs, causal=causal))


def test_llama_scaling_as_published():
    published = dataclasses.replace(
        LLAMA_TWIN,
        head_size=64,
        num_heads=2,
        num_kv_heads=1,
        rope_theta=500_000.0,
        rope_scaling=PUBLISHED["llama-3.2-1b"].rope_scaling,
    )
    model = reference.llama_reference(published, published.num_layers)
    params = parameters(published, reference.weights_of(model, seed=13))
    inputs = texts(published.vocab_size, 600, (600,))
    check(run(published, params, inputs), reference.run_llama(model, **inputs, causal=False))


@pytest.mark.parametrize(
    ("changes", "length", "lengths"),
    [
        ({}, 3, (3, 1)),
        ({}, 4, (4, 4)),  # exactly as far as the window reaches
        ({}, 5, (5, 2)),  # one token further
        ({}, 23, (23, 14, 1)),
        ({"sliding_window": 7}, 12, (12, 5)),
        ({"num_heads": 6, "num_kv_heads": 2, "num_layers": 7}, 12, (12, 9)),
        ({"dense_sizes": ()}, 12, (12, 9)),
        ({"global_every": 1}, 12, (7, 12)),
    ],
)
def test_gemma(changes, length, lengths):
    config = dataclasses.replace(GEMMA_TWIN, **changes)
    model = reference.gemma_reference(config)
    dense = reference.dense_weights(config, seed=15)
    params = parameters(config, reference.weights_of(model, seed=14) | dense)
    inputs = texts(config.vocab_size, length, lengths)
    check(run(config, params, inputs), reference.run_gemma(model, dense, **inputs))


@pytest.mark.parametrize(
    ("changes", "length", "lengths"),
    [
        ({}, 9, (9, 9)),
        ({}, 70, (70, 33, 1)),
        ({"num_heads": 3, "num_kv_heads": 3, "head_size": 10}, 6, (3, 6)),
        ({"num_heads": 4, "num_kv_heads": 1, "rope_theta": 1_000_000.0}, 6, (5, 2)),
        ({"norm_eps": 1e-2, "num_layers": 1}, 5, (5, 4)),
    ],
)
def test_qwen3(changes, length, lengths):
    config = dataclasses.replace(QWEN3_TWIN, **changes)
    model = reference.qwen3_reference(config)
    params = parameters(config, reference.weights_of(model, seed=16))
    inputs = texts(config.vocab_size, length, lengths)
    check(run(config, params, inputs), reference.run_qwen3(model, **inputs))


@pytest.mark.parametrize(
    ("changes", "length", "lengths"),
    [
        ({}, 9, (9, 9)),
        ({"pooling": "cls"}, 40, (40, 7, 1)),  # as many as there are positions
        ({"pooling": "lasttoken", "normalised": False}, 6, (3, 6)),
        ({"pooling": "max"}, 6, (5, 2)),
        ({"num_heads": 2, "norm_eps": 1e-2, "num_layers": 1}, 5, (5, 4)),
        ({"max_length": 512, "hidden_size": 48, "num_heads": 4, "num_layers": 6}, 300, (300, 40)),
    ],
)
def test_bert(changes, length, lengths):
    config = dataclasses.replace(BERT_TWIN, **changes)
    model = reference.bert_reference(config)
    params = parameters(config, reference.weights_of(model, seed=17))
    inputs = texts(config.vocab_size, length, lengths)
    theirs = reference.run_bert(model, config, **inputs)
    check(run(config, params, inputs), theirs, tolerance=1e-5)

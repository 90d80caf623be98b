"""A VLM against transformers' Llama fed with ``inputs_embeds``, live: logits, loss and texts."""

import numpy as np
import pytest

from tests.helpers.twins import TOLERANCE, VLM_TWIN, error, run_vlm, vlm_parameters
from vljepa_jax.inference.generate import Decoding, generate
from vljepa_jax.models.vlm import VLM

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("transformers")
import tests.helpers.reference_twins as reference  # noqa: E402

END = 8  # a token that is written


def inputs(rng, patches, lengths, queries):
    """Visual tokens of width 12 with a projection, and texts whose targets follow their queries."""
    length = max(lengths)
    place = np.arange(length)
    mask = place < np.c_[list(lengths)]
    return {
        "visual": rng.standard_normal((len(lengths), patches, 12)).astype(np.float32),
        "kernel": 0.3 * rng.standard_normal((12, 18)).astype(np.float32),
        "bias": 0.3 * rng.standard_normal(18).astype(np.float32),
        "tokens": rng.integers(0, 23, (len(lengths), length)).astype(np.int32),
        "mask": mask,
        "target_mask": mask & (place >= np.c_[list(queries)]),
    }


@pytest.fixture(scope="module")
def model():
    return reference.vlm_reference(VLM_TWIN.predictor)


@pytest.mark.parametrize(
    ("patches", "lengths", "queries"),
    [
        (1, (6, 6), (2, 2)),
        (9, (12, 7, 3), (5, 1, 0)),
        (50, (20, 9), (3, 8)),  # beyond the original context of 40
    ],
)
def test_logits_and_loss(model, patches, lengths, queries):
    weights = reference.weights_of(model.model, seed=21)
    given = inputs(np.random.default_rng(patches), patches, lengths, queries)
    found, expected = run_vlm(weights, given), reference.run_vlm(model, **given)
    print(error(found["logits"], expected["logits"]), found["loss"], expected["loss"])
    assert error(found["logits"], expected["logits"]) < TOLERANCE
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=TOLERANCE)


def test_greedy_texts(model):
    """Of queries of different lengths, which transformers is given one by one."""
    weights = reference.weights_of(model.model, seed=22)
    given = inputs(np.random.default_rng(3), 5, (8, 3, 1, 6), (0, 0, 0, 0))
    params = vlm_parameters(weights, given["kernel"], given["bias"])
    batch = {
        "visual_tokens": given["visual"],
        "query_tokens": given["tokens"],
        "query_mask": given["mask"],
    }
    written = np.asarray(generate(VLM(VLM_TWIN), params, batch, 12, END, Decoding()).tokens)
    lengths = set()
    lengths = set()
    for row, mask in enumerate(given["mask"]):
        text = reference.write_vlm(
            model,
            given["visual"][row],
            given["kernel"],
            given["bias"],
            given["tokens"][row][mask],
            END,
            12,
        )
        assert written[row].tolist() == text + (12 - len(text)) * [END]
        lengths.add(len(text))
    assert len(lengths) > 1  # some end early

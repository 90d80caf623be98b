"""The mask predictor and the attentive pooler against the references' committed outputs."""

import itertools

import numpy as np
import pytest

from tests.helpers.stage0_twins import (
    pooler_parameters,
    predictor_parameters,
    run_pooler,
    run_predictor,
)
from tests.helpers.twins import GOLDENS, TOLERANCE, error


def golden(family, case):
    with np.load(GOLDENS / f"{family}.npz") as file:
        return tuple(
            {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
            for prefix in ("weights/", f"{case}/inputs/", f"{case}/outputs/")
        )


@pytest.mark.parametrize("case", ["trained", "larger"])
def test_mask_predictor_equals_reference(case):
    weights, inputs, outputs = golden("mask_predictor", case)
    found = run_predictor(predictor_parameters(weights), inputs)
    assert error(found, outputs["output"]) < TOLERANCE


def test_attentive_pooler_equals_reference():
    weights, inputs, outputs = golden("attentive_pooler", "pooled")
    found = run_pooler(*pooler_parameters(weights), inputs["tokens"])
    assert error(found, outputs["output"]) < TOLERANCE


@pytest.mark.parametrize(
    ("family", "case"), [("mask_predictor", "trained"), ("attentive_pooler", "pooled")]
)
def test_no_two_keys_can_be_exchanged_unnoticed(family, case):
    weights, inputs, outputs = golden(family, case)
    for one, other in itertools.combinations(weights, 2):
        if weights[one].shape != weights[other].shape:
            continue
        if one.endswith("k_proj.bias") and other.endswith("k_proj.bias"):
            continue  # without positions, it shifts all scores of a query alike
        swapped = weights | {one: weights[other], other: weights[one]}
        if family == "mask_predictor":
            found = run_predictor(predictor_parameters(swapped), inputs)
        else:
            found = run_pooler(*pooler_parameters(swapped), inputs["tokens"])
        assert error(found, outputs["output"]) > 10 * TOLERANCE, (one, other)

"""The controlled comparison of a VL-JEPA and a VLM (paper 4.5): its figures with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vljepa_jax.config import StudyConfig, StudySection, Variant
from vljepa_jax.planning.summary import count_parameters
from vljepa_jax.studies.bootstrap import estimate, resampled, value_of
from vljepa_jax.studies.latency import measure_latency
from vljepa_jax.studies.results import Results, figures
from vljepa_jax.studies.runs import effort_of, folder_of, is_vlm, y_decoder_of


def compare(
    study: StudyConfig, section: StudySection, results: Results, workdir: Path, *, quick: bool
) -> dict[str, Any]:
    """What a section with one VL-JEPA and one VLM says of the paper's claim.

    Returns:
        "comparison": the figures, each {"value", "interval", "reason"}; "parameters" and, where
        the study asks for it, "latency". Nothing for a section of other variants.
    """
    vlms = [variant for variant in section.variants if is_vlm(variant)]
    others = [variant for variant in section.variants if not is_vlm(variant)]
    if len(vlms) != 1 or not others:
        return {}
    ours, theirs = others[0], vlms[0]
    found: dict[str, Any] = {}
    samples = [result.samples for result in next(iter(results[ours.name].values()))]
    for column, metrics in section.columns.items():
        curve = figures(results, ours.name, metrics)
        final = figures(results, theirs.name, metrics)[-1]
        named = {str(step): figure for step, figure in enumerate(curve)} | {"theirs": final}
        drawn = resampled(named)
        last = str(len(curve) - 1)
        values = {name: value_of(figure) for name, figure in named.items()}
        if column == "cider":
            found["cider_ratio_final"] = ratio_of(
                values[last], values["theirs"], drawn[last], drawn["theirs"]
            )
            found["samples_to_equal_cider_ratio"] = _samples_ratio(samples, values, drawn)
        else:
            difference = values[last] - values["theirs"]
            found[f"{column}_difference_final"] = estimate(
                difference, drawn[last] - drawn["theirs"]
            )
    parameters = {v.name: trained_parameters(v) for v in (ours, theirs)}
    llm = parameters[theirs.name]["model"]
    found["predictor_to_llm_ratio"] = {"value": parameters[ours.name]["model"] / llm}
    found["all_trainable_ratio"] = {"value": sum(parameters[ours.name].values()) / llm}
    summary: dict[str, Any] = {"comparison": found, "parameters": parameters}
    if study.latency is not None:
        effort = effort_of(section, quick=quick)
        own, other = (folder_of(workdir, section, v, effort.seeds[0]) for v in (ours, theirs))
        runs = own, y_decoder_of(ours, own), other
        repeats = study.latency.quick_repeats if quick else study.latency.repeats
        summary["latency"] = latency = measure_latency(*runs, section.world, repeats)
        found["latency_ratio_without_text"] = latency["ratio_without_text"]
    return summary


def ratio_of(
    ours: float, theirs: float, our_resamples: np.ndarray, their_resamples: np.ndarray
) -> dict[str, Any]:
    """A ratio with its interval; unknown where the divisor is, or may well be, 0."""
    if theirs <= 0 or np.mean(their_resamples <= 0) > 0.025:
        reason = "what it is divided by cannot be told from 0"
        return {"value": None, "interval": [None, None], "reason": reason}
    drawn = np.divide(
        our_resamples,
        their_resamples,
        out=np.full(our_resamples.shape, np.inf),
        where=their_resamples > 0,
    )
    return estimate(ours / theirs, drawn)


def _samples_ratio(
    samples: list[int], values: dict[str, float], drawn: dict[str, np.ndarray]
) -> dict[str, Any]:
    """How many times the samples the VLM takes to the CIDEr that it ends with.

    Between two evaluated steps CIDEr is taken to be linear in the logarithm of the samples.
    """
    steps = range(len(samples))
    needed = np.array(
        [
            samples_to_reach(samples, [drawn[str(step)][i] for step in steps], level)
            for i, level in enumerate(drawn["theirs"])
        ]
    )
    own = samples_to_reach(samples, [values[str(step)] for step in steps], values["theirs"])
    # A model that never gets there needs infinitely many: the ratio is 0.
    ratios = samples[-1] / needed
    if np.isnan(values["theirs"]):
        return estimate(values["theirs"], ratios)
    if np.isinf(own):
        reason = "the VL-JEPA does not reach the VLM's final CIDEr in as many samples"
        return estimate(None, ratios, reason)
    reason = ""
    if own == samples[0]:
        reason = "at least: it is there at the first evaluated step"
    return estimate(samples[-1] / own, ratios, reason)


def samples_to_reach(samples: list[int], curve: list[float], level: float) -> float:
    """The samples at which a curve first reaches a level, log-linear between its points.

    Returns:
        ``samples[0]`` where it begins above the level, infinity where it never is.
    """
    if curve[0] >= level:
        return float(samples[0])
    for place in range(1, len(curve)):
        if curve[place] >= level:
            below, above = curve[place - 1 : place + 1]
            part = (level - below) / (above - below)
            low, high = np.log(samples[place - 1 : place + 1])
            return float(np.exp(low + part * (high - low)))
    return float("inf")


def trained_parameters(variant: Variant) -> dict[str, int]:
    """Trained parameters: "model", and "y_decoder" where there is one."""
    counted = {"model": variant.train}
    if variant.y_decoder is not None:
        counted["y_decoder"] = variant.y_decoder
    return {
        name: sum(count.trained for count in count_parameters(config).values())
        for name, config in counted.items()
    }

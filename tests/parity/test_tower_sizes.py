"""CLIP, SigLIP 2 and PE-Core at their published sizes, with random weights.

Slow: minutes and up to 22 GB of memory a test; run one at a time by ``make test-slow``. The errors
that it prints stand in docs/models.md.
"""

import gc

import pytest

from tests.helpers.tower_twins import TOLERANCE, errors, inputs, parameters, run, shapes
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS

pytestmark = [pytest.mark.parity, pytest.mark.slow]
pytest.importorskip("torch")
pytest.importorskip("transformers")
import tests.helpers.tower_references as reference  # noqa: E402

# One of each architecture; what is left out differs in its number of patches alone.
NAMES = (
    "openai/clip-vit-base-patch32",
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-large-patch14-336",
    "google/siglip2-base-patch32-256",
    "google/siglip2-base-patch16-224",
    "google/siglip2-large-patch16-256",
    "google/siglip2-so400m-patch14-384",
    "google/siglip2-so400m-patch16-256",
    "google/siglip2-giant-opt-patch16-256",
    "timm/PE-Core-T-16-384",
    "timm/PE-Core-S-16-384",
    "timm/PE-Core-B-16",
    "timm/PE-Core-L-14-336",
    "timm/PE-Core-bigG-14-448",
)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name):
    config = PUBLISHED_TOWERS[name]
    if config.family == "pe_core":
        pytest.importorskip("open_clip")
    model, weights = reference.reference_of(config, seed=31)
    arrays = inputs(config, 6, (config.text.max_length, 7))
    theirs = reference.run_reference(config, model, arrays)
    del model
    params = parameters(config, weights)
    del weights
    gc.collect()
    found = errors(run(config, params, arrays), theirs)
    print(f"\n{name}: image {found['image 0']:.1e}, text {found['text 0']:.1e}, layers ", end="")
    print(f"{max(value for key, value in found.items() if 'hidden' in key):.1e}")
    shapes.cache_clear()
    assert max(found["image 0"], found["text 0"]) < TOLERANCE, found

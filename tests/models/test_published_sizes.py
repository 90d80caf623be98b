import dataclasses
from pathlib import Path

import jax
import pytest

from tests.helpers.twins import shapes
from vljepa_jax.config import TrainConfig, load_recipe, parse
from vljepa_jax.config.published_sizes import PUBLISHED
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS
from vljepa_jax.convert import dual_encoders

RECIPE = Path(__file__).parents[2] / "configs" / "vljepa_1b.py"


@pytest.mark.parametrize(
    ("name", "count", "tolerance"),
    [
        ("vjepa2-vitl", 300e6, 0.06),  # the V-JEPA 2 paper's table says 300M, 600M and 1B
        ("vjepa2-vith", 600e6, 0.06),
        ("vjepa2-vitg", 1e9, 0.06),
        ("llama-3.2-1b", 1_235_814_400, 0),  # the rest: tensors of the files on the Hub
        ("embeddinggemma-300m", 307_581_696, 0),
        ("qwen3-embedding-0.6b", 595_776_512, 0),
        # Of the file on PyPI (make test-real), without the layer behind the first token.
        ("all-minilm-l6-v2", 22_713_216 - 384 * 385, 0),
        ("smollm2-135m", 134_515_008, 0),
        ("smollm2-360m", 361_821_120, 0),
        ("smollm2-1.7b", 1_711_376_384, 0),
    ],
)
def test_parameters(name, count, tolerance):
    """None is allocated."""
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes(PUBLISHED[name])))
    assert found == pytest.approx(count, rel=tolerance, abs=0)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("openai/clip-vit-base-patch32", 151_277_313),
        ("openai/clip-vit-large-patch14", 427_616_513),
        ("openai/clip-vit-large-patch14-336", 427_944_193),
        ("google/siglip2-base-patch16-224", 375_187_970),
        ("google/siglip2-so400m-patch14-384", 1_136_008_498),
    ],
)
def test_parameters_of_dual_encoders(name, count):
    """Tensors of the files on the Hub, which also hold the scale and the bias of scores."""
    found = sum(leaf.size for leaf in jax.tree.leaves(dual_encoders.shapes(PUBLISHED_TOWERS[name])))
    scores = 2 if "siglip" in name else 1
    assert found + scores == count


def test_the_papers_table_says_the_same():
    model = parse(TrainConfig, load_recipe(RECIPE, "video8")).model
    assert model.x_encoder == dataclasses.replace(PUBLISHED["vjepa2-vitl"], num_frames=8)
    last_half = {"first_layer": 8, "num_layers": 8, "causal": False}
    assert model.predictor == dataclasses.replace(PUBLISHED["llama-3.2-1b"], **last_half)
    assert model.y_encoder == PUBLISHED["embeddinggemma-300m"]

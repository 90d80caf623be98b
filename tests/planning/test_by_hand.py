"""What the counted arithmetic of the 1B model's stages is by the usual formulas, by hand.

6 N a token for what is trained (forward, gradient of the input, gradient of the weights), 2 N for
what is frozen, and for attention 4 t^2 d a layer forward, three times that where it is trained.
"""

from pathlib import Path

import pytest

from vljepa_jax.config import TrainConfig, load_recipe, parse
from vljepa_jax.training.flops import model_flops

RECIPE = Path(__file__).parents[2] / "configs/vljepa_1b.py"

# stage: rows of the batch, visual tokens, query tokens, target tokens
STAGES = {
    "image": (24_576, 256, 16, 128),
    "video8": (12_288, 1024, 16, 512),
    "video32": (12_288, 4096, 16, 512),
    "sft": (3072, 2048, 512, 512),
}


def by_hand(rows, visual, query, target):
    """FLOPs of a step; every size is written out from the published models."""
    # V-JEPA 2 ViT-L, frozen: 24 layers of width 1024, MLP 4096; tubelets of 2 x 16 x 16 x 3.
    x_layer = 4 * 1024**2 + 2 * 1024 * 4096
    x = 2 * visual * (1536 * 1024 + 24 * x_layer) + 24 * 4 * visual**2 * 1024
    # Its tokens have no gradient: the projection takes the forward pass and that of its weights.
    projection = 4 * visual * 1024 * 2048
    # The last 8 layers of Llama-3.2-1B: width 2048, 512 of keys and of values, MLP 8192, gated.
    tokens = visual + query
    layer = 2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 8192
    predictor = 8 * (6 * layer * tokens + 12 * tokens**2 * 2048) + 6 * 2048 * 1536
    # EmbeddingGemma: 24 layers of width 768, 256 of keys and of values, MLP 1152, gated; 2 dense.
    layer = 2 * 768**2 + 2 * 768 * 256 + 3 * 768 * 1152
    y = 24 * (6 * layer * target + 12 * target**2 * 768) + 6 * (2 * 768 * 3072 + 768 * 1536)
    # Every prediction with every target, in two directions, each of three products.
    loss = 12 * rows**2 * 1536
    return rows * (x + projection + predictor + y) + loss


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_of_the_1b_model_has_the_flops_of_the_formulas(stage):
    counted = model_flops(parse(TrainConfig, load_recipe(RECIPE, stage)))
    wanted = by_hand(*STAGES[stage])
    print(f"{stage}: {counted:.5g} counted, {wanted:.5g} by hand: {counted / wanted - 1:+.2%}")
    assert counted == pytest.approx(wanted, rel=1e-3)

"""Names of a model's parts among the top-level parameters, whatever objective has them.

So a run can take a part from a run of another objective (``checkpoint.initial_state``).
"""

from __future__ import annotations

# Pretrained apart: each is converted, exported and published as a directory of its own.
BACKBONES = ("x_encoder", "predictor", "y_encoder", "y_decoder")
Y_DECODER = ("y_prefix", "y_token_embedding", "y_decoder")

PARTS = {
    "x_encoder": ("x_encoder",),
    "y_encoder": ("y_encoder", "y_head"),
    "vljepa": (
        "x_encoder",
        "vision_projection",
        "token_embedding",
        "predictor",
        "predictor_head",
        "y_encoder",
        "y_head",
        "log_logit_scale",
    ),
    "y_decoder": Y_DECODER,
}

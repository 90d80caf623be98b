"""The token-space baseline of the demo: a VLM that writes the answer (paper 4.5).

It differs from ``configs/demo.py`` in model and loss alone: all layers of the language model in
place of its last half, with their causal mask over visual tokens and text (PerceptionLM), trained
by the cross-entropy of the target's tokens and of its end. Start it from the bundled backbones:

    python launch/convert.py --config=configs/vlm.py --x_encoder=@bundled --predictor=@bundled \\
        --output=runs/vlm_start
    python launch/train.py --config=configs/vlm.py --workdir=runs/vlm \\
        --config.init_from=runs/vlm_start:params
"""

from ml_collections import ConfigDict

from configs import common, demo, models


def get_config() -> ConfigDict:
    recipe = demo.get_config()
    recipe.evaluations = ()  # those of the demo compare embeddings
    return in_token_space(recipe, models.language_model(), end_token="[EOS]")


def in_token_space(vljepa: ConfigDict, language_model: ConfigDict, *, end_token: str) -> ConfigDict:
    """The VLM that is compared with a VL-JEPA: of its recipe all but model, loss and rates.

    Args:
        vljepa: the recipe; it is left as it is.
        language_model: all layers of the language model, causal.
        end_token: of the query's tokenizer, which reads and writes all texts here.
    """
    config = vljepa.copy_and_resolve_references()
    # Assigned anew, as a locked field does not change its type.
    with config.unlocked():
        config.objective = "vlm"  # write the target text, token by token
        config.init_from = ""  # from backbones, as launch/convert.py puts them together
        config.model = ConfigDict(
            {
                "x_encoder": vljepa.model.x_encoder,  # frozen, as the VL-JEPA's
                "predictor": language_model,
                "dtype": vljepa.model.dtype,
                "remat": vljepa.model.remat,
                "unroll_layers": vljepa.model.unroll_layers,
            }
        )
        config.loss = None  # cross-entropy
        text = vljepa.data.text
        config.data.text = ConfigDict(
            {
                "tokenizer": text.query_tokenizer,
                "query_length": text.query_length,
                "target_length": text.target_length,
                "end_token": end_token,
            }
        )
    config.optimizer.rules = (
        common.rule(r"^x_encoder/", frozen=True),
        # Norms, biases and the words are not drawn towards zero.
        common.rule(r"norm|bias$|embedding$", weight_decay_multiplier=0.0),
        common.rule(r".*"),  # layers, table of words and projection
    )
    return config

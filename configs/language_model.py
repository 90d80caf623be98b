"""The language model whose last layers the small predictor starts from: Llama's architecture.

Its texts are the captions of a clip, then questions about it that these captions answer. So it
arrives with what a predictor needs, to find what a question names in its context. The texts are of
the clips that the X-Encoder learns from (configs/x_encoder.py), with no held-out (object, motion)
pair and in no held-out phrasing.

    :causal  predicts the next token
    (none)   goes on with mean-pooled bidirectional steps among the causal ones: the last half of
             the layers works as a predictor will, every token attends to every other, the context
             is a token a clause, as a video's tokens would be, and the mean over the question's
             tokens predicts the answer; starts from the first stage's parameters
             (--config.init_from=DIR:params)

``make backbones`` runs both; docs/backbones.md has what they reach.
"""

from ml_collections import ConfigDict

from configs import common, models


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "causal"):
        raise ValueError(f"no variant '{variant}': there are 'causal' and none")
    causal = variant == "causal"
    config = common.run(
        objective="language_model",  # the next token, or an answer from the question's mean
        steps=2_600 if causal else 1_000,
        batch_size=32 if causal else 64,  # clips
        log_every=20,
        seed=0 if causal else 1,
    )
    # As configs/x_encoder.py's, and no other recipe's.
    config.world = common.backbone_world(seed=101, clips=24_000)
    config.model = ConfigDict(
        {
            # All layers; a predictor takes the last two.
            "predictor": models.language_model(),
            # That a causal step leaves out the first half of the layers: the demo's predictor is
            # the last half, which has to know bare words.
            "skip_probability": 0.5,
            # That in a step the last half of the layers works as a predictor does.
            "bidirectional_probability": 0.0 if causal else 0.85,
            # Tokens of the context there, each the sum of a clause's words.
            "context_length": 16,
            **models.ON_CPU,
        }
    )
    config.data = ConfigDict(
        {
            "sources": (
                common.source("@world", {"caption": 0.5, "classification": 1.0, "vqa": 2.0}),
            ),
            "video": None,  # text alone
            "text": {
                "tokenizer": "@world",  # ships with the package
                "per_clip": 4,  # questions, with their answers
                # Captions first: what the questions ask can be read.
                "context": common.captions_context(),
                "length": 96,  # tokens of all that; longer texts are cut
                "query_length": 16,  # tokens of one question
                "answer_length": 24,  # tokens of one answer
            },
            "num_workers": 0,  # a thread is enough for text
            "visual_tokens": "none",
        }
    )
    config.optimizer = common.adamw(
        learning_rate=2e-3 if causal else 1e-3,
        warmup_steps=100,
        beta2=0.98,
        weight_decay=0.05,
        rules=(
            # The X-Encoder's tokens learn to mean the words of the first stage.
            *(() if causal else (common.rule(r"^token_embedding/", frozen=True),)),
            # Norms and the words are not drawn towards zero.
            common.rule(r"norm|embedding$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )
    config.sharding = common.text_sharding()
    config.checkpoint = common.checkpoint(every=400)
    return config

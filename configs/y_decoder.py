"""The Y-Decoder of the demo: embeddings of the small VL-JEPA -> text, in a minute on a laptop.

    (none)      learns from text alone to invert the frozen Y-Encoder, with noise on the embedding;
                starts from both (--config.init_from=VLJEPA:y_encoder,Y_DECODER:y_decoder)
    :predicted  goes on with the VL-JEPA's predictions for training clips in place of noise; starts
                from the run before (--config.init_from=VLJEPA:vljepa,Y_DECODER:y_decoder)

It starts from the language model that comes with the package (docs/decoding.md has the commands,
how the level of the noise was chosen, and what the two variants reach).
"""

from ml_collections import ConfigDict

from configs import common, demo, models


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "predicted"):
        raise ValueError(f"no variant '{variant}': there are 'predicted' and none")
    text_alone = variant == ""
    vljepa = demo.get_config()  # whose embeddings are decoded
    config = common.run(
        objective="y_decoder",  # write the text whose embedding is shown
        steps={"": 200, "predicted": 130}[variant],
        batch_size=32,  # texts
    )
    config.world = vljepa.world
    config.model = ConfigDict(
        {
            "vljepa": vljepa.model,  # frozen
            # The last half of the language model that comes with the package, as in the predictor.
            "y_decoder": models.language_model(first_layer=2, num_layers=2),
            "prefix_tokens": 4,  # made from an embedding, before the first token of the text
            # Largest length of the Gaussian noise on the unit embedding. Little: this decoder
            # learns to read, and :predicted then shows it the gap. Without that, take what
            # launch/noise.py measures.
            "noise": {"": 0.5, "predicted": 0.0}[variant],
            **models.ON_CPU,
        }
    )
    config.data = ConfigDict(
        {
            "sources": (
                common.source("@world", {"caption": 4.0, "classification": 1.0, "vqa": 1.0}),
            ),
            "video": None if text_alone else vljepa.data.video,
            "text": {
                "embedded": vljepa.data.text,
                "tokenizer": "@world",  # of the decoder
                "length": 36,  # tokens, the end token included; longer texts are cut
                "end_token": "[EOS]",
            },
            "num_workers": 0 if text_alone else 1,  # decoding processes; text takes a thread
            "visual_tokens": "none" if text_alone else "cache",
        }
    )
    config.optimizer = common.adamw(
        learning_rate={"": 3e-3, "predicted": 1e-3}[variant],
        warmup_steps=10,
        beta2=0.98,
        weight_decay=0.05,
        rules=common.y_decoder_rules(prefix_lr_multiplier=3.0),
    )
    config.sharding = common.vljepa_sharding()
    config.checkpoint = common.checkpoint(every=200)
    return config

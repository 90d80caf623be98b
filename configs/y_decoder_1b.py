"""A Y-Decoder for the paper's VL-JEPA (configs/vljepa_1b.py): its embeddings -> text.

The paper (2.1) describes it in a line, so that all of this is ours. It learns from text alone to
invert the frozen Y-Encoder, and starts from Llama-3.2-1B whole, whose last layers the predictor
started from too:

    python launch/convert.py --config=configs/y_decoder_1b.py --y_decoder=weights/llama-3.2-1b \\
        --output=weights/y_decoder_1b
    python launch/train.py --config=configs/y_decoder_1b.py --workdir=runs/vljepa_1b_sft/y_decoder

    :predicted  goes on with the VL-JEPA's predictions for training clips in place of noise

Paths below datasets/, weights/ and runs/ are for you to set. The sizes are the published ones; the
learning rates, steps and the noise have not been tried at this size (launch/noise.py measures the
noise that a VL-JEPA asks for).
"""

from ml_collections import ConfigDict

from configs import common, models, vljepa_1b


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "predicted"):
        raise ValueError(f"no variant '{variant}': there are 'predicted' and none")
    text_alone = variant == ""
    vljepa = vljepa_1b.get_config("sft")  # whose embeddings are decoded
    config = common.run(
        objective="y_decoder",  # write the text whose embedding is shown
        steps={"": 50_000, "predicted": 5_000}[variant],
        batch_size=512,  # texts
        log_every=20,
    )
    config.init_from = {
        "": "runs/vljepa_1b_sft:y_encoder,weights/y_decoder_1b:y_decoder",
        "predicted": "runs/vljepa_1b_sft:vljepa,runs/vljepa_1b_sft/y_decoder:y_decoder",
    }[variant]
    config.world = vljepa.world
    config.model = ConfigDict(
        {
            "vljepa": vljepa.model,  # frozen
            # As published; the predictor is its last half.
            "y_decoder": models.published("llama-3.2-1b"),
            "prefix_tokens": 8,  # made from an embedding, before the first token of the text
            # Largest length of the Gaussian noise on the unit embedding; measure it for your
            # VL-JEPA.
            "noise": {"": 1.0, "predicted": 0.0}[variant],
            "dtype": "bfloat16",  # of the decoder's computation
            "remat": "full",  # a layer's activations are computed again in the backward pass
            "unroll_layers": False,  # one compiled layer serves the stack
        }
    )
    config.data = ConfigDict(
        {
            # The texts of the fine-tuning stage.
            "sources": (
                common.source("datasets/action100m", {"caption": 1.0}, weight=10.0),
                common.source("datasets/plm_captions", {"caption": 1.0}, weight=2.8),
                common.source("datasets/plm_vqa", {"vqa": 1.0}, weight=2.5),
                common.source("datasets/plm_classification", {"classification": 1.0}, weight=1.8),
            ),
            "video": None
            if text_alone
            else common.fixed_video(
                frames=vljepa.data.video.frames, image_size=vljepa.data.video.image_size
            ),
            "text": {
                "embedded": vljepa.data.text,
                "tokenizer": vljepa.data.text.query_tokenizer,  # of the decoder: Llama's too
                "length": 128,  # tokens, the end token included; longer texts are cut
                "end_token": "<|end_of_text|>",
            },
            "num_workers": 4 if text_alone else 16,  # decoding processes on each host
            "visual_tokens": "none" if text_alone else "compute",
        }
    )
    config.optimizer = common.adamw(
        learning_rate={"": 5e-5, "predicted": 1e-5}[variant],
        warmup_steps=500,
        beta2=0.95,
        weight_decay=0.05,
        rules=common.y_decoder_rules(prefix_lr_multiplier=10.0),
    )
    # Ours: copies on all devices. fsdp divides parameters, gradients and Adam's moments.
    config.sharding = common.vljepa_sharding()
    config.checkpoint = common.checkpoint(every=1000, keep=2)
    return config

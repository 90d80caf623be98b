"""A VL-JEPA of open parts, all under Apache-2.0 or MIT, none behind a form: docs/open_model.md.

    :small    V-JEPA 2.1 ViT-B, the last 15 of SmolLM2-135M's 30 layers, all-MiniLM-L6-v2
    :base     V-JEPA 2 ViT-L, the last 16 of SmolLM2-360M's 32 layers, Qwen3-Embedding-0.6B
    :large    the same with the last 12 of SmolLM2-1.7B's 24 layers

Each is trained in stages, a variant a stage; what has no suffix is the last of the model itself:

    :small_captions               query-free captions of images, after launch/convert.py --align
    :small                        questions, with captions beside them
    :small_y_decoder              text from the Y-Encoder's embeddings, by SmolLM2 whole
    :small_y_decoder_predicted    goes on with the VL-JEPA's predictions

and likewise :base_captions and so on. Paths below datasets/, weights/ and runs/ are for you to set.
In the comments, "3.2" is a section of the paper; all else is ours. The sizes are the published
ones; learning rates, steps and mixtures follow the paper's proportions and have not been tried at
full length.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import common, models


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the models."""

    x_encoder: str  # names of config/published_sizes.py
    predictor: str
    first_layer: int  # of the language model's second half, from which the predictor starts
    y_encoder: str
    x_weights: str  # directories below weights/
    predictor_weights: str
    y_weights: str
    embedding_size: int
    frames: int


SIZES = {
    "small": Size(
        x_encoder="vjepa2.1-vitb",
        predictor="smollm2-135m",
        first_layer=15,
        y_encoder="all-minilm-l6-v2",
        x_weights="vjepa2.1-vitb",
        predictor_weights="smollm2-135m",
        y_weights="all-minilm-l6-v2",
        embedding_size=512,  # ours: --align needs at most the predictor's width
        frames=8,
    ),
    "base": Size(
        x_encoder="vjepa2-vitl",
        predictor="smollm2-360m",
        first_layer=16,
        y_encoder="qwen3-embedding-0.6b",
        x_weights="vjepa2-vitl-fpc64-256",
        predictor_weights="smollm2-360m",
        y_weights="qwen3-embedding-0.6b",
        embedding_size=960,  # ours, likewise
        frames=16,
    ),
}
SIZES["large"] = dataclasses.replace(
    SIZES["base"],
    predictor="smollm2-1.7b",
    first_layer=12,
    predictor_weights="smollm2-1.7b",
    embedding_size=1536,  # 3.1
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """What differs between the two stages of the model itself."""

    steps: int
    batch_size: int
    query_length: int
    target_length: int
    schedule: str
    sources: tuple[tuple[str, dict[str, float], float], ...]  # (dataset, tasks, weight)


STAGES = {
    # 118k images with five captions each: some 40 passes over the images.
    "captions": Stage(
        steps=5_000,
        batch_size=1024,
        query_length=16,
        target_length=64,
        schedule="constant",  # 3.2
        sources=(("datasets/coco_captions", {"caption": 1.0}, 1.0),),
    ),
    # 3.2 has ten questions to a caption; here clips, too, come in by their captions.
    "": Stage(
        steps=10_000,
        batch_size=512,
        query_length=64,
        target_length=64,
        schedule="cosine",  # 3.2
        sources=(
            ("datasets/gqa", {"vqa": 1.0}, 2.0),
            ("datasets/tallyqa", {"vqa": 1.0}, 2.0),
            ("datasets/clevr", {"vqa": 1.0}, 1.0),
            ("datasets/coco_captions", {"caption": 1.0}, 2.0),
            ("datasets/vatex", {"caption": 1.0}, 2.0),
        ),
    ),
}
DECODERS = ("y_decoder", "y_decoder_predicted")
VARIANTS = tuple(
    f"{size}_{stage}".rstrip("_") for size in SIZES for stage in ("captions", "", *DECODERS)
)


def get_config(variant: str = "small") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"no variant '{variant}'; there are {', '.join(VARIANTS)}")
    name, _, stage = variant.partition("_")
    return _y_decoder(name, stage) if stage in DECODERS else _vljepa(name, stage)


def _vljepa(name: str, stage_name: str) -> ConfigDict:
    size, stage = SIZES[name], STAGES[stage_name]
    config = common.run(
        objective="vljepa",
        steps=stage.steps,
        batch_size=stage.batch_size,
        log_every=20,
    )
    # 128 rows' activations are held at a time; a step sees the whole batch all the same.
    config.micro_batch_size = 128
    config.init_from = {
        "captions": f"weights/vljepa_open_{name}",  # by launch/convert.py, with --align
        "": f"runs/vljepa_open_{name}_captions",
    }[stage_name]
    config.world = common.world()  # not used: no source is "@world"
    frames = 1 if stage_name == "captions" else size.frames
    config.model = _model(size)
    config.data = ConfigDict(
        {
            "sources": tuple(
                common.source(path, tasks, weight=weight) for path, tasks, weight in stage.sources
            ),
            "video": {
                "frames": frames,
                "image_size": 256,  # 3.1; pixels
                "sampling": "uniform",  # 3.1
                "crop": "random",
                "crop_scale": (0.5, 1.0),  # share of the area
            },
            "text": _text(size, stage),
            "num_workers": 8,  # decoding processes
            "visual_tokens": "compute",  # random crops give other tokens each time
        }
    )
    config.loss = common.info_nce()
    config.optimizer = common.adamw(
        learning_rate=1e-4,
        warmup_steps=200,
        beta2=0.95,
        weight_decay=0.05,
        schedule=stage.schedule,
        rules=(
            common.rule(r"^x_encoder/", frozen=True),  # 3.1
            common.rule(r"^token_embedding/", frozen=True),
            # 3.1: rate x 0.05. Norms and biases are not drawn towards zero.
            common.rule(
                r"^y_encoder/.*(norm|bias$)", lr_multiplier=0.05, weight_decay_multiplier=0.0
            ),
            common.rule(r"^y_encoder/", lr_multiplier=0.05),
            common.rule(r"^log_logit_scale$|norm|bias$", weight_decay_multiplier=0.0),
            common.rule(r".*"),
        ),
    )
    config.sharding = common.vljepa_sharding()
    config.checkpoint = common.checkpoint(every=500, keep=2)
    return config


def _model(size: Size) -> ConfigDict:
    x_encoder = models.published(size.x_encoder)
    x_encoder.num_frames = size.frames
    predictor = models.published(size.predictor)
    predictor.num_layers -= size.first_layer
    predictor.first_layer = size.first_layer
    predictor.causal = False  # 3.1
    return ConfigDict(
        {
            "x_encoder": x_encoder,
            "predictor": predictor,
            "y_encoder": models.published(size.y_encoder),
            "embedding_size": size.embedding_size,
            "pooling": "all",  # 3.1: average over tokens, visual ones too
            "initial_temperature": 0.07,
            "max_logit_scale": 100.0,
            "average_frames": False,
            "dtype": "bfloat16",  # of the computation
            "remat": "full",  # a layer's activations are computed again in the backward pass
            "unroll_layers": False,
        }
    )


def _text(size: Size, stage: Stage) -> ConfigDict:
    return ConfigDict(
        {
            "query_tokenizer": f"weights/{size.predictor_weights}/tokenizer.json",
            "target_tokenizer": f"weights/{size.y_weights}/tokenizer.json",
            "query_length": stage.query_length,
            "target_length": stage.target_length,
            "target_prompt": "",  # no Y-Encoder here puts one before every text
        }
    )


def _y_decoder(name: str, stage: str) -> ConfigDict:
    """SmolLM2 whole, whose last layers the predictor started from, behind a prefix."""
    size, text_alone = SIZES[name], stage == "y_decoder"
    vljepa = _vljepa(name, "")  # whose embeddings are decoded
    run = f"runs/vljepa_open_{name}"
    config = common.run(
        objective="y_decoder",
        steps=10_000 if text_alone else 2_000,
        batch_size=256,  # texts
        log_every=20,
    )
    config.init_from = (
        f"{run}:y_encoder,weights/y_decoder_open_{name}:y_decoder"
        if text_alone
        else f"{run}:vljepa,{run}/y_decoder_text:y_decoder"
    )
    config.world = vljepa.world
    config.model = ConfigDict(
        {
            "vljepa": vljepa.model,  # frozen
            "y_decoder": models.published(size.predictor),
            "prefix_tokens": 8,  # made from an embedding, before the first token of the text
            # Largest length of the Gaussian noise on the unit embedding; launch/noise.py measures
            # what a VL-JEPA asks for.
            "noise": 1.0 if text_alone else 0.0,
            "dtype": "bfloat16",  # of the decoder's computation
            "remat": "full",
            "unroll_layers": False,
        }
    )
    config.data = ConfigDict(
        {
            "sources": vljepa.data.sources,
            "video": None
            if text_alone
            else common.fixed_video(frames=size.frames, image_size=vljepa.data.video.image_size),
            "text": {
                "embedded": vljepa.data.text,
                "tokenizer": vljepa.data.text.query_tokenizer,  # of the decoder: SmolLM2's too
                "length": 64,  # tokens, the end token included; longer texts are cut
                "end_token": "<|endoftext|>",
            },
            "num_workers": 4 if text_alone else 8,  # decoding processes
            "visual_tokens": "none" if text_alone else "compute",
        }
    )
    config.optimizer = common.adamw(
        learning_rate=1e-4 if text_alone else 2e-5,
        warmup_steps=200,
        beta2=0.95,
        weight_decay=0.05,
        rules=common.y_decoder_rules(prefix_lr_multiplier=10.0),
    )
    config.sharding = common.vljepa_sharding()
    config.checkpoint = common.checkpoint(every=500, keep=2)
    return config

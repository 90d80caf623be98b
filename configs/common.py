"""Parts that several recipes share. Each function gives a part of a config, new at each call.

``configs/vljepa_1b.py`` uses none of it: it is the paper's table, whole.
"""

from ml_collections import ConfigDict, config_dict

# ---------------------------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------------------------


def run(
    *, objective: str, steps: int, batch_size: int, log_every: int = 10, seed: int = 0
) -> ConfigDict:
    """The settings that no part of a config has."""
    return ConfigDict(
        {
            "seed": seed,  # of parameters, data order, augmentation, masks and noise
            "objective": objective,
            # DIR[:params|:full|:PART] starts from another run; "" from random parameters
            "init_from": "",
            "steps": steps,
            "batch_size": batch_size,  # global
            "micro_batch_size": 0,  # rows whose activations are held at a time; 0 for all
            "log_every": log_every,  # steps
            "on_non_finite": "stop",  # or "skip": what a non-finite loss does
            "loss": None,  # most objectives know one loss alone
            "evaluations": (),  # benchmarks while it trains, see ``evaluation``
        }
    )


def evaluation(
    *, every: int, benchmarks: tuple[ConfigDict, ...], batch_size: int = 64
) -> ConfigDict:
    return ConfigDict(
        {
            "every": every,  # steps; and after the last one
            "benchmarks": benchmarks,  # on the run's own world, or prepared datasets
            "batch_size": batch_size,  # clips and texts embedded at once
            "num_workers": 0,  # decoding processes; 0 decodes in this one
        }
    )


def checkpoint(*, every: int, keep: int = 1) -> ConfigDict:
    return ConfigDict(
        {
            "every": every,  # steps; what a killed run can lose
            "minutes": 0.0,  # and when so many have passed since the last; 0 for never
            "keep": keep,  # newest ones
            "keep_every": 0,  # beside them, those of every n-th step; 0 for none
            "keep_best": 0,  # and the n best
            # by its mean since the checkpoint before; "eval/NAME" is that of an evaluation
            "best_metric": "loss",
            "best_is": "lowest",  # or "highest"
            "patience": 0,  # checkpoints in a row without a better one that end the run; 0: never
        }
    )


def info_nce() -> ConfigDict:
    """The loss of a VL-JEPA, with the settings of those of other names."""
    return ConfigDict(
        {
            "name": "info_nce",  # or, for ablations, cosine, l1, l2, vic_reg, sig_reg
            # Short answers ("yes") repeat within a batch; equal texts are no negatives.
            "mask_equal_targets": True,
            # The settings of two losses of other names (losses/regression.py).
            "vic_reg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},  # as published
            # LeJEPA's: the weight is the regularisation's share, on so many random directions.
            "sig_reg": {"weight": 0.05, "directions": 1024},
        }
    )


# ---------------------------------------------------------------------------------------------
# The optimiser
# ---------------------------------------------------------------------------------------------


def adamw(
    *,
    learning_rate: float,
    warmup_steps: int,
    beta2: float,
    weight_decay: float,
    rules: tuple[ConfigDict, ...],
    schedule: str | dict[str, int] = "cosine",
) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "schedule": schedule,  # after the warm-up
            "warmup_steps": warmup_steps,
            "beta1": 0.9,
            "beta2": beta2,
            "epsilon": 1e-8,
            "weight_decay": weight_decay,
            "max_grad_norm": 1.0,  # over all trained parameters
            "rules": rules,  # the first one found in a parameter's path counts
        }
    )


def rule(
    pattern: str,
    *,
    frozen: bool = False,
    lr_multiplier: float = 1.0,
    weight_decay_multiplier: float = 1.0,
) -> ConfigDict:
    """An entry of the optimizer's table; the first whose pattern is found counts."""
    return ConfigDict(
        {
            "pattern": pattern,
            "frozen": frozen,
            "lr_multiplier": lr_multiplier,
            "weight_decay_multiplier": weight_decay_multiplier,
        }
    )


def y_decoder_rules(*, prefix_lr_multiplier: float) -> tuple[ConfigDict, ...]:
    """Of a Y-Decoder on a VL-JEPA; ``prefix_lr_multiplier`` is that of the new part of it."""
    return (
        # The VL-JEPA; of text alone, only its Y-Encoder is there.
        rule(r"^(?!y_prefix/|y_token_embedding/|y_decoder/)", frozen=True),
        # Norms, biases and the words are not drawn towards zero.
        rule(r"norm|bias$|embedding$", weight_decay_multiplier=0.0),
        rule(r"^y_prefix/", lr_multiplier=prefix_lr_multiplier),  # new, beside a pretrained decoder
        rule(r".*"),
    )


# ---------------------------------------------------------------------------------------------
# The mesh
# ---------------------------------------------------------------------------------------------


def sharding(*rules: ConfigDict) -> ConfigDict:
    """All devices divide the batch, and each has all parameters; ``rules`` serve other meshes."""
    return ConfigDict(
        {
            # Devices on each axis of the mesh; -1 is all the rest.
            "data": -1,  # rows of the batch; parameters are copied
            "fsdp": 1,  # rows of the batch; parameters are divided
            "tensor": 1,  # inside a layer
            "rules": rules,  # the first one found in a parameter's path counts
        }
    )


def axes(pattern: str, *spec: str | None) -> ConfigDict:
    """A mesh axis, or ``None``, for each dimension; those not named are copied."""
    return ConfigDict({"pattern": pattern, "spec": spec})


def layer_axes(*, gated: bool = True) -> tuple[ConfigDict, ...]:
    """Stacked layers, [layer, in, out]; the MLPs of text models are gated."""
    mlp = "(gate|up)" if gated else "up"
    return (
        axes(rf"layers/(attention/(query|key|value)|mlp/{mlp})/kernel$", None, "fsdp", "tensor"),
        axes(r"layers/(attention/output|mlp/down)/kernel$", None, "tensor", "fsdp"),
    )


def text_sharding() -> ConfigDict:
    """Of a text model that is trained alone."""
    return sharding(
        *layer_axes(),
        axes(r"embedding$", "tensor", "fsdp"),
        axes(r"^log_logit_scale$|norm|class_token$"),  # small: copied
    )


def vljepa_sharding() -> ConfigDict:
    """Of a VL-JEPA, and of a Y-Decoder beside it."""
    return sharding(
        *layer_axes(),
        axes(r"embedding$", "tensor", "fsdp"),
        axes(r"kernel$", "fsdp", "tensor"),
        axes(r"^log_logit_scale$|norm|bias$|class_token$|_modality$"),  # small: copied
    )


# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------


def world() -> ConfigDict:
    """The bundled video world that the small model trains and is evaluated on."""
    return ConfigDict(
        {
            "seed": 0,
            "cache_dir": ".cache/world",
            "train_clips": 5_000,
            "train_triplets": 0,  # texts for training a text encoder alone
            "test_clips": 700,  # of (object, motion) pairs that training shows too
            "compositional_clips": 900,  # of pairs that training never shows
            "streams": 8,  # long scripted videos
            "stream_kind": "procedural",  # as the paper's are
            "stream_density": 0.40,  # events per second (the paper: 143 in 6 minutes)
            "image_size": 96,  # pixels
            "frames": 16,  # of a clip
            "fps": 8,
            "step_streams": 0,  # procedural ones, whose steps are asked for one by one
            "wordings": 0,  # ways to say a sentence, and a motion, in captions; 0 for all
        }
    )


def steps_world() -> ConfigDict:
    """A world of nothing but the steps of procedures: what comes next?"""
    config = backbone_world(seed=7)
    config.step_streams = 8
    return config


def backbone_world(*, seed: int, clips: int = 0, triplets: int = 0) -> ConfigDict:
    """A world of another seed, for a backbone to learn from: it has no test splits."""
    config = world()
    config.seed = seed
    config.train_clips = clips
    config.train_triplets = triplets
    config.test_clips = config.compositional_clips = config.streams = 0
    return config


def source(
    path: str,
    tasks: dict[str, float],
    *,
    weight: float = 1.0,
    tags: dict[str, str] | None = None,
    balanced: bool = False,
) -> ConfigDict:
    return ConfigDict(
        {
            "path": path,  # "@world", or a directory that launch/prepare.py made
            "split": "train",
            "weight": weight,  # share among the sources
            # How often each task is drawn, among those a clip has; {} takes every task that there
            # is, each as often as the others.
            "tasks": tasks,
            "tags": tags or {},  # only annotations with these tags; {} for all
            "limit": 0,  # records that are used, drawn once by the seed; 0 for all
            "max_epochs": 0.0,  # of its records at most; 0 for no end
            "balanced": balanced,  # whether answers to a question, and labels, are equally frequent
        }
    )


def fixed_video(*, frames: int = 8, image_size: int = 80) -> ConfigDict:
    """The same pixels of a clip every time, so that a frozen X-Encoder's tokens can be kept."""
    return ConfigDict(
        {
            "frames": frames,
            "image_size": image_size,  # pixels
            "sampling": "uniform",  # 3.1 of the paper
            "crop": "centre",
            "crop_scale": (1.0, 1.0),  # share of the area; random crops alone use it
        }
    )


# Label sets of the world -> their sizes. Each question is answered from its own set.
LABEL_SETS = {"motions": 14, "objects": 104, "counts": 5, "yes_no": 2, "colours": 6}


def questions() -> ConfigDict:
    """Those that LABEL_SETS answer."""
    return ConfigDict(
        {
            "per_clip": 8,  # questions that share a clip's pass through the X-Encoder
            "query_tokenizer": "@world",  # ships with the package
            "query_length": 16,  # tokens; hardly a question of the world is longer
        }
    )


def captions_context() -> ConfigDict:
    """A clip's captions, clause by clause: the context of the small language model."""
    return ConfigDict(
        {
            # ... where another thing is named
            "clause_break": r"(?:,| and| while| as well as) (?=an? )",
            "clauses": 8,  # of all captions, at most
            "clause_length": 16,  # tokens
        }
    )


# ---------------------------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------------------------

CAPTION_QUERY = "Describe this video in one sentence."  # the paper's, Figure 2


def choose(
    *, k: tuple[int, ...] = (1,), recall: tuple[int, ...] = (), candidates: int = 0
) -> ConfigDict:
    """Open-vocabulary classification, discriminative VQA: the text nearest to the prediction."""
    return ConfigDict(
        {
            "name": "choose",
            "k": k,  # metrics _top1, ...
            "recall": recall,  # metrics _r1, ...: means over classes
            "candidates": candidates,  # the first n alone, and their examples; 0 for all
        }
    )


def yes_no(*, macro: str = "") -> ConfigDict:
    """Metrics _accuracy, _precision, _recall, _f1, _yes_ratio; ``macro`` is a tag to mean over."""
    return ConfigDict({"name": "yes_no", "macro": macro})


def retrieve(
    *, k: tuple[int, ...] = (1, 5), video_to_text: bool = False, median_rank: bool = False
) -> ConfigDict:
    """Text to video: every text is a query, its clip among all clips the answer."""
    return ConfigDict(
        {
            "name": "retrieve",
            "k": k,  # metrics _r1, _r5, ...
            "video_to_text": video_to_text,  # metrics _v2t_r1, ..., too
            "median_rank": median_rank,  # metric _median_rank, too
        }
    )


def match(*, candidate_query: str, k: tuple[int, ...] = (1,)) -> ConfigDict:
    """Which of several clips, asked ``candidate_query``, leads from one image to the other."""
    return ConfigDict({"name": "match", "candidate_query": candidate_query, "k": k})


def triplets(*, macro: str = "") -> ConfigDict:
    """Two paraphrases and a hard negative: the Y-Encoder alone."""
    return ConfigDict({"name": "triplets", "macro": macro})  # a tag: metric _macro, too


def caption(*, bank_split: str = "train", tokens: str = "words") -> ConfigDict:
    """CIDEr of what the model writes, and of the nearest caption of ``bank_split``."""
    return ConfigDict({"name": "caption", "bank_split": bank_split, "tokens": tokens})


def benchmark(
    name: str,
    protocol: ConfigDict,
    *,
    path: str,
    split: str,
    suffix: str = "",
    query: str | None = None,
    limit: int = 0,
    templates: tuple[str, ...] = (),
    expected: int = 0,
    group: str = "",
    sources: dict[str, str] | None = None,
    frames: int = 0,
    window: tuple[float, float] = (0.0, 1.0),
    fit: str = "model",
    **selection: str,
) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,  # of its metrics, e.g. name_top1 + suffix
            "suffix": suffix,
            "protocol": protocol,  # one of the above
            # "@world", a directory that launch/prepare.py made, or "@data/NAME" below config.data
            "path": path,
            "split": split,
            "filter": selection,  # task and tags that an annotation must have
            # None: the annotation's own. Whether or not, a flag may set it.
            "query": config_dict.placeholder(str) if query is None else query,
            "limit": limit,  # first n examples, 0 for all
            # Candidates in words, each with one "{}", whose embeddings are averaged.
            "templates": templates,
            "expected": expected,  # examples of the whole benchmark, 0 where it is not known
            "group": group,  # of a paper's benchmarks
            "sources": sources or {},  # of each choice: who made it
            # How its clips are read. 0 frames: config.frames or, where that is 0, as trained.
            "frames": frames,
            "window": window,  # shares of a clip between which they are taken, at equal distances
            # "short_side", "resize_crop" or "squash": what of a frame becomes the square; "model":
            # what the model was trained to see.
            "fit": fit,
        }
    )

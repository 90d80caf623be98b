"""The controlled comparison (paper 4.5, Figure 3): predicting embeddings against tokens.

    python launch/compare.py --config=configs/comparison.py --workdir=runs/comparison

Sections, for ``--only``:

    primary      VL-JEPA and VLM, three seeds
    rates        the search of the learning rate that both got, on a validation world
    encoder      with an X-Encoder that was never taught to speak to the language model, one seed
    frames       a CLIP-style model: frames one by one, their embeddings averaged; captions alone
    wordings_N   with N ways to say a sentence, and a motion; primary has 7 and 6

Both models see the same clips, queries and wordings in the same order (launch/compare.py refuses
them otherwise). The VL-JEPA's Y-Encoder is frozen, as in the paper, whose targets there are those
of a text autoencoder; so is the head that was put on it in closed form. Its Y-Decoder learns from
the same captions to invert both.

``:paper`` is the comparison at full size, on public datasets, for a cluster.
"""

from ml_collections import ConfigDict

from configs import common, comparison_1b, demo, models, vlm, x_encoder, y_decoder
from configs.eval import paper

STEPS = 192
LIMIT = 120  # examples of each benchmark, on seen and on compositional pairs
# The search of section "rates": halved or doubled until the best is not the last. It goes by the
# sum of CIDEr / 100 and top-5 accuracy (docs/findings.md).
RATES = {"vljepa": (1.25e-4, 2.5e-4, 5e-4, 1e-3), "vlm": (2.5e-4, 5e-4, 1e-3)}
RATE = {"vljepa": 2.5e-4, "vlm": 5e-4}
# Ways to say the same; the argument for embeddings predicts a gap that grows with them.
WORDINGS = (1, 2, 4)
# Paper 3.2: VQA, captions and classification; ours: captions, as they are compared, the most.
TASKS = {"caption": 2.0, "classification": 1.0, "vqa": 1.0}


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "paper"):
        raise ValueError(f"no variant '{variant}': there are 'paper' and none")
    config = ConfigDict()
    config.report = "comparison"
    config.sections = (_paper(),)
    if not variant:
        wordings = map(_wordings, WORDINGS)
        config.sections = (_primary(), _rates(), _encoder(), *wordings, _frames())
    config.data = "data" if variant else ""  # the folder of prepared public datasets
    config.batch_size = 64  # clips and texts evaluated at once
    config.num_workers = 0  # decoding processes of evaluation; 0 decodes in this one
    config.latency = ConfigDict({"repeats": 100, "quick_repeats": 20})  # paper: 100
    return config


# ---------------------------------------------------------------------------------------------
# Sections
# ---------------------------------------------------------------------------------------------
def _primary() -> ConfigDict:
    return _section(
        "primary",
        "Embeddings against tokens",
        (_vljepa_variant(), _vlm_variant()),
        full=_effort((0, 1, 2), (STEPS // 8, STEPS // 4, STEPS // 2, STEPS), limit=LIMIT),
        quick=_effort((0,), (16, 32, 64), limit=100),
    )


def _rates() -> ConfigDict:
    """A third of the steps, on clips of another world, so that no test clip has a say."""
    section = _section(
        "rates",
        "Search of the learning rate",
        tuple(
            make(name=f"{model}_{rate:g}", label=f"{model}, {rate:g}", rate=rate)
            for model, make in (("vljepa", _vljepa_variant), ("vlm", _vlm_variant))
            for rate in RATES[model]
        ),
        full=_effort((0,), (64,), limit=100),
        quick=_effort((0,), (32,), limit=50),
    )
    section.world = common.world()
    section.world.seed = 11  # the training clips of this world are captions to be near to, alone
    section.world.train_clips, section.world.streams = 300, 0
    section.world.test_clips = section.world.compositional_clips = 200
    return section


def _encoder() -> ConfigDict:
    """The box's X-Encoder learnt, in its last stage, to be read by the last layers of the box's
    language model, which both models have. This one has only been asked for labels."""
    pretraining = x_encoder.get_config("single")
    pretraining.steps, pretraining.world.train_clips = 800, 6_000
    start = {"x_encoder": "@section"}
    section = _section(
        "encoder",
        "An X-Encoder that no language model has read",
        (_vljepa_variant(start=start), _vlm_variant(start=start)),
        full=_effort((0,), (STEPS // 8, STEPS // 4, STEPS // 2, STEPS), limit=LIMIT),
        quick=_effort((0,), (16, 32, 64), limit=100),
    )
    section.pretrained = ConfigDict({"x_encoder": pretraining})
    return section


def _wordings(count: int) -> ConfigDict:
    section = _section(
        f"wordings_{count}",
        f"Captions in {count} wording" + "s" * (count > 1),
        (_vljepa_variant(), _vlm_variant()),
        full=_effort((0,), (STEPS // 8, STEPS // 4, STEPS // 2, STEPS), limit=LIMIT),
        quick=_effort((0,), (16, 32, 64), limit=100),
    )
    section.world.wordings = count
    for variant in section.variants:
        variant.train.world.wordings = count
        if variant.y_decoder is not None:
            variant.y_decoder.world.wordings = count
    return section


def _frames() -> ConfigDict:
    """On captions alone, as CLIP is trained; objects and motions are then labels of whole clips."""
    variants = (
        _vljepa_variant(),
        _vljepa_variant("encoded_apart", "frames encoded apart"),
        _vljepa_variant("clip_style", "frames averaged, as CLIP"),
    )
    for variant in variants:
        variant.train.data.sources = (
            common.source("@world", {"caption": 1.0}, tags={"kind": "caption"}),
        )
        variant.y_decoder = None
        if variant.name != "vljepa":
            variant.train.model.x_encoder.frames = "apart"
        variant.train.model.average_frames = variant.name == "clip_style"
    section = _section(
        "frames",
        "What a video is beyond its frames",
        variants,
        full=_effort((0,), (STEPS // 4, STEPS // 2), limit=0),
        quick=_effort((0,), (16,), limit=100),
    )
    section.benchmarks = (
        *_of_captions("test", ""),
        *_of_captions("test_compositional", "_compositional"),
    )
    section.columns = ConfigDict(
        {
            "retrieval": _both("world/t2v_r1"),
            "motion": _both("world/motion_top1"),
            "object": _both("world/object_top1"),
        }
    )
    # The X-Encoder is the same but for what a token is of.
    section.same_data = False
    return section


def _of_captions(split: str, suffix: str) -> tuple[ConfigDict, ...]:
    """Captions, and the labels of clips with one object, asked as captions are."""
    at = {"path": "@world", "split": split, "suffix": suffix}
    alone = {"query": common.CAPTION_QUERY, "task": "classification", "objects": "1"}
    caption = {"task": "caption", "kind": "caption", "phrasing": "seen"}
    return (
        common.benchmark("world/t2v", common.retrieve(), **at, **caption),
        common.benchmark("world/motion", common.choose(), **at, **alone, kind="motion"),
        common.benchmark("world/object", common.choose(), **at, **alone, kind="object"),
    )


def _paper() -> ConfigDict:
    """At full size, on public datasets: for a cluster."""
    llama, pe_core = "weights/llama-3.2-1b", "weights/PE-Core-L-14-336"
    backbones = {"x_encoder": pe_core, "predictor": llama, "y_decoder": llama}
    backbones["y_encoder"] = "weights/embeddinggemma-300m"
    vljepa = _vljepa_variant(start=backbones)
    vljepa.train = comparison_1b.get_config("vljepa")
    vljepa.y_decoder = comparison_1b.get_config("y_decoder")
    language_model = _vlm_variant(start={"x_encoder": pe_core, "predictor": llama})
    language_model.train = comparison_1b.get_config("vlm")
    steps = comparison_1b.STEPS
    section = _section(
        "paper",
        "Embeddings against tokens, at full size",
        (vljepa, language_model),
        # Paper: 0.5M, 5M and 15M samples.
        full=_effort((0,), (steps // 30, steps // 3, steps), limit=0),
        quick=_effort((0,), (100,), limit=100),
    )
    captions = ("youcook2_captions", "msrvtt_captions", "pvd_bench_captions")
    choices = ("crosstask_step", "crosstask_task", "egoexo4d")
    section.world = vljepa.train.world  # not used
    section.benchmarks = tuple(b for b in paper.get_config().benchmarks if b.name in captions)
    for benchmark in paper.get_config().benchmarks:
        if benchmark.name in choices:
            benchmark.protocol.k = (1, 5)
            section.benchmarks = (*section.benchmarks, benchmark)
    section.columns = ConfigDict(
        {
            "cider": tuple(f"{name}_cider" for name in captions),
            "top5": tuple(f"{name}_top5" for name in choices),
        }
    )
    return section


def _section(
    name: str, title: str, variants: tuple[ConfigDict, ...], *, full: ConfigDict, quick: ConfigDict
) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,
            "title": title,
            "pretrained": {},
            "variants": variants,
            "world": common.world(),
            "benchmarks": (
                *benchmarks("test", ""),
                *benchmarks("test_compositional", "_compositional"),
            ),
            # The mean of these, on seen and on compositional pairs alike.
            "columns": {
                "cider": _both("world/caption_cider"),
                "top5": (*_both("world/motion_top5"), *_both("world/object_top5")),
                "vqa": (
                    *_both("world/vqa_what_top1"),
                    *_both("world/vqa_count_top1"),
                    *_both("world/vqa_presence_top1"),
                ),
            },
            "same_data": True,
            "full": full,
            "quick": quick,
        }
    )


def _both(metric: str) -> tuple[str, str]:
    return metric, f"{metric}_compositional"


def _effort(seeds: tuple[int, ...], evaluated: tuple[int, ...], *, limit: int) -> ConfigDict:
    return ConfigDict(
        {"seeds": seeds, "steps": evaluated[-1], "evaluated": evaluated, "limit": limit}
    )


def benchmarks(split: str, suffix: str) -> tuple[ConfigDict, ...]:
    def benchmark(name: str, protocol: ConfigDict, **selection: str) -> ConfigDict:
        return common.benchmark(
            f"world/{name}", protocol, path="@world", split=split, suffix=suffix, **selection
        )

    choose = common.choose
    return (
        benchmark("caption", common.caption(), task="caption", kind="caption", phrasing="seen"),
        benchmark("motion", choose(k=(1, 5)), task="classification", kind="motion"),
        benchmark("object", choose(k=(1, 5)), task="classification", kind="object"),
        benchmark("vqa_what", choose(), task="vqa", kind="what"),
        benchmark("vqa_count", choose(), task="vqa", kind="count"),
        benchmark("vqa_presence", choose(), task="vqa", kind="presence"),
    )


# ---------------------------------------------------------------------------------------------
# The two recipes
# ---------------------------------------------------------------------------------------------
def vljepa_recipe(rate: float = RATE["vljepa"]) -> ConfigDict:
    config = demo.get_config()
    config.data.sources = (common.source("@world", TASKS),)
    config.batch_size = 128  # the paper's
    config.optimizer.learning_rate = rate
    # The Y-Encoder and its head are frozen: targets do not move, and one Y-Decoder serves all.
    frozen = common.rule(r"^x_encoder/|^token_embedding/|^y_encoder/|^y_head/", frozen=True)
    config.optimizer.rules = (
        frozen,
        common.rule(r"^log_logit_scale$|norm|bias$", weight_decay_multiplier=0.0),
        common.rule(r".*"),
    )
    config.evaluations = ()
    return config


def vlm_recipe(rate: float = RATE["vlm"]) -> ConfigDict:
    config = vlm.in_token_space(vljepa_recipe(), models.language_model(), end_token="[EOS]")
    config.optimizer.learning_rate = rate
    return config


def y_decoder_recipe() -> ConfigDict:
    """Learns from the same captions as both, to invert the frozen Y-Encoder."""
    config = y_decoder.get_config()
    config.data.sources = (common.source("@world", {"caption": 1.0}),)
    config.steps = 1_000  # until it writes what it is shown
    # What launch/noise.py measures of this VL-JEPA: predictions are as hard to recognise.
    config.model.noise = 2.4
    return config


def _vljepa_variant(
    name: str = "vljepa",
    label: str = "VL-JEPA",
    rate: float = RATE["vljepa"],
    start: dict[str, str] | None = None,
) -> ConfigDict:
    parts = ("x_encoder", "predictor", "y_encoder", "y_decoder")
    backbones = dict.fromkeys(parts, "@bundled") | (start or {})
    return ConfigDict(
        {
            "name": name,
            "label": label,
            "pretraining": None,
            "train": vljepa_recipe(rate),
            "start": backbones,
            "align": True,
            "y_decoder": y_decoder_recipe(),
            "paper": {"cider": 14.8, "top5": 0.41} if name == "vljepa" else {},  # at 15M samples
        }
    )


def _vlm_variant(
    name: str = "vlm",
    label: str = "VLM",
    rate: float = RATE["vlm"],
    start: dict[str, str] | None = None,
) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,
            "label": label,
            "pretraining": None,
            "train": vlm_recipe(rate),
            "start": dict.fromkeys(("x_encoder", "predictor"), "@bundled") | (start or {}),
            "align": False,
            "y_decoder": None,
            "paper": {"cider": 7.1, "top5": 0.272} if name == "vlm" else {},
        }
    )

"""Every benchmark of the paper on its public data: --config=configs/eval/paper.py[:GROUP].

    python launch/eval.py --config=configs/eval/paper.py:zero_shot --checkpoint=runs/sft --data=data

``--data`` is the folder where ``launch/prepare.py --dataset=NAME --output=DATA/NAME`` wrote each
dataset; a benchmark whose dataset is not there is skipped and named, and one with fewer examples
than it should have is marked as partial. Groups are zero_shot, vqa, world_modeling, text,
captioning and streaming; several stand with "+" between them, and none is all. "query_free" among
them asks of clips what a model was trained on that has seen no queries (the paper's BASE): nothing.

Beside each choice stands who made it: the paper (arXiv 2512.10942), the code or the files of the
benchmark's authors or of others who report on it, or we. docs/benchmarks.md is the table.
"""

from ml_collections import ConfigDict

from configs import common
from configs.eval import streams, world

GROUPS = ("zero_shot", "vqa", "world_modeling", "text", "captioning", "streaming")

# Figure 2 of the paper has these queries, and does not say which benchmark is asked which.
_ACTION = "What is the action shown?"
_DETAIL = "Describe this video in detail."
_FIGURE_2 = "paper: Figure 2"
_ONE_QUESTION = "ours: none; who is fine-tuned for this alone needs none (configs/anticipation.py)"

# Perception Encoder's, for Kinetics-400.
_KINETICS_TEMPLATES = tuple(
    f"a {medium} of {words}{{}}."
    for medium in ("photo", "video", "example", "demonstration")
    for words in (
        "",
        "a person ",
        *(f"a person {verb} " for verb in ("using", "doing", "during", "performing", "practicing")),
    )
)

# How the clips of all benchmarks are read, and who says so. The paper says nothing of frames and
# crops in its evaluations; what benchmarks' authors do belongs to the models that they evaluated.
_READ = {
    "frames": 0,  # as the model was trained; config.frames sets them for all
    "window": (0.0, 1.0),  # of the clip: all of it
    "fit": "model",  # the centre, or the whole squashed
}
_CLIPS = {
    "frames": "ours: as the model was trained (frames)",
    "sampling": "paper: uniform, the centres of equal spans of the clip (window)",
    "crop": "official: the X-Encoder's own, the centre or the whole squashed (fit)",
}


def get_config(variant: str = "") -> ConfigDict:
    groups = [name for name in variant.split("+") if name]
    query_free = "query_free" in groups
    groups = [name for name in groups if name != "query_free"]
    if unknown := [name for name in groups if name not in GROUPS]:
        raise ValueError(f"no group '{unknown[0]}': there are {', '.join(GROUPS)}; and query_free")
    config = ConfigDict()
    config.data = ""  # the folder of the datasets: --data
    config.step = 0  # of the run's checkpoint; 0: the newest
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 32  # clips and texts embedded at once
    config.num_workers = 0  # decoding processes; 0 decodes in this one
    config.world = None
    config.stream = None if groups and "streaming" not in groups else _streaming()
    config.benchmarks = tuple(
        benchmark
        for benchmark in (*_zero_shot(), *_vqa(), *_world_modeling(), *_text(), *_captioning())
        if not groups or benchmark.group in groups
    )
    for benchmark in config.benchmarks if query_free else ():
        if benchmark.query is not None:
            benchmark.query = ""
            benchmark.sources.query = "paper: BASE was trained without; ours: evaluated so, too"
    return config


def _zero_shot() -> tuple[ConfigDict, ...]:
    narrations = (
        "official: LaViLa's, the mean over all narrations of an action, of 3,806 actions;"
        " ours: 3,806, not the 3,568 of training"
    )
    own_words = "ours: the class in its dataset's words, without a template"
    random = "ours: all that is annotated; the official code draws its test videos at random"
    return (
        _classify("ssv2", "ssv2", "validation", 24_777, labels=own_words),
        _classify("ek100", "epic_kitchens_100", "validation", 9_668, labels=narrations),
        _classify("egoexo4d", "egoexo4d_keysteps", "val", 0, labels=own_words),
        _classify("kinetics400", "kinetics_400", "val", 19_796, labels=own_words),
        _classify(
            "kinetics400",
            "kinetics_400",
            "val",
            19_796,
            suffix="_ensemble",
            templates=_KINETICS_TEMPLATES,
            labels="official: Perception Encoder's 28 templates, whose embeddings are averaged",
        ),
        _classify("coin_step", "coin_step", "testing", 0, labels=own_words),
        _classify("coin_task", "coin_task", "testing", 2_797, labels=own_words),
        _classify(
            "crosstask_step",
            "crosstask_step",
            "all",
            0,
            labels=own_words,
            split_source=random,
        ),
        _classify(
            "crosstask_task",
            "crosstask_task",
            "all",
            2_750,
            labels=own_words,
            split_source=random,
        ),
        # Not among the eight of the paper's average.
        _classify(
            "imagenet",
            "imagenet",
            "val",
            50_000,
            query="What is shown in this image?",
            query_source="ours: Figure 2 has none for images",
            templates=("a photo of a {}.",),
            labels="paper: one prompt, no ensemble; ours: its words, CLIP's",
        ),
        _retrieve("msrvtt", "msrvtt_1ka", "test", 1_000),
        _retrieve("activitynet", "activitynet", "val_1", 4_917),
        _retrieve("didemo", "didemo", "test_1004", 1_004),
        _retrieve("msvd", "msvd", "test", 670, texts="official: every caption is a query"),
        _retrieve("youcook2", "youcook2", "validation", 3_350),
        _retrieve("pvd_bench", "pvd_bench", "test", 0, texts="official: the human's caption"),
        _retrieve("dream1k", "dream_1k", "test", 1_000),
        _retrieve("vdc1k", "vdc_1k", "test", 1_027, texts="ours: detailed_caption, of five"),
    )


def _vqa() -> tuple[ConfigDict, ...]:
    gqa = "ours: the 1,842 answers of training and validation, LXMERT's list"
    counts = "ours: 0 to 15"
    yes_no = "official: yes and no"
    readings = "ours: the official text does not say whether both images count; both are given"
    tallyqa = "paper: simple and complex, pooled by their sizes; official: both alone"
    return (
        _answer("gqa", "gqa", "testdev", 12_578, labels=gqa),
        _answer("tallyqa", "tallyqa", "test", 38_589, labels=counts, aggregation=tallyqa),
        _answer("tallyqa", "tallyqa", "test", 22_991, labels=counts, subset="simple"),
        _answer("tallyqa", "tallyqa", "test", 15_598, labels=counts, subset="complex"),
        _answer(
            "pope",
            "pope",
            "test",
            9_000,
            protocol=common.yes_no(macro="subset"),
            labels=yes_no,
            aggregation="paper: the mean of the three settings",
        ),
        *(
            _answer(
                "pope", "pope", "test", 3_000, protocol=common.yes_no(), labels=yes_no, subset=name
            )
            for name in ("random", "popular", "adversarial")
        ),
        _answer("popev2", "popev2", "test", 1_000, labels=yes_no, aggregation=readings),
        _answer(
            "popev2",
            "popev2",
            "test",
            500,
            labels=yes_no,
            aggregation=readings,
            view="counterfactual",
        ),
        _answer(
            "clevr",
            "clevr",
            "val",
            149_991,
            labels="ours: the 28 answers that the official generator gives",
        ),
    )


def _world_modeling() -> tuple[ConfigDict, ...]:
    return (
        _benchmark(
            "worldprediction_wm",
            common.match(candidate_query=_ACTION),
            "worldprediction_wm",
            "test",
            825,
            group="world_modeling",
            query=_ACTION,
            task="state",
            query_source="ours: the paper does not say; candidates are asked the same",
            metric="paper: top-1 of four clips, by the states before and after",
        ),
        *(
            _anticipate(seconds, candidates, count, suffix)
            for candidates, count, suffix in ((3_568, 9_296, ""), (0, 9_668, "_all"))
            for seconds in (1, 2, 4, 10)
        ),
        _benchmark(
            "coin_next_step",
            common.choose(k=(1, 5)),
            "coin_next_step",
            "testing",
            0,
            group="world_modeling",
            task="classification",
            query_source=_ONE_QUESTION,
            labels="ours: the steps of all videos, not of the split alone",
            metric="official: VideoLLM-online's accuracy, from one step to the next",
        ),
    )


def _anticipate(seconds: int, candidates: int, count: int, suffix: str) -> ConfigDict:
    labels = {
        3_568: "official: V-JEPA 2's, the actions of training; 372 items of others are left out",
        0: "official: RULSTM's, the 3,806 actions of training and validation",
    }[candidates]
    return _benchmark(
        f"ek100_anticipation_{seconds}s",
        common.choose(k=(1, 5), recall=(5,), candidates=candidates),
        "epic_kitchens_100_anticipation",
        "validation",
        count,
        group="world_modeling",
        suffix=suffix,
        task="classification",
        selection={"tau": str(seconds)},
        query_source=_ONE_QUESTION,
        labels=labels,
        span="official: 4 s that end so long before the action begins",
        metric="official: recall at 5, the mean over the actions that occur",
    )


def _text() -> tuple[ConfigDict, ...]:
    subsets = {
        "sugarcrepe_pp": {
            "replace_att": 788,
            "replace_obj": 1_652,
            "replace_rel": 1_406,
            "swap_att": 666,
            "swap_obj": 245,
        },
        "visla": {"generic": 973, "spatial": 640},
    }

    def triplets(name: str, count: int, macro: str = "", subset: str = "") -> ConfigDict:
        return _benchmark(
            name,
            common.triplets(macro=macro),
            name,
            "test",
            count,
            group="text",
            task="triplet",
            suffix=f"_{subset}" if subset else "",
            selection={"subset": subset} if subset else {},
            metric="official: both positives strictly nearer to one another than to the negative",
            aggregation="paper: its table has the mean over subsets; its text says micro",
        )

    return tuple(
        benchmark
        for name, counts in subsets.items()
        for benchmark in (
            triplets(name, sum(counts.values()), macro="subset"),
            *(triplets(name, count, subset=subset) for subset, count in counts.items()),
        )
    )


def _captioning() -> tuple[ConfigDict, ...]:
    def caption(name: str, dataset: str, split: str, count: int, bank: str) -> ConfigDict:
        return _benchmark(
            f"{name}_captions",
            common.caption(bank_split=bank, tokens="ptb"),
            dataset,
            split,
            count,
            group="captioning",
            query=common.CAPTION_QUERY,
            task="caption",
            query_source=_FIGURE_2,
            metric="paper: CIDEr x 100; official: CIDEr-D of the Treebank's tokens",
            references="ours: those of retrieval, one a clip",
        )

    return (
        caption("youcook2", "youcook2", "validation", 3_350, "train"),
        caption("msrvtt", "msrvtt_1ka", "test", 1_000, ""),
        caption("pvd_bench", "pvd_bench", "test", 0, ""),
    )


def _streaming() -> ConfigDict:
    """Selective decoding (paper 4.6) on the descriptions of Ego-Exo4D's takes."""
    config = world.stream()
    config.rates = streams.RATES
    config.forms = ("averaged", "exact")  # the paper's
    config.window = 2.0
    config.sets = (
        ConfigDict(
            {
                "name": "egoexo4d",
                "path": "@data/egoexo4d_atomic_descriptions",
                "split": "val",
                "tags": {"scenario": ("Bike Repair", "Cooking", "Health")},
                "streams": 0,  # all of them
                "expected": 218,
                "bank_split": "train",
                "sources": {
                    "split": "paper: 218 procedural takes of validation, 6 minutes and 143"
                    " descriptions each; ours: those of three scenarios, as no list is public",
                    "annotators": "ours: each one's description of a take is a stream",
                    "metric": "paper: CIDEr of the text nearest in time to each description, by"
                    " decodings per second from 2.0 to 0.01",
                    "strategies": "paper: evenly spaced, and Ward's clusters of neighbours in time;"
                    " ours: online, too",
                    "window": "ours: 2 s of video an embedding, two of them a second",
                },
            }
        ),
    )
    return config


def _classify(
    name: str,
    dataset: str,
    split: str,
    count: int,
    *,
    query: str = _ACTION,
    query_source: str = _FIGURE_2,
    suffix: str = "",
    templates: tuple[str, ...] = (),
    **sources: str,
) -> ConfigDict:
    return _benchmark(
        name,
        common.choose(k=(1, 5), recall=(1,)),
        dataset,
        split,
        count,
        group="zero_shot",
        suffix=suffix,
        query=query,
        templates=templates,
        task="classification",
        query_source=query_source,
        metric="paper: top-1; official: top-5 and the mean over classes, too",
        **sources,
    )


def _retrieve(name: str, dataset: str, split: str, count: int, **sources: str) -> ConfigDict:
    return _benchmark(
        name,
        common.retrieve(k=(1, 5, 10), video_to_text=True, median_rank=True),
        dataset,
        split,
        count,
        group="zero_shot",
        query=_DETAIL,
        task="caption",
        query_source=_FIGURE_2,
        metric="paper: text to video, R@1; official: equal captions share their videos",
        **sources,
    )


def _answer(
    name: str,
    dataset: str,
    split: str,
    count: int,
    *,
    protocol: ConfigDict | None = None,
    labels: str,
    aggregation: str = "",
    **selection: str,
) -> ConfigDict:
    return _benchmark(
        name,
        protocol or common.choose(),
        dataset,
        split,
        count,
        group="vqa",
        suffix="".join(f"_{value}" for value in selection.values()),
        task="vqa",
        selection=selection,
        query_source="official: the question",
        labels=labels,
        metric="paper: accuracy of the nearest answer; official: exact match",
        **({"aggregation": aggregation} if aggregation else {}),
    )


def _benchmark(
    name: str,
    protocol: ConfigDict,
    dataset: str,
    split: str,
    count: int,
    *,
    group: str,
    task: str,
    query: str | None = None,
    suffix: str = "",
    templates: tuple[str, ...] = (),
    selection: dict[str, str] | None = None,
    query_source: str = "",
    split_source: str = "official: the one that others report on",
    **sources: str,
) -> ConfigDict:
    clips = {} if task == "triplet" else _CLIPS | {"query": query_source}
    benchmark = common.benchmark(
        name,
        protocol,
        path=f"@data/{dataset}",
        split=split,
        suffix=suffix,
        query=query,
        templates=templates,
        expected=count,
        group=group,
        sources={"split": split_source, **clips, **sources},
        **_READ,
    )
    benchmark.filter = ConfigDict({"task": task, **(selection or {})})
    return benchmark

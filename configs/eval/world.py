"""Benchmarks on the held-out splits of the bundled video world.

"test" shows new clips of (object, motion) pairs that training shows too; the metrics on
"test_compositional", of pairs that training never shows, end in "_compositional".
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.step = 0  # of the run's checkpoint; 0: the newest
    config.frames = 0  # taken of a clip; 0: as trained
    config.batch_size = 64  # clips and texts embedded at once
    config.num_workers = 0  # decoding processes; 0 decodes in this one
    # The world that configs/demo.py trains on; its test splits never show a training clip. Set
    # another seed to draw other test clips.
    config.world = common.world()
    config.benchmarks = (
        *_benchmarks("test", ""),
        *_benchmarks("test_compositional", "_compositional"),
    )
    config.stream = stream()
    return config


def stream() -> ConfigDict:
    """Selective decoding (paper 4.6): --benchmarks=stream."""
    return ConfigDict(
        {
            # Kind, events per second, and how many streams of 4 to 6 minutes; the first is the
            # headline. The paper's are procedural, with 143 annotations in 6 minutes. Eight are
            # the fewest that have an interval; configs/eval/streams.py has more, of both kinds.
            "sets": (ConfigDict({"kind": "procedural", "density": 0.40, "streams": 8}),),
            "query": common.CAPTION_QUERY,
            # Seconds of video that an embedding sees: less than most events last (1.6 in the
            # median), though a training clip has two; docs/streaming.md compares both.
            "window": 1.0,
            "ticks_per_second": 2.0,  # embeddings: no rate below can be higher
            # Decodings per second; uniform at 1.0 is the reference. configs/eval/streams.py has
            # the paper's sweep: clips of their own are embedded for each rate, which takes time.
            "rates": (1.0, 0.7, 0.5, 0.35, 0.25, 0.12),
            "change_window": 4.0,  # seconds in which the online segmentation looks for a change
            "change_delay": 1.0,  # seconds that a change must be old for it
            # A segment is decoded from the embedding of its own clip, from the mean of its windows
            # ("averaged") or from its middle window ("exact"): docs/streaming.md compares them.
            "forms": ("clip",),
            "bank_texts": 2_000,  # training texts to choose from where there is no Y-Decoder
        }
    )


def _benchmarks(split: str, suffix: str) -> tuple[ConfigDict, ...]:
    def benchmark(name: str, protocol: ConfigDict, **selection: str) -> ConfigDict:
        return common.benchmark(
            f"world/{name}", protocol, path="@world", split=split, suffix=suffix, **selection
        )

    choose, retrieve = common.choose, common.retrieve
    captions = {"task": "caption", "kind": "caption"}
    return (
        benchmark("motion", choose(), task="classification", kind="motion"),
        benchmark("object", choose(), task="classification", kind="object"),
        # One caption of each meaning; then in words that training never hears.
        benchmark("t2v", retrieve(), **captions, phrasing="seen"),
        benchmark("t2v_held_out_phrasing", retrieve(), **captions, phrasing="held_out"),
        benchmark("vqa_what", choose(), task="vqa", kind="what"),
        benchmark("vqa_count", choose(), task="vqa", kind="count"),
        benchmark("vqa_presence", choose(), task="vqa", kind="presence"),
        benchmark("vqa_colour", choose(), task="vqa", kind="colour"),
        benchmark("vqa_relation", choose(), task="vqa", kind="relation"),
        benchmark("state_match", common.match(candidate_query=common.CAPTION_QUERY), task="state"),
        benchmark("caption", common.caption(), **captions, phrasing="seen"),
        benchmark("triplets", common.triplets(), task="triplet"),
    )

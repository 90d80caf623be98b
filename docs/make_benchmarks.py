"""Writes docs/benchmarks.md from configs/eval/paper.py: python docs/make_benchmarks.py"""

from pathlib import Path

from vljepa_jax.config import (
    DATA,
    BenchmarkConfig,
    EvalConfig,
    StreamStudyConfig,
    load_recipe,
    parse,
)
from vljepa_jax.datasets.command import number
from vljepa_jax.evals.benchmarks import benchmark_name
from vljepa_jax.evals.protocols.registry import make_protocol

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """\
# The paper's benchmarks

This page is made by `python docs/make_benchmarks.py` from what `configs/eval/paper.py` declares.

    python launch/prepare.py --dataset=msrvtt_1ka --root=MSRVTT --output=data/msrvtt_1ka
    python launch/eval.py --config=configs/eval/paper.py:zero_shot --checkpoint=runs/sft --data=data

[docs/datasets.md](datasets.md) says which official files each dataset needs. `--data` is the folder
where the prepared datasets lie, each under its name. A benchmark whose dataset, or split of it, is
not there is skipped and named. Where fewer examples are there than the benchmark has, because media
are absent or `limit` is set, its metrics say so, "partial: 900 of 1,000 examples", in the report
and in `report.json` (`expected`, `missing`). `?` is where no public source gives the number.

Groups are named after the colon, several with "+" between them; none is all. "query_free" among
them, `:zero_shot+query_free`, asks nothing of clips, as a model needs that was trained without
queries.

A metric's name is its benchmark's with an ending, which stands before the name of a part:
`gqa_top1`, `pope_f1_random`, `visla` (without an ending, the share of correct triplets).

- `_topK`: the correct candidate is among the first K.
- `_rK` of classes: the same, as a mean over the classes that occur.
- `_rK` of retrieval: text to video; `_v2t_rK`: video to text; `_median_rank`: of the first correct
  item, from 1.
- `_macro`: a mean over the subsets.
- `_cider`: of what the model writes.

How clips are read are fields of a benchmark, too: `frames`, `window` (the shares of a clip between
which frames are taken, at equal distances) and `fit` (`short_side`, `resize_crop` or `squash`: what
of a frame becomes the square). By default each is the model's. `--config.frames=8` sets the first
for all benchmarks, `--sweep.frames=4,8` evaluates with both numbers, and
`--config.benchmarks[0].fit=squash` squashes the clips of one.

Two rows of the paper are of models that are fine-tuned from SFT, for EPIC-KITCHENS' anticipation
and for COIN's next steps: `configs/anticipation.py:ek100` and `:coin`. Without a variant it does
the same with the bundled world's procedures, on the first halves of eight streams:

    python launch/train.py --config=configs/anticipation.py --workdir=runs/steps \\
        --config.init_from=runs/demo:params
    python launch/eval.py --config=configs/eval/world_steps.py --checkpoint=runs/steps

| second halves, 362 of each, % | chance | the demo's run | fine-tuned, 150 steps |
|---|---|---|---|
| `world/anticipation_r5` | 38.5 | 33.0 | 60.1 (54.6 to 66.1) |
| `world/next_step_top1` | 13.0 | 3.6 | 23.8 (19.7 to 28.4) |

What stands below each table is who made a choice: the paper, an official or a published source of
others, or ours.
"""


def page() -> str:
    """The whole page."""
    config = parse(EvalConfig, load_recipe(ROOT / "configs" / "eval" / "paper.py"))
    groups: dict[str, list[BenchmarkConfig]] = {}
    for benchmark in config.benchmarks:
        groups.setdefault(benchmark.group, []).append(benchmark)
    streams = _streams(config.stream)
    return HEAD + "".join(_group(name, own) for name, own in groups.items()) + streams


def _streams(study: StreamStudyConfig) -> str:
    lines = [
        "\n## streaming\n",
        "`--benchmarks=stream`: how many times fewer decodings, chosen by the embeddings, tell as",
        "much as one a second ([docs/streaming.md](streaming.md)).",
        "",
        "| streams | dataset, split | videos | metrics | query |",
        "|---|---|---|---|---|",
    ]
    for part in study.sets:
        tags = [f"{tag} {' or '.join(values)}" for tag, values in part.tags.items()]
        where = ", ".join([f"`{part.path.removeprefix(DATA)}`", part.split, *tags])
        metrics = "`stream/decoding_reduction`, `stream/online_decoding_reduction`"
        cells = (f"`{part.name}`", where, number(part.expected or None), metrics, study.query)
        lines.append(f"| {' | '.join(cells)} |")
    choices = [f"- {choice}, {who}" for part in study.sets for choice, who in part.sources.items()]
    return "\n".join([*lines, "", *sorted(choices)]) + "\n"


def _group(name: str, benchmarks: list[BenchmarkConfig]) -> str:
    lines = [
        f"\n## {name}\n",
        "| benchmark | dataset, split | examples | metrics | query |",
        "|---|---|---|---|---|",
        *map(_row, benchmarks),
        "",
        *_choices(benchmarks),
    ]
    return "\n".join(lines) + "\n"


def _row(benchmark: BenchmarkConfig) -> str:
    chosen = [f"{tag} {value}" for tag, value in benchmark.filter.items() if tag != "task"]
    where = [f"`{benchmark.path.removeprefix(DATA)}`", benchmark.split, *chosen]
    endings = make_protocol(benchmark).suffixes
    metrics = ", ".join(f"`{ending}`" if ending else "no ending" for ending in endings)
    query = "" if benchmark.filter.get("task") == "triplet" else benchmark.query or "its own"
    cells = (f"`{benchmark_name(benchmark)}`", ", ".join(where), number(benchmark.expected or None))
    return f"| {' | '.join((*cells, metrics, query))} |"


def _choices(benchmarks: list[BenchmarkConfig]) -> list[str]:
    """A line a choice, with the benchmarks that it is of; none where it is of all."""
    made: dict[tuple[str, str], list[str]] = {}
    for benchmark in benchmarks:
        for choice, source in benchmark.sources.items():
            made.setdefault((choice, source), []).append(benchmark_name(benchmark))
    return [
        f"- {choice}, {source}" + ("" if len(names) == len(benchmarks) else f" ({_listed(names)})")
        for (choice, source), names in sorted(made.items(), key=lambda item: item[0][0])
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

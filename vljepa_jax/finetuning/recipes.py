"""The recipes of a fine-tuning, for the model that it starts from and the size of its data."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vljepa_jax.config import (
    EVALUATED,
    BenchmarkConfig,
    CheckpointConfig,
    EvalConfig,
    OptimizerConfig,
    PeriodicEvaluation,
    SourceConfig,
    TextConfig,
    TrainConfig,
    VideoConfig,
    find_recipe,
    load_recipe,
    parse,
)
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.finetuning.splits import TEST, TRAIN, VALIDATION
from vljepa_jax.run_dir import kept_steps, read_metrics

# Each example is seen so often, by batches of at most so many; within these numbers of updates.
_EPOCHS, _LARGEST_BATCH, _FEWEST_STEPS, _MOST_STEPS = 20, 128, 60, 2000
# A Y-Decoder that can write forgets how on few texts: with 42 captions seen 6, 15 and 45 times,
# those of 12 held-out clips scored CIDEr 97, 53 and 37, and 80 before.
_DECODER_EPOCHS = 5
_CHECKPOINTS = 10  # evaluated on the way
_LONGEST_QUESTION = 64  # tokens, as in configs/vljepa_open.py; longer ones are cut
_PATIENCE = 5  # of these without a better one, after which training ends
# Benchmarks of configs/eval/clips.py -> the metric that chooses the checkpoint, the surest first.
_CHOOSING = {
    "clips/classification": "clips/classification_top1",
    "clips/vqa": "clips/vqa_top1",
    "clips/t2v": "clips/t2v_r1",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        data: a table, a folder or a dataset (``tables.open_table``).
        root: where relative paths of media start; ``None`` for the table's folder.
        columns: roles and columns that the user names.
        checkpoint: the VL-JEPA that it goes on from; "" for the package's backbones.
        video: whether the X-Encoder is trained too.
        text: a published text encoder's directory, the Y-Encoder in place of the start's; "" for
            that.
        frames: of a clip; 0 for the start's number.
        image_size: pixels of a frame's side; 0 for the start's.
        steps: updates; 0 for what suits the number of examples.
        held_out: share of the clips to report on; half as many choose the checkpoint.
        seed: of the splits and the training.
        num_workers: decoding processes.
    """

    data: str
    root: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    checkpoint: str = ""
    video: Literal["frozen", "train"] = "frozen"
    text: str = ""
    frames: int = 0
    image_size: int = 0
    steps: int = 0
    held_out: float = 0.2
    seed: int = 0
    num_workers: int = 0


def base_recipe(request: Request, directory: str) -> TrainConfig:
    """configs/finetune.py, as it is written, for the dataset in a directory."""
    endings = (":video" if request.video == "train" else "") + (":text" if request.text else "")
    recipe = load_recipe(find_recipe("finetune"), f"{directory}{endings}")
    return parse(TrainConfig, recipe)


def asked_video(request: Request, video: VideoConfig) -> VideoConfig:
    """The start's clips, of the frames and pixels that the user asks for."""
    return dataclasses.replace(
        video,
        frames=request.frames or video.frames,
        image_size=request.image_size or video.image_size,
    )


def vljepa_recipe(
    request: Request, dataset: Dataset, start: Path, source: TrainConfig
) -> TrainConfig:
    """The training of the VL-JEPA.

    Args:
        start: the run that it starts from.
        source: that run's config.
    """
    recipe = base_recipe(request, dataset.directory)
    steps, batch_size = training_size(_examples(dataset), request.steps)
    sampled = {name: getattr(recipe.data.video, name) for name in ("sampling", "crop")}
    video = dataclasses.replace(
        asked_video(request, source.data.video),
        crop_scale=recipe.data.video.crop_scale,
        **sampled,
    )
    checkpoint, evaluations = _choice(recipe.checkpoint, dataset, max(1, steps // _CHECKPOINTS))
    return dataclasses.replace(
        recipe,
        seed=request.seed,
        init_from=f"{start}:params",
        steps=steps,
        batch_size=batch_size,
        model=source.model,
        data=dataclasses.replace(
            recipe.data,
            video=video,
            text=_fitted(source.data.text, dataset),
            num_workers=request.num_workers,
        ),
        optimizer=_warmed_up(recipe.optimizer, steps),
        checkpoint=checkpoint,
        evaluations=evaluations,
    )


def decoder_recipe(
    variant: Literal["", "predicted"],
    request: Request,
    dataset: Dataset,
    embedded: TrainConfig,
    before: TrainConfig | None,
) -> TrainConfig:
    """The training of a Y-Decoder, without its ``init_from``.

    Args:
        variant: of configs/y_decoder.py.
        embedded: the config of the VL-JEPA whose embeddings are decoded.
        before: of the decoder that goes on; ``None`` for the recipe's.
    """
    recipe = parse(TrainConfig, load_recipe(find_recipe("y_decoder"), variant))
    decoder = recipe if before is None else before
    examples = _examples(dataset)
    _, batch_size = training_size(examples)
    # To invert an encoder takes as long, however few the texts.
    suited = decoder_steps(examples, batch_size) if variant else recipe.steps
    steps = min(request.steps or suited, recipe.steps)
    video = dataclasses.replace(
        embedded.data.video, sampling="uniform", crop="centre", crop_scale=(1.0, 1.0)
    )
    return dataclasses.replace(
        recipe,
        seed=request.seed,
        steps=steps,
        batch_size=min(batch_size, recipe.batch_size),
        optimizer=_warmed_up(recipe.optimizer, steps),
        model=dataclasses.replace(decoder.model, vljepa=embedded.model, noise=recipe.model.noise),
        data=dataclasses.replace(
            recipe.data,
            sources=(SourceConfig(dataset.directory, TRAIN, 1.0, {}, {}),),
            video=video if variant else None,
            text=dataclasses.replace(decoder.data.text, embedded=embedded.data.text),
            num_workers=request.num_workers if variant else 0,
        ),
    )


def evaluation(dataset: Dataset, split: str = TEST) -> EvalConfig:
    """configs/eval/clips.py, with those benchmarks that a split has something for."""
    config = parse(EvalConfig, load_recipe(find_recipe("eval/clips"), dataset.directory))
    tasks = {annotation.task for _, annotation in dataset.annotations(split)}
    chosen = (b for b in config.benchmarks if b.filter["task"] in tasks)
    benchmarks = tuple(dataclasses.replace(b, split=split) for b in chosen)
    return dataclasses.replace(config, benchmarks=benchmarks)


def training_size(examples: int, steps: int = 0) -> tuple[int, int]:
    """(updates, rows of a batch) that suit a number of examples.

    Args:
        steps: as asked for; 0 for those in which each example is seen 20 times, within bounds.
    """
    batch_size = 1 << (min(max(examples, 1), _LARGEST_BATCH).bit_length() - 1)
    suited = round(_EPOCHS * examples / batch_size)
    return steps or min(max(suited, _FEWEST_STEPS), _MOST_STEPS), batch_size


def decoder_steps(examples: int, batch_size: int) -> int:
    """Updates that suit a Y-Decoder that goes on."""
    return max(1, round(_DECODER_EPOCHS * examples / batch_size))


def best_step(run: Path, metric: str) -> int:
    """The kept step with the highest value of a metric, of equals the last.

    Without such values, as where nothing was held out to choose by, the last step.
    """
    steps = kept_steps(run)
    values = {row["step"]: row[metric] for row in read_metrics(run) if metric in row}
    return max(steps, key=lambda step: (values.get(step, float("-inf")), step))


def _fitted(text: TextConfig, dataset: Dataset) -> TextConfig:
    """With room for the longest question and the longest target; the start's was made for others.

    Of targets not for more than the start has: padding to the length of captions is most of what
    an encoder of answers computes.
    """
    questions = {annotation.query for _, annotation in dataset.annotations(TRAIN)}
    asked = Tokenizer(text.query_tokenizer).encode_whole(sorted(questions))
    said = [text.target_prompt + target for target in sorted(_targets(dataset))]
    targets = Tokenizer(text.target_tokenizer).encode_whole(said)
    return dataclasses.replace(
        text,
        query_length=max(text.query_length, min(max(map(len, asked)), _LONGEST_QUESTION)),
        target_length=min(text.target_length, max(map(len, targets))),
    )


def _targets(dataset: Dataset) -> set[str]:
    """What training and its evaluations embed: texts, and candidates."""
    found, sets = set(), set()
    for split in {TRAIN, VALIDATION} & dataset.splits.keys():
        for _, annotation in dataset.annotations(split):
            found.update(annotation.texts)
            if annotation.candidates not in sets:
                sets.add(annotation.candidates)
                found.update(itertools.chain(*dataset.candidates(annotation)))
    return found


def _examples(dataset: Dataset) -> int:
    return sum(1 for _ in dataset.annotations(TRAIN))


def _warmed_up(optimizer: OptimizerConfig, steps: int) -> OptimizerConfig:
    return dataclasses.replace(optimizer, warmup_steps=min(optimizer.warmup_steps, steps // 5))


def _choice(
    checkpoint: CheckpointConfig, dataset: Dataset, every: int
) -> tuple[CheckpointConfig, tuple[PeriodicEvaluation, ...]]:
    """How the checkpoint is chosen: by the split for that, or, without it, the last is."""
    checkpoint = dataclasses.replace(checkpoint, every=every, keep=1)
    benchmarks: Sequence[BenchmarkConfig] = ()
    if VALIDATION in dataset.splits:
        benchmarks = evaluation(dataset, VALIDATION).benchmarks
    by_name = {benchmark.name: benchmark for benchmark in benchmarks}
    chosen = tuple(by_name[name] for name in _CHOOSING if name in by_name)
    if not chosen:
        return checkpoint, ()
    best = EVALUATED + _CHOOSING[chosen[0].name]
    checkpoint = dataclasses.replace(
        checkpoint, keep_best=1, best_metric=best, best_is="highest", patience=_PATIENCE
    )
    return checkpoint, (PeriodicEvaluation(every, chosen, batch_size=32, num_workers=0),)

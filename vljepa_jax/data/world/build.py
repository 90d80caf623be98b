"""Builds the world on first use and finds it again.

A world is a pure function of its ``WorldConfig`` (without ``cache_dir``) and of
``CONTENT_VERSION``, on disk of the ``FORMAT`` of datasets too; every record is one of (seed, split,
kind, index), so that any number of processes makes the same records in the same order.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator

import numpy as np
import rich.progress

from vljepa_jax.config import WorldConfig
from vljepa_jax.data.process_pool import ProcessPool
from vljepa_jax.data.records import Record
from vljepa_jax.data.storage import FORMAT, write_dataset
from vljepa_jax.data.world.annotate import annotate_clip, annotate_state_change
from vljepa_jax.data.world.language import label_sets
from vljepa_jax.data.world.objects import SPRITE_LICENSE
from vljepa_jax.data.world.render import clip_medium, image_medium, render_scene
from vljepa_jax.data.world.scene import draw_cast, draw_scene
from vljepa_jax.data.world.states import CANDIDATES, draw_state_change
from vljepa_jax.data.world.steps import make_steps
from vljepa_jax.data.world.streams import annotate_stream, draw_stream, render_stream
from vljepa_jax.data.world.triplets import SUBSETS, draw_training_triplet, draw_triplet
from vljepa_jax.host import available_cpus

# Raise this whenever the code changes what a config yields: cached worlds are then made anew.
CONTENT_VERSION = 3

_STEPS = ("steps_train", "steps_test")  # the first and the second halves of the same streams
SPLITS = ("train", "test", "test_compositional", "streams", *_STEPS)
_KINDS = ("clip", "state", "triplet", "stream", "step")
_STATE_SHARE, _TRIPLET_SHARE = 4, 4  # one state pair (test triplet) per so many clips

_CHUNK = 16  # records made in a process at a time
_FEW = 256  # fewer records are made in this process: starting others would take longer


@dataclasses.dataclass(frozen=True)
class Task:
    """Names one record."""

    split: str
    kind: str
    index: int

    @property
    def id(self) -> str:
        """Unique in the world."""
        return f"{self.split}-{self.kind}-{self.index:06d}"


def build_world(config: WorldConfig) -> str:
    """The directory of the world's dataset, which is generated where it is not there yet.

    Worlds are written beside their place and moved into it when complete: a killed build leaves
    nothing that looks like a world, and who finds another at work waits for it.
    """
    directory = pathlib.Path(config.cache_dir).expanduser() / fingerprint(config)
    if directory.exists():
        return str(directory)
    tasks = {split: list_tasks(config, split) for split in SPLITS}
    total = sum(map(len, tasks.values()))
    progress = rich.progress.Progress(
        rich.progress.TextColumn("Building the video world"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    processes = available_cpus() if total > _FEW else 1
    built_meanwhile = contextlib.suppress(FileExistsError)  # by another process
    with built_meanwhile, ProcessPool(processes if processes > 1 else 0) as pool, progress:
        bar = progress.add_task("", total=total)
        write_dataset(
            directory,
            {
                split: _advancing(progress, bar, _records(pool, config, tasks[split]))
                for split in SPLITS
                if tasks[split]
            },
            name="world",
            description=f"Bundled video world, {json.dumps(_content(config), sort_keys=True)}",
            labels=label_sets(),
            license=SPRITE_LICENSE,
            wait=True,
        )
    return str(directory)


def fingerprint(config: WorldConfig) -> str:
    """Names what a config yields; equal names mean equal worlds."""
    return hashlib.sha256(json.dumps(_content(config), sort_keys=True).encode()).hexdigest()[:16]


def list_tasks(config: WorldConfig, split: str) -> list[Task]:
    """The records of a split, in order."""
    if split == "streams":
        return [Task(split, "stream", index) for index in range(config.streams)]
    if split in _STEPS:
        return [Task(split, "step", index) for index in range(config.step_streams)]
    clips = {
        "train": config.train_clips,
        "test": config.test_clips,
        "test_compositional": config.compositional_clips,
    }[split]
    counts = {"clip": clips, "state": clips // _STATE_SHARE}
    counts["triplet"] = config.train_triplets if split == "train" else clips // _TRIPLET_SHARE
    return [Task(split, kind, index) for kind, count in counts.items() for index in range(count)]


def make_record(config: WorldConfig, task: Task) -> Record:
    """Makes one record, a pure function of the config's content and the task."""
    return _MAKERS[task.kind](config, task, task_rng(config, task))


def task_rng(config: WorldConfig, task: Task) -> np.random.Generator:
    """The generator of one record's draws; no two records share it."""
    place = (SPLITS.index(task.split), _KINDS.index(task.kind), task.index)
    return np.random.default_rng((config.seed, *place))


def _make_clip(config: WorldConfig, task: Task, rng: np.random.Generator) -> Record:
    cast = draw_cast(rng, unseen=task.split == "test_compositional")
    scene = draw_scene(rng, cast, config.frames, config.fps)
    medium = clip_medium(render_scene(scene, config.image_size), config.fps)
    held_out_phrasing = task.split != "train"
    annotations = annotate_clip(
        scene, task.id, rng, held_out_phrasing=held_out_phrasing, wordings=config.wordings
    )
    return Record(task.id, (medium,), annotations)


def _make_state(config: WorldConfig, task: Task, rng: np.random.Generator) -> Record:
    unseen = task.split == "test_compositional"
    change = draw_state_change(rng, config.frames, config.fps, unseen=unseen)
    happened = render_scene(change.scenes[0], config.image_size)
    media, order = [image_medium(happened[0]), image_medium(happened[-1])], None
    if task.split != "train":
        order = rng.permutation(CANDIDATES)
        for index in order:
            frames = render_scene(change.scenes[index], config.image_size)
            media.append(clip_medium(frames, config.fps))
    return Record(task.id, tuple(media), (annotate_state_change(change, task.id, rng, order),))


def _make_triplet(config: WorldConfig, task: Task, rng: np.random.Generator) -> Record:
    if task.split == "train":
        return Record(task.id, (), (draw_training_triplet(task.id, rng),))
    subset = SUBSETS[task.index % len(SUBSETS)]
    unseen = task.split == "test_compositional"
    return Record(task.id, (), (draw_triplet(task.id, subset, rng, unseen=unseen),))


def _make_stream(config: WorldConfig, task: Task, rng: np.random.Generator) -> Record:
    stream = draw_stream(rng, config.fps, config.stream_kind, config.stream_density)
    medium = clip_medium(render_stream(stream, config.image_size), config.fps)
    return Record(task.id, (medium,), (annotate_stream(stream, task.id, rng),))


def _make_steps(config: WorldConfig, task: Task, rng: np.random.Generator) -> Record:
    del rng  # both halves are of one stream
    rng = task_rng(config, dataclasses.replace(task, split=_STEPS[0]))
    stream = draw_stream(rng, config.fps, "procedural", config.stream_density)
    return make_steps(stream, task.id, config.image_size, train=task.split == _STEPS[0])


_MAKERS = {
    "clip": _make_clip,
    "state": _make_state,
    "triplet": _make_triplet,
    "stream": _make_stream,
    "step": _make_steps,
}


def _content(config: WorldConfig) -> dict:
    content = dataclasses.asdict(config) | {"version": CONTENT_VERSION, "format": FORMAT}
    del content["cache_dir"]
    if config.stream_kind == "poisson":
        del content["stream_kind"]  # worlds from before there was another kind keep their names
    if not config.step_streams:
        del content["step_streams"]  # and those from before there were steps
    if config.wordings == 0:
        del content["wordings"]  # likewise
    return content


# ---------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------
def _records(pool: ProcessPool, config: WorldConfig, tasks: list[Task]) -> Iterator[Record]:
    size = 1 if tasks and tasks[0].kind in ("stream", "step") else _CHUNK
    chunks = (tasks[first : first + size] for first in range(0, len(tasks), size))
    for records in pool.map(functools.partial(_make_records, config), chunks):
        yield from records


def _advancing(
    progress: rich.progress.Progress, bar: rich.progress.TaskID, records: Iterator[Record]
) -> Iterator[Record]:
    for record in records:
        yield record
        progress.advance(bar)


def _make_records(config: WorldConfig, tasks: list[Task]) -> list[Record]:
    return [make_record(config, task) for task in tasks]

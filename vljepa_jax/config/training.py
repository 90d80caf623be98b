"""The settings of data, training and evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from vljepa_jax.config.models import YDecoderConfig
from vljepa_jax.config.objectives import OBJECTIVES, AnyLoss, AnyModel, AnyText, ObjectiveName
from vljepa_jax.config.parsing import ConfigError, described
from vljepa_jax.config.protocols import AnyProtocol
from vljepa_jax.config.video_encoders import Fit, Grid, Preprocessing, XEncoderConfig

WORLD = "@world"  # the path of the bundled video world's dataset
EVALUATED = "eval/"  # before the names of the metrics that a run's evaluations give
DATA = "@data/"  # before the name of a dataset that lies in the folder that a config names


# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """The bundled video world (data/world)."""

    seed: int  # draws the clips; held-out pairs and phrasings do not depend on it
    cache_dir: str  # generated worlds are kept here, one folder per content
    train_clips: int
    train_triplets: int  # text triplets to train a text encoder on
    test_clips: int  # of seen (object, motion) pairs
    compositional_clips: int  # of pairs that training never shows
    streams: int  # long scripted streams
    stream_kind: Literal["procedural", "poisson"]  # data/world/streams.py
    stream_density: float  # events per second
    image_size: int  # pixels
    frames: int  # frames of a clip
    fps: int
    # Procedural streams whose steps are asked for one by one; configs of before have no such field.
    step_streams: int = 0
    # Ways to say a sentence, and to say a motion, that captions are drawn from; 0 for all. Runs of
    # before have no such field.
    wordings: int = 0


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One training source of the mixture."""

    path: str  # a prepared dataset, or "@world" for the bundled world
    split: str
    weight: float  # share of examples, relative to the other sources
    # annotation task -> relative weight; tasks not named are not used. {} takes every task that the
    # split has training examples of, each with weight 1.
    tasks: dict[str, float]
    tags: dict[str, str]  # only annotations with these tags; {} for all
    # Recipes of earlier versions have none of the following.
    limit: int = 0  # records that are used, drawn once by the seed; 0 for all
    max_epochs: float = 0.0  # a run that would see its records more often is refused; 0 for no end
    # Each answer to a question, and each label, as often as the others, however many records it
    # has; what has neither is drawn as ever.
    balanced: bool = False

    def task_weight(self, task: str) -> float:
        """The relative weight of a task; 0 where it is not used."""
        return self.tasks.get(task, 0.0) if self.tasks else 1.0


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    """How X_V becomes an array [frames, height, width, 3]."""

    frames: int
    image_size: int
    sampling: Literal["uniform", "jittered"]  # centres of equal spans, or a random point of each
    crop: Literal["centre", "random"]
    crop_scale: tuple[float, float]  # area share of random crops


@dataclasses.dataclass(frozen=True)
class VideoInput(VideoConfig):
    """All that decides the pixels of X_V: a recipe's settings, and the X-Encoder's family."""

    preprocessing: Preprocessing
    window: tuple[float, float] = (0.0, 1.0)  # shares of a video between which frames are taken


@dataclasses.dataclass(frozen=True)
class DataConfig:
    sources: tuple[SourceConfig, ...]
    video: VideoConfig | None  # None where the objective sees text alone
    text: AnyText  # as the objective has it; None: no text is read
    num_workers: int  # decoding processes of a host; 0 decodes in the training process
    # "cache" stores a frozen X-Encoder's S_V on disk; "none": the objective sees text alone.
    visual_tokens: Literal["compute", "cache", "none"]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Of each source a name for metrics: the last of its path, numbered where two are alike."""
        names = [source.path.rstrip("/").rpartition("/")[2] for source in self.sources]
        return tuple(
            name if names.count(name) == 1 else f"{name}-{index}"
            for index, name in enumerate(names)
        )


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class OptimizerRule:
    """Settings of the parameters whose path matches; the first match counts."""

    pattern: str  # regex, searched in "x_encoder/layers/mlp/up/kernel"
    frozen: bool
    lr_multiplier: float  # multiplies the learning rate
    weight_decay_multiplier: float  # multiplies the weight decay


@dataclasses.dataclass(frozen=True)
class ConstantThenDecay:
    """Constant, then linear to zero over the last steps of the run (V-JEPA 2's cooldown)."""

    decay_steps: int


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    learning_rate: float
    schedule: Literal["constant", "cosine"] | ConstantThenDecay  # after the warm-up
    warmup_steps: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    max_grad_norm: float
    rules: tuple[OptimizerRule, ...]


@dataclasses.dataclass(frozen=True)
class ShardingRule:
    pattern: str
    spec: tuple[str | None, ...]  # a mesh axis, or None, per dimension


@dataclasses.dataclass(frozen=True)
class ShardingConfig:
    data: int  # devices on each mesh axis; one of them may be -1, "all the rest"
    fsdp: int
    tensor: int
    rules: tuple[ShardingRule, ...]


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int  # steps; a checkpoint is due after so many
    keep: int  # newest checkpoints kept
    keep_every: int  # beside them, those of every n-th step; 0 for none
    keep_best: int  # and the n best
    # By this one's mean since the checkpoint before: "loss", or what evaluations give, "eval/NAME".
    best_metric: str
    best_is: Literal["lowest", "highest"]
    # And when so many have passed since the last, by the clock of the first process; 0 for never.
    minutes: float = 0.0  # runs of before have no such field
    # Checkpoints in a row whose best_metric is no better than the best before, after which the run
    # ends; 0 for never. Runs of before have no such field.
    patience: int = 0

    def __post_init__(self) -> None:
        if self.every < 1 or self.minutes < 0 or self.patience < 0:
            raise ConfigError(
                f"checkpoint: every = {self.every} must be at least 1, minutes = {self.minutes} "
                f"and patience = {self.patience} at least 0"
            )
        if self.patience and not self.keep_best:
            raise ConfigError(
                f"checkpoint: patience = {self.patience} ends a run behind its best checkpoint, "
                "which keep_best = 0 does not keep; set keep_best = 1"
            )


@dataclasses.dataclass(frozen=True)
class PeriodicEvaluation:
    """Benchmarks that are run while a model trains; its metrics are logged as "eval/NAME"."""

    every: int  # steps; and after the last one
    benchmarks: tuple[BenchmarkConfig, ...]  # on prepared datasets, or on the run's own world
    batch_size: int
    num_workers: int

    def __post_init__(self) -> None:
        if min(self.every, self.batch_size) < 1:
            raise ConfigError(
                f"evaluations: every = {self.every} and batch_size = {self.batch_size} must be at "
                "least 1"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The config of ``launch/train.py``."""

    seed: int
    objective: ObjectiveName
    # "DIR[:params|:full|:PART]" or "DIR:PART,DIR:PART", of x_encoder, y_encoder, vljepa, y_decoder;
    # "" starts from random parameters
    init_from: str
    steps: int
    batch_size: int  # global
    micro_batch_size: int  # global rows whose activations are held at a time; 0 for all
    log_every: int
    # "stop" ends the run at its last good state; "skip" leaves the batch's update out, and stops
    # where as many in a row are broken as leave no doubt.
    on_non_finite: Literal["stop", "skip"]
    world: WorldConfig
    model: AnyModel  # as the objective has it
    data: DataConfig
    loss: AnyLoss  # None where the objective knows one loss alone
    optimizer: OptimizerConfig
    sharding: ShardingConfig
    checkpoint: CheckpointConfig
    evaluations: tuple[PeriodicEvaluation, ...] = ()  # runs of before have no such field

    def __post_init__(self) -> None:
        name, entry = self.objective, OBJECTIVES[self.objective]
        for field, part, wanted in (
            ("model", self.model, entry.model),
            ("data.text", self.data.text, entry.text),
            ("loss", self.loss, entry.loss),
        ):
            if not isinstance(part, wanted):
                raise ConfigError(
                    f"config: objective '{name}' takes as '{field}' {described(wanted)}, not "
                    f"{described(type(part))}"
                )
        without = [self.data.video is None, self.data.visual_tokens == "none"]
        text_alone = without[0] if entry.sees == "either" else entry.sees == "text"
        if without != [text_alone] * 2:
            raise ConfigError(
                f"config: objective '{name}' "
                + ("sees text alone: 'data.video' is None" if text_alone else "sees video")
                + (" and 'data.visual_tokens' 'none'" if text_alone else ", which data describes")
            )

    @property
    def embedder(self) -> tuple[Any, Any]:
        """(model, data.text) of the embedder; of a Y-Decoder, of the model that it decodes."""
        if isinstance(self.model, YDecoderConfig):
            return self.model.vljepa, self.data.text.embedded
        return self.model, self.data.text

    @property
    def video_input(self) -> VideoInput | None:
        """How clips are read; ``None`` where the objective sees text alone."""
        if self.data.video is None:
            return None
        return VideoInput(**vars(self.data.video), preprocessing=self._x_encoder.preprocessing)

    @property
    def token_grid(self) -> Grid | None:
        """Visual tokens of a clip; ``None`` where the objective sees text alone.

        Raises:
            ConfigError: the X-Encoder cannot take clips of ``data.video``.
        """
        video = self.data.video
        if video is None:
            return None
        return self._x_encoder.token_grid(video.frames, video.image_size, video.image_size)

    @property
    def _x_encoder(self) -> XEncoderConfig:
        return self.embedder[0].x_encoder


# ---------------------------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """One benchmark: which annotations, asked how, scored how."""

    name: str  # metric prefix, e.g. "world/motion"
    suffix: str  # metric suffix, e.g. "_compositional": world/motion_top1_compositional
    protocol: AnyProtocol  # with its parameters
    path: str  # a prepared dataset, "@data/NAME" below config.data, or "@world"
    split: str
    filter: dict[str, str]  # "task" or a tag -> value; all must hold
    query: str | None  # replaces the annotations' own query; None keeps it
    limit: int  # first n examples, 0 for all
    # Those below were not in configs of before.
    # Candidates in words, each with one "{}", whose embeddings are averaged; () leaves them bare.
    templates: tuple[str, ...] = ()
    expected: int = 0  # examples of the whole benchmark, 0 where it is not known
    group: str = ""  # of a paper's benchmarks
    sources: dict[str, str] = dataclasses.field(default_factory=dict)  # of each choice: who made it
    # How its clips are read; by default as the model reads all.
    frames: int = 0  # taken of a clip; 0: the model's number. EvalConfig.frames comes first
    window: tuple[float, float] = (0.0, 1.0)  # shares of a clip between which they are taken
    fit: Literal["model"] | Fit = "model"  # what of a frame becomes the square, see Preprocessing

    def __post_init__(self) -> None:
        first, last = self.window
        if self.frames < 0 or not 0 <= first < last <= 1:
            raise ConfigError(
                f"benchmark '{self.name}': frames = {self.frames} must be at least 0, and window = "
                f"{self.window} two shares from 0 to 1, the smaller one first"
            )
        for template in self.templates:
            if template.count("{}") != 1:
                raise ConfigError(
                    f"benchmark '{self.name}': the template '{template}' must have one {{}}"
                )


@dataclasses.dataclass(frozen=True)
class StreamSet:
    """Streams of the bundled world of one kind and density of events."""

    kind: Literal["procedural", "poisson"]  # data/world/streams.py
    density: float  # events per second
    streams: int

    @property
    def name(self) -> str:
        """Of its metrics."""
        return f"{self.kind}_at_{self.density:g}"


@dataclasses.dataclass(frozen=True)
class RecordedStreams:
    """Streams of a prepared dataset: long videos that someone described as they went."""

    name: str  # of its metrics
    path: str  # a prepared dataset, or "@data/NAME" below config.data
    split: str
    tags: dict[str, tuple[str, ...]]  # tag -> values, of which an annotation has one; {} for all
    streams: int  # the first n; 0 for all
    expected: int  # videos of the whole set; 0 where it is not known
    bank_split: str  # whose texts are chosen from where there is no Y-Decoder
    sources: dict[str, str] = dataclasses.field(default_factory=dict)  # of each choice: who made it

    def __post_init__(self) -> None:
        if min(self.streams, self.expected) < 0:
            raise ConfigError(
                f"streams '{self.name}': streams = {self.streams} and expected = {self.expected} "
                "must be at least 0"
            )


@dataclasses.dataclass(frozen=True)
class StreamStudyConfig:
    """The study of selective decoding (paper §4.6), benchmark "stream"."""

    sets: tuple[StreamSet | RecordedStreams, ...]  # the first gives the headline
    query: str
    window: float  # seconds of video that an embedding sees
    ticks_per_second: float  # embeddings
    rates: tuple[float, ...]  # decodings per second, swept
    change_window: float  # seconds in which the online segmentation looks for a change
    change_delay: float  # seconds that a change must be old for it
    # What a segment is decoded from (evals/streams/study.py); the first gives the headline.
    forms: tuple[Literal["clip", "averaged", "exact"], ...]
    bank_texts: int  # texts of a training split to choose from where there is no Y-Decoder

    def __post_init__(self) -> None:
        rates = self.rates
        if not self.forms:
            raise ConfigError("config.stream.forms: name at least one of clip, averaged, exact")
        if not self.sets or not rates or not all(0 < r <= self.ticks_per_second for r in rates):
            raise ConfigError(
                "config.stream: at least one set and one rate are needed, and no rate may exceed "
                f"ticks_per_second = {self.ticks_per_second}"
            )
        if min(rates) > self.ticks_per_second / 2:
            raise ConfigError(
                "config.stream.rates: the online strategy ends no segment before its second tick; "
                f"one rate at least must be below {self.ticks_per_second / 2}"
            )
        if STREAM_REFERENCE_RATE not in rates:
            raise ConfigError(
                f"config.stream.rates must hold {STREAM_REFERENCE_RATE}, the uniform rate that "
                "others are compared with"
            )


# Decodings per second of the uniform strategy at which its quality is to be reached (paper §4.6).
STREAM_REFERENCE_RATE = 1.0


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The config of ``launch/eval.py``."""

    frames: int  # 0: as a benchmark says, or as trained
    batch_size: int
    world: WorldConfig | None  # None: nothing is on "@world"
    num_workers: int
    benchmarks: tuple[BenchmarkConfig, ...]
    stream: StreamStudyConfig | None  # None: no such study
    # The folder of the datasets that benchmarks call "@data/NAME"; "" where none is called so.
    data: str = ""
    step: int = 0  # of the run's checkpoint; 0: the newest

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"config.batch_size = {self.batch_size} must be at least 1")
        users = [f"benchmark '{b.name}{b.suffix}'" for b in self.benchmarks if b.path == WORLD]
        sets = () if self.stream is None else self.stream.sets
        users += ["the study of streams"] * any(isinstance(part, StreamSet) for part in sets)
        if self.world is None and users:
            raise ConfigError(
                f'config.world is None, but {users[0]} is on "@world"; '
                "configs/eval/world.py has a world"
            )

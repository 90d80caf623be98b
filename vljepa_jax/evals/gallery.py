"""Pictures of what a model got right and wrong, for the report page."""

from __future__ import annotations

import base64
import dataclasses
import io
import random
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from vljepa_jax.config import VideoConfig
from vljepa_jax.data.records import ClipError
from vljepa_jax.evals.benchmarks import benchmark_name
from vljepa_jax.evals.evaluate import Datasets, Result
from vljepa_jax.evals.examples import Clip
from vljepa_jax.evals.protocols import Outcome
from vljepa_jax.inference.search.contact_sheet import filmstrip

_SEED = 0  # the choice must not depend on what the model answered
_CARDS = 4  # examples shown of a benchmark
_FRAMES, _PIXELS = 4, 96  # of a filmstrip

HOW_CHOSEN = (
    f"Drawn at random with a fixed seed ({_SEED}) from all examples of each benchmark, "
    "whatever the model answered: right and wrong as they come."
)

_INTROS = {
    "choose": "The answer is the candidate text nearest to the predicted embedding.",
    "retrieve": "The five clips nearest to the caption, best first, out of the whole gallery.",
    "match": "Which clip leads from the first picture to the second?",
    "caption": "What the Y-Decoder writes and the nearest training caption, each with its CIDEr.",
    "triplets": "The first text must be nearer to its paraphrase than either is to the negative.",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """What the model could have answered: a text or a filmstrip.

    Attributes:
        text: "" for a clip.
        image: data URI; "" for a text.
        score: cosine; ``None`` for a right option shown only because it was missed.
        right: whether it is a right option.
        label: shown in place of the score; "" for the score.
    """

    text: str
    image: str
    score: float | None
    right: bool
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Card:
    """One example as the page shows it.

    Attributes:
        question: the query or caption.
        image: data URI of what was asked about; "" if there is nothing to see.
        options: best first; a right option that did not make it stands at the end.
        correct: whether the example counts as right at rank 1.
        note: where the right option was, or why there is no answer.
    """

    question: str
    image: str
    options: tuple[Option, ...]
    correct: bool
    note: str


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The cards of one benchmark.

    Attributes:
        title: name of the benchmark.
        protocol: of the benchmark.
        intro: what the cards show.
        cards: in the order drawn.
        folded: whether the page shows them only when asked.
    """

    title: str
    protocol: str
    intro: str
    cards: tuple[Card, ...]
    folded: bool


def make_galleries(results: Sequence[Result], datasets: Datasets) -> list[Gallery]:
    """Draws examples of every benchmark and decodes the clips that they show."""
    chosen = [_draw(result.outcomes) for result in results]
    clips = {clip for outcomes in chosen for outcome in outcomes for clip in _clips(outcome)}
    strips = _filmstrips(clips, datasets)
    return [
        Gallery(
            benchmark_name(result.benchmark),
            result.benchmark.protocol,
            _INTROS[result.benchmark.protocol],
            tuple(
                (_caption_card if result.benchmark.protocol == "caption" else _card)(o, strips)
                for o in outcomes
            ),
            folded=bool(result.benchmark.suffix),  # a variant of one that is shown
        )
        for result, outcomes in zip(results, chosen, strict=True)
    ]


def _draw(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return random.Random(_SEED).sample(list(outcomes), min(_CARDS, len(outcomes)))


def _clips(outcome: Outcome) -> Iterable[Clip]:
    shown = (outcome.clip, outcome.gold, *outcome.options)
    return (item for item in shown if isinstance(item, Clip))


def _caption_card(outcome: Outcome, strips: Mapping[Clip, str]) -> Card:
    names = ("written", "nearest")[-len(outcome.options) :]  # without a Y-Decoder, nearest alone
    options = [
        Option(text, "", score, False, f"{name} {score:.0f}")
        for text, score, name in zip(outcome.options, outcome.scores, names, strict=True)
    ]
    options.append(Option(outcome.gold, "", None, True, "right"))
    note = "The clip cannot be read; it counts as 0." if outcome.unreadable else ""
    return Card(outcome.question, strips[outcome.clip], tuple(options), False, note)


def _card(outcome: Outcome, strips: Mapping[Clip, str]) -> Card:
    def option(item: str | Clip, score: float | None, right: bool) -> Option:
        if isinstance(item, Clip):
            return Option("", strips[item], score, right)
        return Option(item, "", score, right)

    options = [
        option(*item) for item in zip(outcome.options, outcome.scores, outcome.right, strict=True)
    ]
    note = ""
    if outcome.unreadable:
        note = "A clip of this example cannot be read; it counts as wrong."
    elif outcome.gold is None:
        note = "The right answer is not among the candidates; it counts as wrong."
    elif not any(outcome.right):
        options.append(option(outcome.gold, None, True))
        note = f"The right one came at place {outcome.rank + 1}."
    return Card(
        question=outcome.question,
        image=strips[outcome.clip] if outcome.clip else "",
        options=tuple(options),
        correct=outcome.correct,
        note=note,
    )


def _filmstrips(clips: Iterable[Clip], datasets: Datasets) -> dict[Clip, str]:
    """A few frames of each clip side by side; one of each medium where there are several."""
    by_count: dict[int, list[Clip]] = {}
    for clip in clips:
        by_count.setdefault(_FRAMES if len(clip.media) == 1 else len(clip.media), []).append(clip)
    strips = {}
    for frames, group in by_count.items():
        video = VideoConfig(frames, _PIXELS, "uniform", "centre", (1.0, 1.0))
        for clip, decoded in datasets.decode(group, video):
            readable = not isinstance(decoded, ClipError)
            strips[clip] = _data_uri(filmstrip(decoded)) if readable else ""
    return strips


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

"""Pictures of what a model answered, for the report page."""

from __future__ import annotations

import base64
import dataclasses
import io
import random
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from vljepa_jax.data.records import ClipError
from vljepa_jax.data.video import thumbnails
from vljepa_jax.evals.benchmarks import benchmark_name
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import Result
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.protocols.base import Option, Outcome
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.search.contact_sheet import filmstrip

_SEED = 0
_CARDS = 4  # examples shown of a benchmark
_LOOKED_AT = 1_000  # examples among which a right and a wrong one are looked for
_FRAMES, _PIXELS = 4, 96  # of a filmstrip

HOW_CHOSEN = (
    f"Of each benchmark {_CARDS // 2} that are right beside {_CARDS // 2} that are wrong, where "
    f"there are so many, drawn at random with a fixed seed ({_SEED}). They do not show how often "
    "it is right: the results do."
)


@dataclasses.dataclass(frozen=True)
class DrawnOption:
    """An answer that the model could have given: a text or a filmstrip.

    Attributes:
        text: "" for a clip.
        image: data URI; "" for a text.
        score: ``None`` for a correct option shown only because it was missed.
        correct: whether it is a correct option.
        label: shown in place of the score; "" for the score.
    """

    text: str
    image: str
    score: float | None
    correct: bool
    label: str


@dataclasses.dataclass(frozen=True)
class Card:
    """One example as the page shows it.

    Attributes:
        question: the query or caption.
        image: data URI of what was asked about; "" if there is nothing to see.
        pair: whether it shows two pictures, not a clip.
        options: best first; a correct option that did not make it stands at the end.
        correct: whether the first option is correct; ``None`` where this is not judged.
        note: where the correct option was, or why there is no answer.
    """

    question: str
    image: str
    pair: bool
    options: tuple[DrawnOption, ...]
    correct: bool | None
    note: str


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The cards of one benchmark.

    Attributes:
        title: name of the benchmark.
        intro: what the cards show.
        cards: in the order drawn.
        folded: whether the page shows them only when asked.
    """

    title: str
    intro: str
    cards: tuple[Card, ...]
    folded: bool


def make_galleries(results: Sequence[Result], datasets: Datasets) -> list[Gallery]:
    """Draws examples of every benchmark and decodes the clips that they show."""
    chosen = [_draw(r.outcomes, judged=make_protocol(r.benchmark).judged) for r in results]
    clips = {clip for outcomes in chosen for outcome in outcomes for clip in _clips(outcome)}
    strips = _filmstrips(clips, datasets)
    galleries = []
    for result, outcomes in zip(results, chosen, strict=True):
        protocol = make_protocol(result.benchmark)
        cards = tuple(_card(outcome, strips, judged=protocol.judged) for outcome in outcomes)
        folded = bool(result.benchmark.suffix)  # a variant of one that is shown
        title = benchmark_name(result.benchmark)
        galleries.append(Gallery(title, protocol.intro, cards, folded))
    return galleries


def _draw(outcomes: Sequence[Outcome], *, judged: bool) -> list[Outcome]:
    """Right and wrong ones by turns; of one kind more where there are too few of the other."""
    order = random.Random(_SEED).sample(range(len(outcomes)), len(outcomes))
    if not judged:
        return [outcomes[place] for place in order[:_CARDS]]
    right: list[Outcome] = []
    wrong: list[Outcome] = []
    for place in order[:_LOOKED_AT]:
        outcome = outcomes[place]
        (right if outcome.correct else wrong).append(outcome)
        if min(len(right), len(wrong)) >= _CARDS // 2:
            break
    fewer = min(len(right), len(wrong), _CARDS // 2)
    pairs = [o for pair in zip(right[:fewer], wrong[:fewer], strict=True) for o in pair]
    return [*pairs, *right[fewer:], *wrong[fewer:]][:_CARDS]


def _clips(outcome: Outcome) -> Iterable[ClipRef]:
    shown = (outcome.clip, outcome.gold, *(option.item for option in outcome.options))
    return (item for item in shown if isinstance(item, ClipRef))


def _card(outcome: Outcome, strips: Mapping[ClipRef, str], *, judged: bool) -> Card:
    options = list(outcome.options)
    note = ""
    if outcome.unreadable:
        counts = "as wrong" if judged else "0"
        note = f"A clip of this example cannot be read; it counts {counts}."
    elif outcome.gold is None:
        note = "The correct answer is not among the candidates; it counts as wrong."
    elif not any(option.correct for option in options):
        options.append(Option(outcome.gold, None, correct=True))
        note = f"The correct one came at place {outcome.rank + 1}."
    return Card(
        question=outcome.question,
        image=strips[outcome.clip] if outcome.clip else "",
        pair=outcome.clip is not None and len(outcome.clip.media) == 2,
        options=tuple(_drawn(option, strips) for option in options),
        correct=outcome.correct if judged else None,
        note=note,
    )


def _drawn(option: Option, strips: Mapping[ClipRef, str]) -> DrawnOption:
    clip = isinstance(option.item, ClipRef)
    return DrawnOption(
        text="" if clip else option.item,
        image=strips[option.item] if clip else "",
        score=option.score,
        correct=option.correct,
        label=option.label,
    )


def _filmstrips(clips: Iterable[ClipRef], datasets: Datasets) -> dict[ClipRef, str]:
    """A few frames of each clip side by side; one of each medium where there are several."""
    by_count: dict[int, list[ClipRef]] = {}
    for clip in clips:
        by_count.setdefault(_FRAMES if len(clip.media) == 1 else len(clip.media), []).append(clip)
    strips = {}
    for frames, group in by_count.items():
        video = thumbnails(frames, _PIXELS)
        for clip, decoded in datasets.decode(group, video):
            readable = not isinstance(decoded, ClipError)
            strips[clip] = _data_uri(filmstrip(decoded)) if readable else ""
    return strips


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

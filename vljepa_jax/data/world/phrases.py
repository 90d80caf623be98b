"""The words for motions and sentences; which of them training never hears.

The held-out phrasings are, as far as English allows, new combinations of words that training does
hear ("slides to the left", "drifts leftward" -> "slides leftward"): a text encoder trained from
scratch has a fair chance, a pretrained one needs none.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A way to say a motion: "spins" and "spinning"."""

    verb: str
    gerund: str


@dataclasses.dataclass(frozen=True)
class Wording:
    """All ways to say a motion; the first of ``seen`` is its label."""

    seen: tuple[Phrase, ...]
    held_out: tuple[Phrase, ...]

    @property
    def label(self) -> str:
        """The answer text and label: "moves left"."""
        return self.seen[0].verb


def _phrases(text: str) -> tuple[Phrase, ...]:
    return tuple(Phrase(*part.strip().split("/")) for part in text.split(","))


def _wording(seen: str, held_out: str) -> Wording:
    return Wording(_phrases(seen), _phrases(held_out))


MOTIONS: dict[str, Wording] = {
    "left": _wording(
        "moves left/moving left, slides to the left/sliding to the left, drifts leftward/drifting"
        " leftward, goes left/going left, glides to the left/gliding to the left, travels left/"
        "travelling left",
        "slides leftward/sliding leftward, travels to the left/travelling to the left",
    ),
    "right": _wording(
        "moves right/moving right, slides to the right/sliding to the right, drifts rightward/"
        "drifting rightward, goes right/going right, glides to the right/gliding to the right,"
        " travels right/travelling right",
        "slides rightward/sliding rightward, travels to the right/travelling to the right",
    ),
    "up": _wording(
        "moves up/moving up, rises/rising, slides upward/sliding upward, goes up/going up,"
        " glides to the top/gliding to the top, climbs/climbing",
        "glides upward/gliding upward, goes to the top/going to the top",
    ),
    "down": _wording(
        "moves down/moving down, sinks/sinking, slides downward/sliding downward, goes down/"
        "going down, glides to the bottom/gliding to the bottom, descends/descending",
        "glides downward/gliding downward, goes to the bottom/going to the bottom",
    ),
    "bounce": _wording(
        "bounces/bouncing, bounces up and down/bouncing up and down, keeps bouncing/bouncing all"
        " the time, hops again and again/hopping again and again, springs up and down/springing"
        " up and down, leaps over and over/leaping over and over",
        "hops up and down/hopping up and down, bounces again and again/bouncing again and again",
    ),
    "jump": _wording(
        "jumps/jumping, jumps once/jumping once, leaps into the air/leaping into the air, hops"
        " once/hopping once, makes a single jump/making a single jump, springs up once/"
        "springing up once",
        "leaps once/leaping once, hops into the air/hopping into the air",
    ),
    "orbit": _wording(
        "moves in a circle/moving in a circle, circles around/circling around, goes round and"
        " round/going round and round, travels along a ring/travelling along a ring, loops"
        " around/looping around, follows a circular path/following a circular path",
        "travels in a circle/travelling in a circle, moves along a ring/moving along a ring",
    ),
    "shake": _wording(
        "shakes/shaking, trembles/trembling, vibrates/vibrating, shakes from side to side/"
        "shaking from side to side, jitters/jittering, keeps trembling/trembling all the time",
        "trembles from side to side/trembling from side to side, keeps shaking/shaking all the"
        " time",
    ),
    "grow": _wording(
        "grows/growing, gets bigger/getting bigger, becomes larger/becoming larger, expands/"
        "expanding, increases in size/increasing in size, swells/swelling",
        "gets larger/getting larger, becomes bigger/becoming bigger",
    ),
    "shrink": _wording(
        "shrinks/shrinking, gets smaller/getting smaller, becomes tinier/becoming tinier,"
        " contracts/contracting, decreases in size/decreasing in size, dwindles/dwindling",
        "gets tinier/getting tinier, becomes smaller/becoming smaller",
    ),
    "spin": _wording(
        "spins/spinning, rotates/rotating, turns on the spot/turning on the spot, whirls around/"
        "whirling around, revolves/revolving, keeps rotating/rotating all the time",
        "rotates on the spot/rotating on the spot, keeps spinning/spinning all the time",
    ),
    "fade": _wording(
        "fades out/fading out, fades away/fading away, vanishes slowly/vanishing slowly, becomes"
        " invisible/becoming invisible, disappears gradually/disappearing gradually, dissolves/"
        "dissolving",
        "vanishes gradually/vanishing gradually, disappears slowly/disappearing slowly",
    ),
    "appear": _wording(
        "fades in/fading in, appears/appearing, becomes visible/becoming visible, emerges slowly/"
        "emerging slowly, materialises/materialising, shows up gradually/showing up gradually",
        "emerges gradually/emerging gradually, shows up slowly/showing up slowly",
    ),
    "still": _wording(
        "stays still/staying still, does not move/not moving, remains in place/remaining in place,"
        " stays where it is/staying where it is, rests/resting, stands still/standing still",
        "remains still/remaining still, stays in place/staying in place",
    ),
}


@dataclasses.dataclass(frozen=True)
class Template:
    """A sentence around the events.

    Attributes:
        sentence: with "{events}".
        event: one event, with "{thing}" and "{verb}" or "{gerund}".
        last: joins the last event to those before it; commas join the others.
    """

    sentence: str
    event: str
    last: str


SEEN_TEMPLATES = (
    Template("{events}.", "{thing} {verb}", " and "),
    Template("The video shows {events}.", "{thing} {gerund}", " and "),
    Template("There is {events}.", "{thing} that {verb}", " and "),
    Template("In this clip {events}.", "{thing} {verb}", " while "),
    Template("{events}.", "{thing} is {gerund}", " and "),
    Template("We can see {events}.", "{thing} {gerund}", " as well as "),
    Template("A video of {events}.", "{thing} {gerund}", " and "),
)
HELD_OUT_TEMPLATES = (
    Template("This video shows how {events}.", "{thing} {verb}", " and "),
    Template("In the video there is {events}.", "{thing} {gerund}", " and "),
    Template("We see that {events}.", "{thing} {verb}", " while "),
)

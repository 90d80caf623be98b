"""Writes texts token by token: compiled once, many texts at a time, in fixed shapes.

The keys and values of what is written are kept, so that a token costs one pass over one token. All
methods stop when every text has its end token, or at ``max_tokens``. ``mesh`` is what the rows of
the inputs are divided over; ``None`` where they are not.

Axes: b texts, w beams, n tokens, v vocabulary, r rows of the model (b or b * w).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.models.llama import KVCache
from vljepa_jax.models.placement import on_mesh

PyTree = Any
Method = Literal["greedy", "beam", "top_p"]
# Logits of every row -> the next token of each.
Choose = Callable[[Float[Array, "b v"], jax.Array], Int[Array, " b"]]


class Decoder(Protocol):
    """A flax module that continues texts: a Y-Decoder, a VLM."""

    def start(self, inputs: PyTree, room: int) -> tuple[Float[Array, "r v"], KVCache]:
        """Reads what comes before the texts.

        Args:
            inputs: arrays, a row a text.
            room: tokens that the cache will hold after it.

        Returns:
            Logits of the first token, float32, and the cache to go on with.
        """

    def extend(
        self, tokens: Int[Array, " r"], cache: KVCache
    ) -> tuple[Float[Array, "r v"], KVCache]:
        """Reads one more token of each text; returns the logits of the next, and the cache."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    Attributes:
        method: "greedy", "beam" (``beams``, ``length_penalty``) or "top_p" (``top_p``,
            ``temperature``, ``seed``).
        beams: as for ``beam_search``.
        length_penalty: likewise.
        top_p: as for ``sample``.
        temperature: likewise.
        seed: of what is drawn.

    Raises:
        ValueError: there is no such method, or a setting is out of range.
    """

    method: Method = "greedy"
    beams: int = 4
    length_penalty: float = 1.0
    top_p: float = 0.9
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam", "top_p"):
            raise ValueError(f"method: {self.method!r} is not 'greedy', 'beam' or 'top_p'")
        if self.beams < 1 or self.temperature <= 0:
            raise ValueError("beams must be at least 1, temperature above 0")


class Written(NamedTuple):
    """Attributes: tokens [b, n], the end token and what follows it being ``end_id``; and the sum of
    the log-probabilities of each text's tokens [b], its end token included."""

    tokens: Int[Array, "b n"]
    log_probability: Float[Array, " b"]


def generate(
    model: Decoder,
    params: PyTree,
    inputs: PyTree,
    max_tokens: int,
    end_id: int,
    decoding: Decoding,
    first_row: int = 0,
    mesh: Mesh | None = None,
) -> Written:
    """Writes the text of each row of ``inputs`` as ``decoding`` says.

    Args:
        first_row: the number of the first row among all that are written, batch by batch, so that
            "top_p" draws for each batch anew.

    Raises:
        ValueError: ``max_tokens`` is below 1.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, where a text has at least one token")
    first = (model, params, inputs, max_tokens, end_id)
    if decoding.method == "greedy":
        return greedy(*first, mesh=mesh)
    if decoding.method == "beam":
        return beam_search(*first, decoding.beams, decoding.length_penalty, mesh)
    rng = jax.random.fold_in(jax.random.key(decoding.seed), first_row)
    return sample(*first, rng, decoding.top_p, decoding.temperature, mesh)


@functools.partial(jax.jit, static_argnames=("model", "max_tokens", "end_id", "mesh"))
def greedy(
    model: Decoder,
    params: PyTree,
    inputs: PyTree,
    max_tokens: int,
    end_id: int,
    mesh: Mesh | None = None,
) -> Written:
    """The most probable token each time."""

    def choose(logits: Array, rng: jax.Array) -> Array:
        del rng
        return jnp.argmax(logits, axis=-1)

    return _write(model, params, inputs, max_tokens, end_id, mesh, choose, jax.random.key(0))


@functools.partial(jax.jit, static_argnames=("model", "max_tokens", "end_id", "mesh"))
def sample(
    model: Decoder,
    params: PyTree,
    inputs: PyTree,
    max_tokens: int,
    end_id: int,
    rng: jax.Array,
    top_p: Float[Array, ""] | float,
    temperature: Float[Array, ""] | float,
    mesh: Mesh | None = None,
) -> Written:
    """Nucleus sampling (Holtzman et al. 2020): draws among the most probable tokens.

    Args:
        top_p: the fewest tokens whose probabilities sum to at least this are drawn from; the most
            probable one always is.
        temperature: divides the logits beforehand; above 0.
    """

    def choose(logits: Array, rng: jax.Array) -> Array:
        return jax.random.categorical(rng, nucleus(logits / temperature, top_p))

    return _write(model, params, inputs, max_tokens, end_id, mesh, choose, rng)


def nucleus(logits: Float[Array, "b v"], top_p: Float[Array, ""] | float) -> Float[Array, "b v"]:
    """The logits with -inf outside the nucleus."""
    order = jnp.argsort(-logits, axis=-1)
    sorted_probability = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    before = jnp.cumsum(sorted_probability, axis=-1) - sorted_probability
    kept = (before < top_p).at[:, 0].set(True)
    kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(kept, logits, -jnp.inf)


def _write(
    model: Decoder,
    params: PyTree,
    inputs: PyTree,
    max_tokens: int,
    end_id: int,
    mesh: Mesh | None,
    choose: Choose,
    rng: jax.Array,
) -> Written:
    class State(NamedTuple):
        step: Int[Array, ""]
        logits: Float[Array, "b v"]
        cache: KVCache
        tokens: Int[Array, "b n"]
        log_probability: Float[Array, " b"]
        ended: Bool[Array, " b"]

    def go_on(state: State) -> Array:
        return (state.step < max_tokens) & ~state.ended.all()

    def advance(state: State) -> State:
        token = choose(state.logits, jax.random.fold_in(rng, state.step)).astype(jnp.int32)
        token = jnp.where(state.ended, end_id, token)
        scores = jax.nn.log_softmax(state.logits, axis=-1)
        gained = jnp.take_along_axis(scores, token[:, None], axis=-1)[:, 0]
        logits, cache = _extend(model, params, token, state.cache, mesh)
        return State(
            state.step + 1,
            logits,
            cache,
            state.tokens.at[:, state.step].set(token),
            state.log_probability + jnp.where(state.ended, 0.0, gained),
            state.ended | (token == end_id),
        )

    logits, cache = _start(model, params, inputs, max_tokens, mesh)
    rows = len(logits)
    tokens = jnp.full((rows, max_tokens), end_id, jnp.int32)
    nothing = jnp.zeros(rows)
    state = State(jnp.int32(0), logits, cache, tokens, nothing, jnp.zeros(rows, bool))
    state = jax.lax.while_loop(go_on, advance, state)
    return Written(state.tokens, state.log_probability)


@functools.partial(jax.jit, static_argnames=("model", "max_tokens", "end_id", "mesh", "beams"))
def beam_search(
    model: Decoder,
    params: PyTree,
    inputs: PyTree,
    max_tokens: int,
    end_id: int,
    beams: int,
    length_penalty: Float[Array, ""] | float,
    mesh: Mesh | None = None,
) -> Written:
    """Keeps the ``beams`` most probable beginnings of each text.

    Ended texts stay among them with the log-probability that they have. Of those that are left at
    the end, the one with the highest log-probability / tokens ** length_penalty is taken; a text
    that reached ``max_tokens`` without an end competes as it is.

    Args:
        beams: w; the memory of the cache grows with it.
        length_penalty: 0 takes the most probable text, 1 that with the most probable tokens on
            average; what is above 0 favours longer texts.
    """

    class State(NamedTuple):
        step: Int[Array, ""]
        logits: Float[Array, "r v"]
        cache: KVCache
        tokens: Int[Array, "b w n"]
        log_probability: Float[Array, "b w"]
        ended: Bool[Array, "b w"]

    logits, cache = _start(model, params, inputs, max_tokens, mesh)
    texts = len(logits)

    def go_on(state: State) -> Array:
        return (state.step < max_tokens) & ~state.ended.all()

    def advance(state: State) -> State:
        scores = jax.nn.log_softmax(state.logits, axis=-1).reshape(texts, beams, -1)
        vocabulary = scores.shape[-1]
        # An ended text has one continuation, which costs nothing.
        after_end = jnp.where(jnp.arange(vocabulary) == end_id, 0.0, -jnp.inf)
        scores = jnp.where(state.ended[..., None], after_end, scores)
        totals = (state.log_probability[..., None] + scores).reshape(texts, -1)
        best, place = jax.lax.top_k(totals, beams)
        parent, token = place // vocabulary, (place % vocabulary).astype(jnp.int32)
        tokens = jnp.take_along_axis(state.tokens, parent[..., None], axis=1)
        ended = jnp.take_along_axis(state.ended, parent, axis=1)
        rows = (jnp.arange(texts)[:, None] * beams + parent).reshape(-1)
        cache = state.cache.take(rows)
        logits, cache = _extend(model, params, token.reshape(-1), cache, mesh)
        return State(
            state.step + 1,
            logits,
            cache,
            tokens.at[:, :, state.step].set(token),
            best,
            ended | (token == end_id),
        )

    every = jnp.repeat(jnp.arange(texts), beams)
    # All beams are alike at first: the others must not be taken for further texts.
    first = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
    state = State(
        jnp.int32(0),
        logits[every],
        cache.take(every),
        jnp.full((texts, beams, max_tokens), end_id, jnp.int32),
        jnp.broadcast_to(first, (texts, beams)),
        jnp.zeros((texts, beams), bool),
    )
    state = jax.lax.while_loop(go_on, advance, state)
    length = jnp.minimum(jnp.sum(state.tokens != end_id, axis=-1) + 1, max_tokens)
    best = jnp.argmax(state.log_probability / length**length_penalty, axis=1)
    return Written(
        jnp.take_along_axis(state.tokens, best[:, None, None], axis=1)[:, 0],
        jnp.take_along_axis(state.log_probability, best[:, None], axis=1)[:, 0],
    )


def _start(
    model: Decoder, params: PyTree, inputs: PyTree, room: int, mesh: Mesh | None
) -> tuple[Array, KVCache]:
    with on_mesh(mesh):
        return model.apply({"params": params}, inputs, room, method="start")


def _extend(
    model: Decoder, params: PyTree, tokens: Array, cache: KVCache, mesh: Mesh | None
) -> tuple[Array, KVCache]:
    with on_mesh(mesh):
        return model.apply({"params": params}, tokens, cache, method="extend")

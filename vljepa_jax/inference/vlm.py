"""A trained VLM as an object: clips and queries in, texts and likelihoods of candidates out."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import ConfigError, TrainConfig, VLMConfig
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.arguments import check_least
from vljepa_jax.inference.generate import Decoding, Method, generate
from vljepa_jax.losses import token_cross_entropy
from vljepa_jax.models.llama import KVCache
from vljepa_jax.models.placement import (
    bucket_rows,
    everywhere,
    on_mesh,
    on_rows,
    over_rows,
    pad_rows,
    power_of_two,
)
from vljepa_jax.models.vlm import VLM
from vljepa_jax.parallel.sharding import local_mesh
from vljepa_jax.run_dir import load_params

PyTree = Any
_SHORTEST = 8  # tokens of the smallest text bucket


class Likelihoods(NamedTuple):
    """How likely candidates are, each by itself, their end tokens included.

    Attributes:
        log_probability: [n, c], the sum over a candidate's tokens, float32; -inf where a row has
            fewer candidates than others.
        tokens: [n, c], how many these are; 0 where there is no candidate.
    """

    log_probability: Float[np.ndarray, "n c"]
    tokens: Int[np.ndarray, "n c"]

    @property
    def per_token(self) -> Float[np.ndarray, "n c"]:
        """Length-normalised: the mean over a candidate's tokens."""
        return self.log_probability / np.maximum(self.tokens, 1)


class VisionLanguageModel:
    """A VLM with its tokenizer.

    Shapes are bucketed, so that the model compiles once for each of a few sizes and not for every
    input: a batch is padded to a power of two up to ``batch_size``, and to what shares out over the
    devices; queries and candidates to powers of two. The padding changes no result.

    Attributes:
        config: of the training run.
        video: how videos are read: the run's settings, in their deterministic form.
        batch_size: rows computed at once.
        mesh: over which they are divided.
    """

    def __init__(
        self, config: TrainConfig, params: PyTree, *, batch_size: int = 32, mesh: Mesh | None = None
    ) -> None:
        """See ``load_vlm``; ``params`` are those of ``models.vlm.VLM``.

        Raises:
            ConfigError: the run trained no VLM, or fewer than one row would be computed at once.
        """
        if not isinstance(config.model, VLMConfig):
            raise ConfigError(f"this run trained objective '{config.objective}', and no VLM")
        check_least("batch_size", batch_size, 1)
        self.config = config
        self.video = dataclasses.replace(config.video_input, sampling="uniform", crop="centre")
        self.batch_size = batch_size
        self.mesh = local_mesh() if mesh is None else mesh
        self._tokenizer = Tokenizer(config.data.text.tokenizer)
        self._end_id = self._tokenizer.special_id(config.data.text.end_token)
        self._model = model = VLM(config.model)
        self._params = jax.device_put(params, everywhere(self.mesh))
        self._encode = over_rows(
            lambda params, clips: model.apply({"params": params}, clips, method="encode_video"),
            self.mesh,
        )
        self._take = over_rows(lambda _, arrays: jnp.take(*arrays, axis=0), self.mesh)

    def encode_clips(self, clips: UInt8[np.ndarray, "n T H W 3"]) -> Float[Array, "m N D"]:
        """S_V of up to ``batch_size`` clips, read as ``video`` says.

        Rows after the n-th are padding.

        Raises:
            ValueError: there are more clips, or none.
        """
        if not 0 < len(clips) <= self.batch_size:
            raise ValueError(
                f"{len(clips)} clips, where 1 to {self.batch_size} are encoded at once"
            )
        padded = pad_rows(clips, bucket_rows(len(clips), self.batch_size, self.mesh))
        return self._encode(self._params, on_rows(padded, self.mesh))

    def generate(
        self,
        visual_tokens: Float[Array, "m N D"],
        rows: Int[np.ndarray, " n"],
        queries: Sequence[str],
        method: Method = "greedy",
        *,
        max_tokens: int = 0,
        **settings: Any,
    ) -> list[str]:
        """Writes a text for each pair of clip and query.

        Several queries about a clip cost its X-Encoder pass once.

        Args:
            visual_tokens: of ``encode_clips``.
            rows: the clip of each query, a row of ``visual_tokens``.
            queries: "" for none.
            method: "greedy", "beam" or "top_p"; ``settings`` are its, see ``generate.Decoding``.
            max_tokens: at most; 0 for as many as in training.

        Raises:
            ValueError: there are not as many rows as queries, or a setting is out of range.
        """
        decoding = Decoding(method, **settings)
        longest = max_tokens or self.config.data.text.target_length
        texts: list[str] = []
        for batch, inputs in self._batches(visual_tokens, rows, queries):
            how = (longest, self._end_id, decoding, batch.start, self.mesh)
            written = generate(self._model, self._params, inputs, *how)
            tokens = np.asarray(written.tokens)[: len(queries[batch])]
            texts += [self._tokenizer.decode(row) for row in tokens]
        return texts

    def likelihoods(
        self,
        visual_tokens: Float[Array, "m N D"],
        rows: Int[np.ndarray, " n"],
        queries: Sequence[str],
        candidates: Sequence[str] | Sequence[Sequence[str]],
    ) -> Likelihoods:
        """How likely the model would write each candidate after each pair of clip and query.

        A pair is read once, and each of its candidates costs a pass over its own tokens.

        Args:
            visual_tokens: as for ``generate``, as rows and queries.
            rows: likewise.
            queries: likewise.
            candidates: those of all rows, or those of each row.

        Raises:
            ValueError: there are not as many rows or lists of candidates as queries, or no
                candidates.
        """
        ids, mask, chosen, there = self._encoded(candidates, len(queries))
        found = np.zeros(chosen.shape, np.float32)
        for batch, inputs in self._batches(visual_tokens, rows, queries):
            prefix = _read(self._model, self._params, inputs, ids.shape[1], self.mesh)
            size = len(inputs["query_tokens"])
            columns = []
            for column in chosen[batch].T:
                tokens = [pad_rows(array[column], size) for array in (ids, mask)]
                read = (*prefix, *on_rows(tokens, self.mesh))
                columns.append(_log_probability(self._model, self._params, *read, self.mesh))
            found[batch] = np.stack(columns, axis=1)[: len(chosen[batch])]
        lengths = mask.sum(axis=1)[chosen]
        return Likelihoods(np.where(there, found, -np.inf), np.where(there, lengths, 0))

    def _encoded(
        self, candidates: Sequence[str] | Sequence[Sequence[str]], rows: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Tokens and mask [m, t] of m texts; int [n, c], which of them each row's candidates are;
        bool [n, c], where there is one (what is not there is the first text)."""
        if isinstance(candidates, str):
            raise TypeError(f"candidates is one text, where a list is needed: [{candidates!r}]")
        if not candidates:
            raise ValueError("no candidates")
        shared = isinstance(candidates[0], str)
        of_rows = [candidates] * rows if shared else candidates
        if len(of_rows) != rows or not all(map(len, of_rows)):
            raise ValueError(
                f"{len(of_rows)} lists of candidates for {rows} queries, or an empty one"
            )
        texts = sorted({text for own in of_rows for text in own})
        numbers = {text: number for number, text in enumerate(texts)}
        counts = np.array([len(own) for own in of_rows], int)
        there = np.arange(counts.max(initial=0)) < counts[:, None]
        chosen = np.zeros(there.shape, int)
        chosen[there] = [numbers[text] for own in of_rows for text in own]
        ids, mask = self._tokenizer.encode_ended(texts, None, self._end_id)
        wider = [(0, 0), (0, _text_bucket(ids.shape[1]) - ids.shape[1])]
        return np.pad(ids, wider), np.pad(mask, wider), chosen, there

    def _batches(
        self, visual_tokens: Array, rows: np.ndarray, queries: Sequence[str]
    ) -> Iterator[tuple[slice, dict[str, Array]]]:
        """Yields which queries are in a batch, and what ``VLM.prefix`` takes of them."""
        rows = np.asarray(rows)
        if len(rows) != len(queries):
            raise ValueError(f"{len(rows)} rows for {len(queries)} queries")
        if np.any((rows < 0) | (rows >= len(visual_tokens))):
            raise ValueError(f"rows: {len(visual_tokens)} clips are encoded, numbered from 0")
        length = self.config.data.text.query_length
        for start in range(0, len(queries), self.batch_size):
            batch = slice(start, start + self.batch_size)
            tokens, mask = self._tokenizer.encode(queries[batch], length)
            kept = min(length, _text_bucket(mask.sum(axis=1).max()))
            size = bucket_rows(len(tokens), self.batch_size, self.mesh)
            texts = [pad_rows(array[:, :kept], size) for array in (tokens, mask)]
            # Gathered by a function of its own: the shapes of the next do not depend on m.
            places = pad_rows(rows[batch], size)
            visual = self._take(None, on_rows((visual_tokens, places), self.mesh))
            tokens, mask = on_rows(texts, self.mesh)
            yield batch, {"visual_tokens": visual, "query_tokens": tokens, "query_mask": mask}


def load_vlm(
    run_dir: str | os.PathLike,
    *,
    step: int | None = None,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> VisionLanguageModel:
    """The VLM that a training run left.

    Args:
        run_dir: a run of objective "vlm".
        step: of the checkpoint; ``None`` for the newest.
        batch_size: rows computed at once; the memory it takes grows with it.
        mesh: what the model runs on; by default all devices of this process.

    Raises:
        CheckpointError: the directory is not a run's, or holds no such checkpoint.
        ConfigError: the run trained no VLM.
    """
    return VisionLanguageModel(*load_params(run_dir, step=step), batch_size=batch_size, mesh=mesh)


@functools.partial(jax.jit, static_argnames=("model", "room", "mesh"))
def _read(
    model: VLM, params: PyTree, inputs: dict[str, Array], room: int, mesh: Mesh
) -> tuple[Float[Array, "b d"], KVCache]:
    with on_mesh(mesh):
        return model.apply({"params": params}, inputs, room, method="prefix")


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def _log_probability(
    model: VLM,
    params: PyTree,
    last: Float[Array, "b d"],
    cache: KVCache,
    tokens: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    mesh: Mesh,
) -> Float[Array, " b"]:
    """The log-probability of each row's tokens after what ``_read`` has read."""

    def logits_of(table: PyTree, features: Array) -> Array:
        return model.apply({"params": table}, features, method="logits")

    with on_mesh(mesh):
        features = model.apply({"params": params}, last, cache, tokens, method="continuation")
        table = {"token_embedding": params["token_embedding"]}
        nll, _ = token_cross_entropy(features, logits_of, table, tokens[..., None], mesh=mesh)
    return -jnp.sum(nll[..., 0], axis=1, where=mask)


def _text_bucket(length: int) -> int:
    """The smallest power of two that holds so many tokens."""
    return max(_SHORTEST, power_of_two(int(length)))

"""The state that training starts from: a checkpoint of its own run, or parts of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from vljepa_jax.config import ConfigError, nearest
from vljepa_jax.models.parts import PARTS
from vljepa_jax.places import AnyPath
from vljepa_jax.run_dir import (
    CheckpointError,
    PyTree,
    check_tree,
    raise_differences,
    read,
    read_subtree,
    require,
    restore_params,
    saved_extra,
    saved_tree,
    tree_differences,
)
from vljepa_jax.training.train_state import TrainState


def restore(path: AnyPath, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The state of one checkpoint, laid out as ``abstract`` says, and its progress.

    It may have been saved by any number of processes, on any mesh, and in another floating-point
    precision, which is converted.

    Raises:
        CheckpointError: parameters or training state differ in names, shapes or kinds of numbers,
            or there is no training state.
    """
    if not (path / "training").is_dir():
        raise CheckpointError(
            f"'{path}' holds parameters alone and cannot be continued; start another --workdir "
            f"with --config.init_from={path.parent.parent}:params"
        )
    check_tree(path, "params", abstract.params)
    check_tree(path, "training", training_of(abstract))
    restored = read(
        path,
        params=ocp.args.StandardRestore(abstract.params),
        training=ocp.args.StandardRestore(training_of(abstract)),
        progress=ocp.args.JsonRestore(),
    )
    return TrainState(params=restored["params"], **restored["training"]), restored["progress"]


def training_of(state: TrainState) -> dict[str, Any]:
    """The part of a state that is saved beside its parameters."""
    return {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}


def initial_state(
    init_from: str,
    make_fresh: Callable[..., TrainState],
    make_extra: Callable[[PyTree], PyTree],
    abstract: TrainState,
) -> TrainState:
    """The state that a new run starts from.

    Args:
        init_from: "" for a fresh one; "DIR" or "DIR:params" for the parameters of another run, and
            its extra state (an averaged teacher) where it has one that fits; "DIR:full" for its
            optimiser state and position in the data as well; "DIR:PART" for a part alone
            (``models.parts``), of a run with any objective (of its teacher, where it has one);
            "DIR:PART,DIR:PART" for several.
        make_fresh: ``Trainer.init``, the random state, of which what comes from elsewhere is not
            asked for; called only when what ``init_from`` names is there.
        make_extra: gives the extra state for parameters that come without one.

    Raises:
        ConfigError: what follows a colon is unknown, or what is named twice or not in the model.
        CheckpointError: nothing is there, or it does not fit.
    """
    if not init_from:
        return make_fresh()
    sources = _split_sources(init_from)
    if sources[0][1] in PARTS:
        return _with_parts(sources, make_fresh, make_extra, abstract)
    ((directory, part),) = sources
    path = require(directory)
    if part == "full":
        return restore(path, abstract)[0]
    check_tree(path, "params", abstract.params)
    params = restore_params(path, abstract.params)
    saved = saved_extra(path)
    if jax.tree.leaves(abstract.extra) and saved and not tree_differences(saved, abstract.extra):
        restore_args = ocp.checkpoint_utils.construct_restore_args
        extra = read_subtree(path, "training", ("extra",), abstract.extra, restore_args)
    else:
        extra = make_extra(params)
    return make_fresh(parts=()).replace(params=params, extra=extra)


def _with_parts(
    sources: list[tuple[str, str]],
    make_fresh: Callable[..., TrainState],
    make_extra: Callable[[PyTree], PyTree],
    abstract: TrainState,
) -> TrainState:
    reads, taken = [], set()
    for directory, part in sources:
        path = require(directory)
        wanted = {name: abstract.params[name] for name in PARTS[part] if name in abstract.params}
        if not wanted:
            raise ConfigError(f"init_from: the model of this config has no {part}")
        if twice := taken & wanted.keys():
            raise ConfigError(f"init_from: {', '.join(sorted(twice))} would come from two runs")
        taken |= wanted.keys()
        item, saved, where = "params", saved_tree(path, "params"), ()
        if (teacher := saved_extra(path).get("teacher", {})) and wanted.keys() <= teacher.keys():
            item, saved, where = "training", teacher, ("extra", "teacher")
        raise_differences(path, item, {n: saved[n] for n in wanted if n in saved}, wanted)
        reads.append((path, item, where, wanted))
    fresh = make_fresh(parts=[name for name in abstract.params if name not in taken])
    params = dict(fresh.params)
    for each in reads:
        params |= read_subtree(*each, ocp.checkpoint_utils.construct_restore_args)
    return fresh.replace(params=params, extra=make_extra(params))


def _split_sources(init_from: str) -> list[tuple[str, str]]:
    """ "DIR:PART,DIR:PART" -> [(DIR, PART), ...]; "DIR" alone means its parameters."""
    after_a_part = "|".join(f"(?<=:{part})," for part in PARTS)
    sources = [_split_source(source) for source in re.split(after_a_part, init_from)]
    whole = [part for _, part in sources if part not in PARTS]
    if whole and len(sources) > 1:
        raise ConfigError(
            f"init_from: '{init_from}' lists parts, and ':{whole[0]}' is not one of "
            f"{', '.join(PARTS)}"
        )
    return sources


def _split_source(source: str) -> tuple[str, str]:
    directory, colon, part = source.rpartition(":")
    if not colon or "/" in part or "\\" in part:  # the colon, if any, belongs to the path
        return source, "params"
    parts = ("params", "full", *PARTS)
    if part not in parts:
        raise ConfigError(
            f"init_from: '{source}' is not DIR[:{'|:'.join(parts)}]{nearest(part, parts)}"
        )
    return directory, part

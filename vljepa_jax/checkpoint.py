"""What a run leaves on disk, and how it is read back, without what trained it.

A run directory holds ``config.json`` (written once, before the first step) and, for every kept
step, ``checkpoints/STEP/`` with three items of an Orbax checkpoint:

    params: the parameters alone, so that inference and later stages read nothing else;
    training: step counter, optimiser state and the objective's extra state;
    progress: JSON; ``step`` is the position in the data too, because the order of examples is a
        pure function of (seed, step).

A step directory appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from vljepa_jax.buckets import commit_options
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, differences, nearest, parse
from vljepa_jax.models.parts import PARTS
from vljepa_jax.places import AnyPath, complaint, in_bucket, make_directory, place, write_text
from vljepa_jax.sharding import path_name
from vljepa_jax.train_state import TrainState

PyTree = Any

_NAMED = 8  # differences that a message lists
# Fields in which a run may differ from its beginning: they do not change what it computes.
_FREE = (
    *("sharding.", "micro_batch_size", "data.num_workers"),
    *("checkpoint.", "log_every", "on_non_finite"),
)


class CheckpointError(RuntimeError):
    """A checkpoint that is absent or does not fit; the message names it and the mend."""


def newest(run_dir: str | os.PathLike[str]) -> AnyPath | None:
    """The newest complete checkpoint of a run, or ``None``."""
    steps = _kept(run_dir)
    return directory_of(run_dir) / str(steps[-1]) if steps else None


def _kept(run_dir: str | os.PathLike[str]) -> list[int]:
    """The steps of a run's complete checkpoints, ascending."""
    directory = directory_of(run_dir)
    if not directory.exists():
        return []
    found = ocp.path.step.standard_name_format(**commit_options(directory)).find_all(directory)
    return sorted(checkpoint.step for checkpoint in found)


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
    _check(path, "params", abstract.params)
    _check(path, "training", training_of(abstract))
    restored = _read(
        path,
        params=ocp.args.StandardRestore(abstract.params),
        training=ocp.args.StandardRestore(training_of(abstract)),
        progress=ocp.args.JsonRestore(),
    )
    return TrainState(params=restored["params"], **restored["training"]), restored["progress"]


def require_empty(run_dir: AnyPath) -> None:
    """Raises CheckpointError where a checkpoint, or the config of another run, is in the way."""
    if newest(run_dir) is not None or (run_dir / "config.json").exists():
        raise CheckpointError(f"'{run_dir}' holds a run already; choose another directory")


def save_params(run_dir: AnyPath, config: TrainConfig, params: PyTree) -> None:
    """Writes a run directory that holds parameters alone, as those of step 0.

    Such a directory can be started from (``init_from``) and loaded, but not continued.

    Args:
        params: nested dict of jax arrays (or numpy, of which Orbax makes a copy).

    Raises:
        CheckpointError: ``run_dir`` holds a run.
    """
    require_empty(run_dir)
    claim(run_dir, config)
    path = directory_of(run_dir) / "0"
    with _checkpointer(path) as checkpointer:
        checkpointer.save(path, ocp.args.Composite(params=ocp.args.StandardSave(params)))


def restore_params(path: AnyPath, abstract: PyTree) -> PyTree:
    """The parameters alone, laid out as ``abstract`` says; raises as ``restore``."""
    _check(path, "params", abstract)
    return _read(path, params=ocp.args.StandardRestore(abstract))["params"]


def read_params(path: AnyPath) -> PyTree:
    """The parameters as numpy arrays, in whatever tree they were saved."""
    as_numpy = _numpy_arrays(_saved_tree(path, "params"))
    return _read(path, params=ocp.args.PyTreeRestore(restore_args=as_numpy))["params"]


def read_extra(directory: str | os.PathLike[str], *, step: int | None = None) -> PyTree:
    """The objective's extra state as numpy arrays; {} if none. ``step``: see ``load_params``."""
    path = _require(directory, step)
    saved = _saved_extra(path)
    return _read_part(path, "training", ("extra",), saved, _numpy_arrays) if saved else {}


def _saved_extra(path: AnyPath) -> PyTree:
    return _saved_tree(path, "training")["extra"] if (path / "training").is_dir() else {}


def _read_part(
    path: AnyPath,
    item: str,
    where: tuple[str, ...],
    wanted: PyTree,
    restore_args: Callable[[PyTree], PyTree],
) -> PyTree:
    """Reads the subtree ``wanted``, which hangs at ``where`` in an item, and nothing else."""
    for name in reversed(where):
        wanted = {name: wanted}
    args = ocp.args.PyTreeRestore(wanted, restore_args=restore_args(wanted), partial_restore=True)
    read = _read(path, **{item: args})[item]
    for name in where:
        read = read[name]
    return read


def _numpy_arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)


def directory_of(run_dir: str | os.PathLike[str]) -> AnyPath:
    """Where a run's checkpoints lie, one directory a step."""
    run_dir = place(run_dir)
    return (run_dir if in_bucket(run_dir) else run_dir.absolute()) / "checkpoints"


def training_of(state: TrainState) -> dict[str, Any]:
    """What is saved beside the parameters."""
    return {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}


def _read(path: AnyPath, **items: ocp.args.CheckpointArgs) -> Mapping[str, Any]:
    with _checkpointer(path) as checkpointer:
        return checkpointer.restore(path, ocp.args.Composite(**items))


def _checkpointer(path: AnyPath) -> ocp.Checkpointer:
    options = commit_options(path)
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**options))
    return ocp.Checkpointer(handler, **options)


def _saved_tree(path: AnyPath, item: str) -> PyTree:
    return ocp.StandardCheckpointHandler().metadata(path / item).tree


def _check(path: AnyPath, item: str, abstract: PyTree) -> None:
    _raise_differences(path, item, _saved_tree(path, item), abstract)


def _raise_differences(path: AnyPath, item: str, saved: PyTree, wanted: PyTree) -> None:
    faults = tree_differences(saved, wanted)
    if faults:
        more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise CheckpointError(
            f"'{path}' does not fit this config ({item}):\n  " + "\n  ".join(faults[:_NAMED]) + more
        )


def tree_differences(saved: PyTree, wanted: PyTree) -> list[str]:
    """Names the leaves in which two trees of arrays, or of shapes and dtypes, differ.

    Floating-point numbers of different precision are no difference.
    """

    def leaves(tree):
        return {
            path_name(path): (tuple(leaf.shape), np.dtype(leaf.dtype))
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    def same(one, other):
        if one is None or other is None:
            return False
        (shape, dtype), (other_shape, other_dtype) = one, other
        both_floating = all(jnp.issubdtype(kind, jnp.floating) for kind in (dtype, other_dtype))
        return shape == other_shape and (dtype == other_dtype or both_floating)

    old, new = leaves(saved), leaves(wanted)

    def described(name, tree):
        return f"{tree[name][1]}{list(tree[name][0])}" if name in tree else "absent"

    return [
        f"{name}: {described(name, old)} in the checkpoint, {described(name, new)} here"
        for name in sorted(old.keys() | new.keys())
        if not same(old.get(name), new.get(name))
    ]


def claim(workdir: AnyPath, config: TrainConfig) -> None:
    """Makes ``workdir`` this run's by writing ``config.json``; raises as ``check_config``."""
    check_config(workdir, config)
    path = workdir / "config.json"
    if not path.exists():
        make_directory(workdir)
        write_text(path, json.dumps(as_dict(config), indent=2) + "\n")


def check_config(workdir: AnyPath, config: TrainConfig) -> None:
    """Compares with the ``config.json`` in ``workdir``, if there is one.

    What does not change the computation may differ: the mesh, micro-batches, workers, and when is
    logged, saved and stopped.

    Raises:
        ConfigError: another run's config is there; the message names the differing fields.
        CheckpointError: ``workdir`` lies in a bucket that cannot be read.
    """
    _check_reachable(workdir)
    path = workdir / "config.json"
    if not path.exists():
        return
    faults = differences(json.loads(path.read_text()), json.loads(json.dumps(as_dict(config))))
    faults = [fault for fault in faults if not fault.startswith(_FREE)]
    if faults:
        raise ConfigError(
            f"'{workdir}' holds a run with another config (saved -> now):\n  "
            + "\n  ".join(faults)
            + "\nTake the saved values, or another --workdir."
        )


def load_config(directory: str | os.PathLike[str]) -> TrainConfig:
    """The config of a run directory.

    Raises:
        CheckpointError: the directory is not a run's, or lies in a bucket that cannot be read.
    """
    _check_reachable(directory)
    path = place(directory) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"'{directory}' is not a run directory: it has no config.json")
    return parse(TrainConfig, json.loads(path.read_text()))


def _check_reachable(directory: str | os.PathLike[str]) -> None:
    if in_bucket(directory) and (reason := complaint(place(directory))):
        raise CheckpointError(
            f"'{directory}' cannot be read: {reason}; look at its name and at the credentials "
            "(gs://: gcloud auth application-default login; s3://: AWS_ACCESS_KEY_ID, AWS_PROFILE)"
        )


def load_params(
    directory: str | os.PathLike[str], *, step: int | None = None
) -> tuple[TrainConfig, PyTree]:
    """The config and the parameters of a run directory, as numpy arrays.

    Args:
        step: of the checkpoint, one of those that are kept; ``None`` for the newest.

    Raises:
        CheckpointError: the directory is no run's, or holds no complete checkpoint (of ``step``).
    """
    return load_config(directory), read_params(_require(directory, step))


def load_teacher_params(
    directory: str | os.PathLike[str], *, step: int | None = None
) -> tuple[TrainConfig, PyTree]:
    """As ``load_params``, with the averaged teacher in the place of what it is the average of.

    V-JEPA 2 takes the teacher of its pretraining as its encoder.
    """
    config, params = load_params(directory, step=step)
    return config, {**params, **read_extra(directory, step=step).get("teacher", {})}


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
    path = _require(directory)
    if part == "full":
        return restore(path, abstract)[0]
    _check(path, "params", abstract.params)
    params = restore_params(path, abstract.params)
    saved = _saved_extra(path)
    if jax.tree.leaves(abstract.extra) and saved and not tree_differences(saved, abstract.extra):
        restore_args = ocp.checkpoint_utils.construct_restore_args
        extra = _read_part(path, "training", ("extra",), abstract.extra, restore_args)
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
        path = _require(directory)
        wanted = {name: abstract.params[name] for name in PARTS[part] if name in abstract.params}
        if not wanted:
            raise ConfigError(f"init_from: the model of this config has no {part}")
        if twice := taken & wanted.keys():
            raise ConfigError(f"init_from: {', '.join(sorted(twice))} would come from two runs")
        taken |= wanted.keys()
        item, saved, where = "params", _saved_tree(path, "params"), ()
        if (teacher := _saved_extra(path).get("teacher", {})) and wanted.keys() <= teacher.keys():
            item, saved, where = "training", teacher, ("extra", "teacher")
        _raise_differences(path, item, {n: saved[n] for n in wanted if n in saved}, wanted)
        reads.append((path, item, where, wanted))
    fresh = make_fresh(parts=[name for name in abstract.params if name not in taken])
    params = dict(fresh.params)
    for read in reads:
        params |= _read_part(*read, ocp.checkpoint_utils.construct_restore_args)
    return fresh.replace(params=params, extra=make_extra(params))


def _require(directory: str | os.PathLike[str], step: int | None = None) -> AnyPath:
    kept = _kept(directory)
    if not kept:
        raise CheckpointError(f"'{directory}' holds no complete checkpoint")
    if step is not None and step not in kept:
        raise CheckpointError(
            f"'{directory}' holds no checkpoint of step {step}, only of {', '.join(map(str, kept))}"
        )
    return directory_of(directory) / str(kept[-1] if step is None else step)


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

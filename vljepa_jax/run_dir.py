"""The directory of a run: its files, read without the trainer that wrote them.

A run directory holds ``config.json`` (written once, before the first step) and, for every kept
step, ``checkpoints/STEP/`` with three items of an Orbax checkpoint:

    params: the parameters alone, so that inference and later stages read nothing else;
    training: step counter, optimiser state and the objective's extra state;
    progress: JSON; ``step`` is the position in the data too, because the order of examples is a
        pure function of (seed, step).

Beside them, ``tokenizers/`` holds the tokenizer.json of each field of ``data.text`` that names a
file, so that a run can be moved.

A step directory appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from vljepa_jax.buckets import commit_options
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, differences
from vljepa_jax.config.saved import in_present_form, read_saved
from vljepa_jax.data.records import shown
from vljepa_jax.data.tokenizer_files import tokenizer_file
from vljepa_jax.data.tokenizers import (
    WORLD_TOKENIZER,
    named_tokenizers,
    with_tokenizers,
)
from vljepa_jax.json_text import JSONError, parse_json, read_json
from vljepa_jax.parallel.sharding import path_name
from vljepa_jax.places import (
    AnyPath,
    complaint,
    in_bucket,
    make_directory,
    place,
    write_bytes,
    write_text,
)

PyTree = Any

_TOKENIZERS = "tokenizers"
_NAMED = 8  # differences that a message lists
# Fields in which a run may differ from its beginning: they do not change what it computes.
CHANGES_NO_RESULT = (
    *("sharding.", "micro_batch_size", "data.num_workers"),
    *("checkpoint.", "evaluations", "log_every", "on_non_finite"),
)


class CheckpointError(RuntimeError):
    """A checkpoint that is absent or does not fit; the message names it and the mend."""


def newest(run_dir: str | os.PathLike[str]) -> AnyPath | None:
    """The newest complete checkpoint of a run, or ``None``."""
    steps = kept_steps(run_dir)
    return directory_of(run_dir) / str(steps[-1]) if steps else None


def kept_steps(run_dir: str | os.PathLike[str]) -> list[int]:
    """The steps of a run's complete checkpoints, ascending."""
    directory = directory_of(run_dir)
    if not directory.exists():
        return []
    found = ocp.path.step.standard_name_format(**commit_options(directory)).find_all(directory)
    return sorted(checkpoint.step for checkpoint in found)


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
    check_tree(path, "params", abstract)
    return read(path, params=ocp.args.StandardRestore(abstract))["params"]


def read_params(path: AnyPath) -> PyTree:
    """The parameters as numpy arrays, in whatever tree they were saved."""
    as_numpy = _numpy_arrays(saved_tree(path, "params"))
    return read(path, params=ocp.args.PyTreeRestore(restore_args=as_numpy))["params"]


def read_extra(directory: str | os.PathLike[str], *, step: int | None = None) -> PyTree:
    """The objective's extra state as numpy arrays; {} if none. ``step``: see ``load_params``."""
    path = require(directory, step)
    saved = saved_extra(path)
    return read_subtree(path, "training", ("extra",), saved, _numpy_arrays) if saved else {}


def saved_extra(path: AnyPath) -> PyTree:
    return saved_tree(path, "training")["extra"] if (path / "training").is_dir() else {}


def read_subtree(
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
    subtree = read(path, **{item: args})[item]
    for name in where:
        subtree = subtree[name]
    return subtree


def _numpy_arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)


def directory_of(run_dir: str | os.PathLike[str]) -> AnyPath:
    """Where a run's checkpoints lie, one directory a step."""
    run_dir = place(run_dir)
    return (run_dir if in_bucket(run_dir) else run_dir.absolute()) / "checkpoints"


def read(path: AnyPath, **items: ocp.args.CheckpointArgs) -> Mapping[str, Any]:
    with _explained(path), _checkpointer(path) as checkpointer:
        return checkpointer.restore(path, ocp.args.Composite(**items))


@contextlib.contextmanager
def _explained(path: AnyPath) -> Iterator[None]:
    """Around calls of Orbax alone, which raises nearly any kind of error on damaged files.

    It leaves at the first one, and closes its event loop on reads that are still under way. What
    TensorStore's threads then have to tell that loop is kept back, also later.
    """
    hook = sys.unraisablehook
    if getattr(hook, "func", None) is not _without_late_reads:
        sys.unraisablehook = functools.partial(_without_late_reads, hook)
    try:
        yield
    except Exception as error:
        reason = shown(str(error).strip().partition("\n")[0])
        raise CheckpointError(
            f"'{path}' cannot be read ({type(error).__name__}: {reason}): it is damaged. Copy it "
            "anew, or remove it: the newest one that is left is taken"
        ) from error
    else:
        sys.unraisablehook = hook


def _without_late_reads(hook: Callable[[Any], Any], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def _checkpointer(path: AnyPath) -> ocp.Checkpointer:
    options = commit_options(path)
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**options))
    return ocp.Checkpointer(handler, **options)


def saved_tree(path: AnyPath, item: str) -> PyTree:
    with _explained(path):
        return ocp.StandardCheckpointHandler().metadata(path / item).tree


def check_tree(path: AnyPath, item: str, abstract: PyTree) -> None:
    raise_differences(path, item, saved_tree(path, item), abstract)


def raise_differences(path: AnyPath, item: str, saved: PyTree, wanted: PyTree) -> None:
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
        _keep_tokenizers(workdir, config)
        write_text(path, json.dumps(as_dict(config), indent=2) + "\n")


def _keep_tokenizers(workdir: AnyPath, config: TrainConfig) -> None:
    """Copies the tokenizers that are files; training refuses a config whose files are not there."""
    for field, path in _tokenizer_files(config).items():
        make_directory(workdir / _TOKENIZERS)
        write_bytes(_kept_tokenizer(workdir, field), tokenizer_file(path))


def _tokenizer_files(config: TrainConfig) -> dict[str, AnyPath]:
    """Those that a config names by a path, and not by the name of one in the package."""
    named = named_tokenizers(config.data.text)
    paths = {field: place(name) for field, name in named.items() if name != WORLD_TOKENIZER}
    return {field: path for field, path in paths.items() if path.is_file()}


def _kept_tokenizer(workdir: AnyPath, field: str) -> AnyPath:
    return workdir / _TOKENIZERS / f"{field}.json"


def check_config(workdir: AnyPath, config: TrainConfig) -> None:
    """Compares with the ``config.json`` in ``workdir``, if there is one.

    What does not change the computation may differ: the mesh, micro-batches, workers, and when is
    logged, saved and stopped. Tokenizers that the run holds are compared by their content, so that
    it goes on where the files that it began with are gone.

    Raises:
        ConfigError: another run's config is there; the message names the differing fields, or the
            tokenizer.
        CheckpointError: ``workdir`` lies in a bucket that cannot be read.
    """
    check_reachable(workdir)
    path = workdir / "config.json"
    if not path.exists():
        return
    held = []
    for field, file in _tokenizer_files(config).items():
        kept = _kept_tokenizer(workdir, field)
        if kept.is_file():
            if kept.read_bytes() != tokenizer_file(file):
                raise ConfigError(
                    f"data.text.{field}: '{file}' is not the tokenizer that this run began with; "
                    f"name '{kept}', or take another --workdir"
                )
            held.append(f"data.text.{field}:")
    try:
        saved = in_present_form(TrainConfig, read_json(path, dict))
    except JSONError as error:
        raise ConfigError(f"{error}; mend it, or take another --workdir") from error
    faults = differences(saved, json.loads(json.dumps(as_dict(config))))
    faults = [fault for fault in faults if not fault.startswith((*CHANGES_NO_RESULT, *held))]
    if faults:
        raise ConfigError(
            f"'{workdir}' holds a run with another config (saved -> now):\n  "
            + "\n  ".join(faults)
            + "\nTake the saved values, or another --workdir."
        )


def load_config(directory: str | os.PathLike[str]) -> TrainConfig:
    """The config of a run directory; its tokenizers are those that lie there.

    Raises:
        CheckpointError: the directory is not a run's, or lies in a bucket that cannot be read.
    """
    check_reachable(directory)
    path = place(directory) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"'{directory}' is not a run directory: it has no config.json")
    config = read_saved(path)
    kept = {
        field: os.fspath(there)
        for field in named_tokenizers(config.data.text)
        if (there := _kept_tokenizer(place(directory), field)).is_file()
    }
    text = with_tokenizers(config.data.text, kept)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text=text))


def read_summary(run_dir: AnyPath) -> dict[str, Any]:
    """The values of a run's ``train.json``; empty before its end.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = run_dir / "train.json"
    try:
        return read_json(path, dict) if path.is_file() else {}
    except JSONError as error:
        raise CheckpointError(f"{error}; remove it, and the run counts as unfinished") from error


def read_metrics(run_dir: AnyPath) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``, without a last line that a killed process left unfinished.

    Raises:
        CheckpointError: another line is damaged.
    """
    path = run_dir / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            continue
        try:
            row = parse_json(line)
        except JSONError as error:
            raise CheckpointError(f"{path}, line {number}: {error}; delete the line") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise CheckpointError(f"{path}, line {number}: tells of no step; delete the line")
        rows.append(row)
    return rows


def check_reachable(directory: str | os.PathLike[str]) -> None:
    """Raises CheckpointError where a directory in a bucket cannot be read."""
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
    return load_config(directory), read_params(require(directory, step))


def load_teacher_params(
    directory: str | os.PathLike[str], *, step: int | None = None
) -> tuple[TrainConfig, PyTree]:
    """As ``load_params``, with the averaged teacher in the place of what it is the average of.

    V-JEPA 2 takes the teacher of its pretraining as its encoder.
    """
    config, params = load_params(directory, step=step)
    return config, {**params, **read_extra(directory, step=step).get("teacher", {})}


def require(directory: str | os.PathLike[str], step: int | None = None) -> AnyPath:
    kept = kept_steps(directory)
    if not kept:
        raise CheckpointError(f"'{directory}' holds no complete checkpoint")
    if step is not None and step not in kept:
        raise CheckpointError(
            f"'{directory}' holds no checkpoint of step {step}, only of {', '.join(map(str, kept))}"
        )
    return directory_of(directory) / str(kept[-1] if step is None else step)

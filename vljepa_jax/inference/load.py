"""``load``: from a directory to the embedder that it holds."""

from __future__ import annotations

import dataclasses
import os
import pkgutil
import warnings
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh

from vljepa_jax.convert.dual_encoders import is_dual_encoder
from vljepa_jax.convert.exported import is_exported
from vljepa_jax.inference.calibration import FILE, read_calibration
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.places import AnyPath, in_bucket, place
from vljepa_jax.run_dir import CheckpointError, check_reachable


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of directory that an embedder is loaded from.

    Attributes:
        looked_for: what such a directory holds, for the error that names all formats.
        recognises: whether a directory is of this kind, by a look at it.
        loader: "module:function", called with the path and the keywords of ``load``; it raises
            ConfigError for those that make no sense to it.
    """

    looked_for: str
    recognises: Callable[[AnyPath], bool]
    loader: str


def _is_published(path: AnyPath) -> bool:
    return not in_bucket(path) and is_dual_encoder(Path(path))


def _is_run(path: AnyPath) -> bool:
    config = path / "config.json"
    if not config.is_file():
        return False
    try:
        return "objective" in read_json(config, dict)
    except JSONError as error:
        raise CheckpointError(str(error)) from error


# The first that recognises a directory loads it. A new implementation adds a row.
FORMATS = (
    Format(
        "an exported model, as launch/convert.py --export writes it",
        is_exported,
        "vljepa_jax.inference.model:load_export",
    ),
    Format(
        "a training run, with the config.json that launch/train.py or launch/convert.py wrote",
        _is_run,
        "vljepa_jax.inference.model:load_run",
    ),
    Format(
        "published weights of CLIP, SigLIP 2 or PE-Core, with config.json or open_clip_config.json",
        _is_published,
        "vljepa_jax.inference.dual_encoder:load_published",
    ),
)


def load(
    path: str | os.PathLike,
    *,
    step: int | None = None,
    y_decoder: str | os.PathLike | None = None,
    frames: int = 0,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> Embedder:
    """The embedder in a directory, whatever kind of directory it is (``FORMATS``).

    Args:
        path: e.g. what ``launch/train.py`` was given as ``--workdir``.
        step: of a run's checkpoint, one of those that are kept; ``None`` for the newest.
        y_decoder: the run of its Y-Decoder; by default ``path``/y_decoder, where there is one, for
            the newest checkpoint, and none for an earlier one.
        frames: frames taken of a video; 0 as trained, or as its publisher evaluates it.
        batch_size: inputs embedded at once; the memory it takes grows with it.
        mesh: what the model runs on (``sharding.make_mesh``), the inputs divided over it and the
            parameters whole on each device; by default all devices of this process.

    Raises:
        CheckpointError: the directory holds nothing that can be loaded, no complete checkpoint, or
            an exported model or published weights that lack something.
        ConfigError: a run trained no model that embeds, or the Y-Decoder is another model's.
        CalibrationError: its calibration is damaged.
        TokenizerError: a tokenizer is missing, as a run of before names it and does not hold it.
    """
    check_reachable(path)
    directory = place(path)
    for kind in FORMATS:
        if kind.recognises(directory):
            loader = pkgutil.resolve_name(kind.loader)
            model = loader(
                path,
                step=step,
                y_decoder=y_decoder,
                frames=frames,
                batch_size=batch_size,
                mesh=mesh,
            )
            _calibrate(model, directory / FILE)
            return model
    looked_for = "\n  ".join(kind.looked_for for kind in FORMATS)
    raise CheckpointError(
        f"'{path}' holds no model that can be loaded; looked for:\n  {looked_for}"
    )


def _calibrate(model: Embedder, path: AnyPath) -> None:
    """Gives a model its calibration, if there is one and it is of these weights."""
    calibration = read_calibration(path)
    if calibration is None:
        return
    if calibration.fingerprint != model.fingerprint:
        warnings.warn(
            f"{path} is of other weights and is not used; launch/calibrate.py makes it anew",
            stacklevel=3,
        )
        return
    model.calibration = calibration

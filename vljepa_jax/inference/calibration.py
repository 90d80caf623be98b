"""What a model knows, told from its training clips: is a clip like them, is a cosine a match?

A cosine alone does not tell that a model has never seen anything like a clip: of footage of another
kind it is as high as of its own. The mean visual token does: a Gaussian is fitted to those of
training clips, and a clip is unlike them if its Mahalanobis distance is larger than that of 95 % of
training clips that the fit has not seen (Lee et al. 2018, arXiv 1807.03888, with one class). The
covariance is shrunk as far as its number of clips asks for (OAS: Chen et al. 2010), so that fifty
clips do. A cosine is a match if it is no less than that of 95 % of pairs of these clips and their
captions. ``launch/calibrate.py`` makes it, beside the checkpoint.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from vljepa_jax.places import AnyPath, write_bytes
from vljepa_jax.run_dir import CheckpointError

FILE = "calibration.npz"
SHARE = 0.95  # of clips, and of pairs, of its own kind that a model is to accept
_FORMAT = 1


class CalibrationError(CheckpointError):
    """A calibration that cannot be made or read; the message says why, and the mend."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Measured on training clips.

    Attributes:
        fingerprint: of the model (``Embedder.fingerprint``).
        clips: how many it was measured on, fitted and held out.
        centre: mean of the mean visual tokens.
        whitening: maps a difference from it to one whose length is the clip's novelty.
        floors: least cosine of a match, by query.
    """

    fingerprint: str
    clips: int
    centre: Float[np.ndarray, " d"]
    whitening: Float[np.ndarray, "d d"]
    floors: Mapping[str, float]

    def novelty(self, tokens: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """How far mean visual tokens lie from those of training: over 1 is unlike them."""
        return np.linalg.norm((tokens - self.centre) @ self.whitening, axis=1)

    def is_match(self, query: str, cosine: float, novelty: float | None) -> bool:
        """Whether a clip like those of training is as near to a text as its own captions are.

        Args:
            query: that the clip was embedded under; of others, any cosine is enough.
            novelty: of the clip; ``None`` if not known.
        """
        return (novelty is None or novelty <= 1) and cosine >= self.floors.get(query, -1.0)

    def save(self, path: AnyPath) -> None:
        """Writes it in one stroke."""
        header = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "clips": self.clips,
            "floors": dict(self.floors),
        }
        buffer = io.BytesIO()
        arrays = {"centre": self.centre, "whitening": self.whitening}
        np.savez(buffer, header=json.dumps(header), **arrays)
        write_bytes(path, buffer.getvalue())


def calibrate(
    fingerprint: str,
    tokens: Float[np.ndarray, "n d"],
    cosines: Mapping[str, Float[np.ndarray, " m"]],
) -> Calibration:
    """Fits it to two thirds of the clips, every third one apart.

    Args:
        fingerprint: of the model.
        tokens: mean visual token of each clip.
        cosines: of clips with their captions, by the query that the clips were embedded under.

    Raises:
        CalibrationError: there are too few clips, or nothing tells one from another.
    """
    if len(tokens) < 30:
        raise CalibrationError(f"{len(tokens)} clips can be read; a calibration takes 30 or more")
    held_out = np.arange(len(tokens)) % 3 == 2
    fitted = tokens[~held_out].astype(np.float64)
    if not np.ptp(fitted, axis=0).any():
        raise CalibrationError("the clips are all the same to this model")
    centre = fitted.mean(axis=0)
    # The inverse of the covariance is W Wᵀ, and the distance the length of what W makes.
    whitening = np.linalg.cholesky(np.linalg.inv(shrunk_covariance(fitted)))
    distances = np.linalg.norm((tokens[held_out] - centre) @ whitening, axis=1)
    whitening /= np.quantile(distances, SHARE)
    floors = {query: float(np.quantile(own, 1 - SHARE)) for query, own in cosines.items()}
    return Calibration(fingerprint, len(tokens), centre, whitening, floors)


def shrunk_covariance(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """Oracle approximating shrinkage towards a multiple of the identity (Chen et al. 2010)."""
    n, d = rows.shape
    covariance = np.cov(rows.T, bias=True).reshape(d, d)
    mean = np.trace(covariance) / d
    square = np.mean(covariance**2)
    beyond = (n + 1) * (square - mean**2 / d)
    share = min((square + mean**2) / beyond, 1.0) if beyond > 0 else 1.0
    return (1 - share) * covariance + share * mean * np.eye(d)


def read_calibration(path: AnyPath) -> Calibration | None:
    """What ``Calibration.save`` wrote; ``None`` where there is nothing.

    Raises:
        CalibrationError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            if header.pop("format") != _FORMAT:
                raise ValueError("it is of another version")
            made = Calibration(centre=arrays["centre"], whitening=arrays["whitening"], **header)
            if made.whitening.shape != 2 * made.centre.shape:
                raise ValueError("its arrays do not fit each other")
            return made
    except Exception as error:  # numpy raises nearly any kind on a damaged file
        raise CalibrationError(
            f"{path}: is no calibration ({error}); launch/calibrate.py makes it anew"
        ) from error

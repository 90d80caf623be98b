"""Losses for ablations: a pair's distance alone, or with what keeps embeddings from collapsing.

Axes: B rows of the global batch, E embedding, K directions. Embeddings are unit vectors, as
everywhere. VICReg and SIGReg ask for features of variance 1; they see the vectors times sqrt(E),
which have it when spread evenly over the sphere.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljepa_jax.losses.metrics import Metrics

_POINTS, _LIMIT = 17, 5.0  # of the integral over the characteristic function, as LeJEPA takes them


def cosine(predicted: Float[Array, "B E"], target: Float[Array, "B E"]) -> Float[Array, ""]:
    """1 - the cosine of a pair, mean over the rows. Nothing keeps it from collapsing."""
    return 1.0 - jnp.mean(jnp.sum(predicted * target, axis=-1))


def l1(predicted: Float[Array, "B E"], target: Float[Array, "B E"]) -> Float[Array, ""]:
    """The sum of absolute differences of a pair, mean over the rows."""
    return jnp.mean(jnp.sum(jnp.abs(predicted - target), axis=-1))


def l2(predicted: Float[Array, "B E"], target: Float[Array, "B E"]) -> Float[Array, ""]:
    """The squared distance of a pair, mean over the rows; of unit vectors, twice ``cosine``."""
    return jnp.mean(jnp.sum((predicted - target) ** 2, axis=-1))


def vic_reg(
    predicted: Float[Array, "B E"],
    target: Float[Array, "B E"],
    weights: tuple[float, float, float],
) -> tuple[Float[Array, ""], Metrics]:
    """Variance-invariance-covariance regularisation (Bardes et al. 2022, section 4.1).

    Invariance is the mean squared difference of features; variance the mean shortfall of their
    standard deviations below 1, averaged over the two sides; covariance the sum of squares off the
    diagonal of the features' covariances over E, summed over the two sides (as upstream's code).

    Args:
        weights: of invariance, variance and covariance; upstream's are 25, 25 and 1.

    Returns:
        The loss and, before their weights, its parts: "loss/invariance", and so on.
    """
    size = predicted.shape[-1]
    sides = [embeddings * size**0.5 for embeddings in (predicted, target)]
    variance, covariance = 0.0, 0.0
    for embeddings in sides:
        centred = embeddings - jnp.mean(embeddings, axis=0)
        matrix = _moments(centred) / (embeddings.shape[0] - 1)
        deviation = jnp.sqrt(jnp.diagonal(matrix) + 1e-4)
        variance += jnp.mean(jax.nn.relu(1.0 - deviation)) / 2
        covariance += (jnp.sum(matrix**2) - jnp.sum(jnp.diagonal(matrix) ** 2)) / size
    parts = {
        "loss/invariance": jnp.mean((sides[0] - sides[1]) ** 2),
        "loss/variance": variance,
        "loss/covariance": covariance,
    }
    loss = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    return loss, jax.lax.stop_gradient(parts)


def sig_reg(
    predicted: Float[Array, "B E"],
    target: Float[Array, "B E"],
    weight: float,
    directions: Float[Array, "E K"],
) -> tuple[Float[Array, ""], Metrics]:
    """Sketched isotropic Gaussian regularisation (LeJEPA: Balestriero & LeCun 2025, section 4).

    (1 - weight) * invariance + weight * normality: the mean squared difference of features, and
    the Epps-Pulley statistic of the projections on each direction against N(0, 1), mean over the
    directions and the two sides.

    Args:
        weight: between 0 and 1; upstream's is 0.05.
        directions: unit vectors, drawn anew at every step (``draw_directions``).

    Returns:
        The loss and, before their weights, its parts: "loss/invariance" and "loss/normality".
    """
    sides = [embeddings * predicted.shape[-1] ** 0.5 for embeddings in (predicted, target)]
    normality = sum(jnp.mean(epps_pulley(_project(side, directions))) for side in sides) / 2
    parts = {
        "loss/invariance": jnp.mean((sides[0] - sides[1]) ** 2),
        "loss/normality": normality,
    }
    loss = (1.0 - weight) * parts["loss/invariance"] + weight * normality
    return loss, jax.lax.stop_gradient(parts)


def draw_directions(rng: jax.Array, size: int, count: int) -> Float[Array, "size count"]:
    """Random unit vectors, evenly over the sphere."""
    directions = jax.random.normal(rng, (size, count))
    return directions / jnp.linalg.norm(directions, axis=0)


def epps_pulley(samples: Float[Array, "B K"]) -> Float[Array, " K"]:
    """How far the samples of each column are from N(0, 1) (Epps & Pulley 1983).

    B times the integral of |phi_B(t) - phi(t)|^2 phi(t) dt over [-5, 5] by the trapezoid rule on
    17 points, with phi_B the empirical characteristic function and phi(t) = exp(-t^2 / 2).
    """

    @jax.checkpoint  # one point's cosines and sines at a time: K of them a row
    def error(point):
        angles = samples * point
        normal = jnp.exp(-(point**2) / 2)
        real, imaginary = jnp.mean(jnp.cos(angles), axis=0), jnp.mean(jnp.sin(angles), axis=0)
        return ((real - normal) ** 2 + imaginary**2) * normal

    points = jnp.linspace(-_LIMIT, _LIMIT, _POINTS)
    return samples.shape[0] * jnp.trapezoid(jax.lax.map(error, points), points, axis=0)


def _moments(embeddings: Float[Array, "B E"]) -> Float[Array, "E E"]:
    return jnp.einsum(
        "be,bf->ef", embeddings, embeddings, precision="highest", preferred_element_type=jnp.float32
    )


def _project(embeddings: Float[Array, "B E"], directions: Float[Array, "E K"]):
    return jnp.einsum(
        "be,ek->bk", embeddings, directions, precision="highest", preferred_element_type=jnp.float32
    )

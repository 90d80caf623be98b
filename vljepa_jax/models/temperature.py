"""The learned temperature of contrastive losses."""

from __future__ import annotations

import functools
import math
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Temperature(Protocol):
    """The fields of a config that are read."""

    initial_temperature: float
    max_logit_scale: float


def learned_logit_scale(module: nn.Module, config: Temperature) -> Float[Array, ""]:
    """exp of the module's parameter "log_logit_scale", at most ``max_logit_scale``."""
    start = nn.initializers.constant(-math.log(config.initial_temperature))
    log_scale = module.param("log_logit_scale", start, (), jnp.float32)
    return jnp.exp(_ceiling(log_scale, math.log(config.max_logit_scale)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _ceiling(x, limit):
    """min(x, limit), whose gradient above the limit still leads back below it.

    The gradient of a plain minimum is zero there: a parameter that once overshot would stay.
    """
    return jnp.minimum(x, limit)


def _ceiling_forward(x, limit):
    return jnp.minimum(x, limit), x


def _ceiling_backward(limit, x, gradient):
    descends = gradient > 0  # the optimiser steps against the gradient
    return (jnp.where((x <= limit) | descends, gradient, 0.0),)


_ceiling.defvjp(_ceiling_forward, _ceiling_backward)

"""Dropout from an explicit key: no random state in the model, so none in checkpoints."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of x and scale the rest, so that the mean stays; x as it is without a key."""
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def split(key: jax.Array | None, num: int):
    """`num` keys stacked on a first axis, or None (no dropout) for no key."""
    return None if key is None else jax.random.split(key, num)


def spread(key: jax.Array | None, num: int) -> list:
    """`num` separate keys, or as many Nones."""
    return [None] * num if key is None else list(jax.random.split(key, num))

"""Dropout from an explicit key: no random state in the model, so none in checkpoints."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of x and scale the rest, so that the mean stays; x as it is without a key.

    Each 32-bit word of the generator decides on two numbers, since on a CPU the generator is what dropout
    costs. So the rate is rounded to a multiple of 2**-16, never 0 or 1; the scale is the rounded rate's.
    """
    if key is None or rate == 0:
        return x
    *rest, width = x.shape
    words = jax.random.bits(key, (*rest, -(-width // 2)), "uint32")
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rest, -1)[..., :width]
    kept = min(max(round((1 - rate) * 2**16), 1), 2**16 - 1)
    return jnp.where(halves < kept, x * (2**16 / kept), 0)


def layer_drop(
    layer: Callable[[jax.Array], jax.Array], x: jax.Array, rate: float, key: jax.Array | None
) -> jax.Array:
    """layer(x), or with a chance of `rate` x itself: LayerDrop (Fan et al. 2019).

    One draw for the whole batch, so that a layer left out is not computed, forwards or backwards; its
    gradient is zero. All that is left of it, where nothing is recomputed, is zeros written in place of what a
    layer saves for its gradient. What is kept is not scaled, as in BART's published code. Without a key it is
    layer(x).
    """
    if key is None or rate == 0:
        return layer(x)
    return jax.lax.cond(jax.random.bernoulli(key, rate), lambda x: x, layer, x)


def split(key: jax.Array | None, num: int):
    """`num` keys stacked on a first axis, or None (no dropout) for no key."""
    return None if key is None else jax.random.split(key, num)


def spread(key: jax.Array | None, num: int) -> list:
    """`num` separate keys, or as many Nones."""
    return [None] * num if key is None else list(jax.random.split(key, num))
